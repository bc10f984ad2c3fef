//! Reports for operators: plain values with a fixed shape in JSON.

pub(crate) mod core;
pub(crate) mod counters;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "for topologies that change while the daemon runs")
)]
pub(crate) mod difference;
pub(crate) mod flows;
pub(crate) mod mac;
pub(crate) mod port;
pub(crate) mod state;
pub(crate) mod uplink;
pub(crate) mod version;
pub(crate) mod vm;
