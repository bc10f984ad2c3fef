//! Every system call and machine instruction that the rest of the crate needs, thinly. Safe
//! functions outside, the reason why they are safe inside.
//!
//! - [`bpf`]: the XDP program of an uplink
//! - [`xdp`]: AF_XDP sockets
//! - `tun`: taps
//! - `signal`: another's eventfd, signalled without waiting
//! - `userfault`: pages that are not there

pub mod bpf;
mod signal;
pub(crate) mod tun;
pub(crate) mod userfault;
pub mod xdp;

mod files;
pub mod link;

pub use files::*;
