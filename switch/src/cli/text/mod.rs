//! Reports as text for a terminal.

pub(crate) mod port;
