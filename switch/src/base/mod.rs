//! What every room of the daemon stands on; knows none of them.

pub(crate) mod folder;
pub(crate) mod http;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod stop;
