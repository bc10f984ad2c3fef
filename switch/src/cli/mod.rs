//! The command line: requests to a running daemon, and its answers as text.
//!
//! In reading order:
//! - `command`: commands and options
//! - `client`: requests to the daemon; `show`: answers, printed; `change`: changes of the topology
//! - `text`: reports as text; `top`: as a live view; `format`: numbers and columns

pub(crate) mod change;
mod client;
pub(crate) mod command;
mod format;
pub(crate) mod show;
mod text;
pub(crate) mod top;
