//! Reports for operators: plain values with a fixed shape in JSON.

pub(crate) mod core;
pub(crate) mod counters;
pub(crate) mod flows;
pub(crate) mod mac;
pub(crate) mod port;
pub(crate) mod state;
pub(crate) mod uplink;
pub(crate) mod version;
pub(crate) mod vm;
