//! The command line: words into requests to a running daemon, its answers into text.

pub(crate) mod command;
pub(crate) mod text;
pub(crate) mod top;
