//! Shapes of the API's JSON: plain values, described in `docs/openapi.json`. From version 1 on keys
//! and values of enums may be added, never renamed or removed.
//!
//! Everywhere: units are in the keys' names, but for counts of things that a key names; `rx` and
//! `tx` are from the switch's side, `from_vm` and `to_vm` from the VM's; what is absent or zero in
//! a list of counts is left out; beside an enum that a person may want explained is its `sentence`.
//!
//! - `envelope`, `problem`: what surrounds an answer; why there is none
//! - `version`, `vm`, `port`, `device`, `network`, `mac`, `flows`, `core`, `queue`: what is
//!   reported
//! - `change`, `difference`: what a change of the topology did
//! - `counters`, `state`: parts of these; `example`: values for tests

pub(crate) mod change;
pub(crate) mod core;
pub(crate) mod counters;
pub(crate) mod device;
pub(crate) mod difference;
pub(crate) mod envelope;
#[cfg(test)]
pub(crate) mod example;
pub(crate) mod flows;
pub(crate) mod mac;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod problem;
pub(crate) mod queue;
pub(crate) mod state;
pub(crate) mod version;
pub(crate) mod vm;
