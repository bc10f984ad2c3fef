//! What each fuzz target does with its input. Plain functions of bytes that panic when something
//! isn't as it must be, so that libFuzzer (`fuzz_targets/`) and the ordinary tests (`tests/`) run
//! the same.
//!
//! - [`header`]: headers and decisions: nothing behind a frame's end counts, and memory of
//!   decisions changes none
//! - [`rings`]: two guests that write what they like into their memory, beside two that must not
//!   notice
//! - [`messages`]: a front-end's messages, right and wrong, with files, right and wrong
//! - [`config_text`]: the topology file
//! - `rules`: rules, and what is read of a frame for them: a part of [`header`]
//! - [`requests`]: requests on the control socket
//! - [`input`]: a program in bytes; [`replay`]: inputs that are kept, and any number of others
#![forbid(unsafe_code)]

pub mod config_text;
pub mod header;
pub mod input;
pub mod messages;
pub mod replay;
pub mod requests;
pub mod rings;
mod rules;
