//! The command line: words into requests to a running daemon, its answers into text.
//!
//! In reading order:
//! - `command`: words on the command line
//! - `client`: asks the daemon
//! - `text`: answers as text; `top`: as a live view; `format`: numbers and columns

pub(crate) mod client;
pub(crate) mod command;
mod format;
mod text;
pub(crate) mod top;
