//! Utilities for all rooms of the daemon; imports none of them.

pub(crate) mod all;
pub(crate) mod beat;
pub(crate) mod folder;
pub(crate) mod journal;
pub(crate) mod lock;
pub(crate) mod log;
#[cfg(test)]
pub(crate) mod looks;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod stop;
pub(crate) mod tcp;
