//! The whole daemon as a child process, with software guests on its sockets.
//!
//! - `rig`: a daemon in a folder of its own, and what is asked of it
//! - `traffic`: frames from guest to guest, and guests that come and go
//! - `front_ends`: front-ends that misbehave, or are too many
//! - `rules`: rules of the file, in force and on show
//! - `limits`: VMs that may not send or get as much as they like
//! - `life`: starting, refusing to start, ending

mod front_ends;
mod life;
mod limits;
mod rig;
mod rules;
mod traffic;
