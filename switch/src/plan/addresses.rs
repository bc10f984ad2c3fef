//! How many addresses ports may have.

use config::{MacPolicy, Topology};

/// Most addresses of one NIC with `macs: any`. The MAC table has room for all of them beside those
/// granted to others, so a port can't use up another's. Many such NICs share [`MACS_ANY_ALL`].
pub(super) const MACS_ANY: u32 = 1 << 17;

/// Most addresses of all such NICs together.
const MACS_ANY_ALL: u32 = 1 << 21;
/// Most addresses learned behind one uplink; frames from others are forwarded, too.
pub(crate) const UPLINK_MACS: u32 = 1 << 16;

/// Most addresses of each NIC with `macs: any` in this topology.
pub(super) fn any_max(topology: &Topology) -> u32 {
    let n_any = topology
        .nics()
        .filter(|(_, nic)| nic.mac == MacPolicy::Any)
        .count();
    (MACS_ANY_ALL / u32::try_from(n_any).unwrap_or(u32::MAX).max(1)).min(MACS_ANY)
}
