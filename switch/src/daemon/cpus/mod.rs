//! CPUs: which ones cores poll on, and where all other threads run.

pub(crate) mod choose;
mod host;
mod list;
