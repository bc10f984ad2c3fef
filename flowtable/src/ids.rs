//! Ids that the whole switch uses. Control assigns them; cores index by them.

/// A port of the switch: its place in every per-port table.
pub type PortId = u16;
/// A network: its place in [`crate::Networks`].
pub type NetworkId = u16;
/// What an uplink carries: its place in [`crate::Networks`].
pub type TrunkId = u16;
