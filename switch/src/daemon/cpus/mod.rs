//! CPUs of the polling cores and of all other threads.

pub(crate) mod choose;
mod host;
mod list;
mod others;
