//! How many addresses ports may have, and the MAC table has room for.

use config::{MacPolicy, Topology};
use flowtable::SourcePolicy;
use flowtable::mac::reserve;

/// Most addresses of one NIC with `macs: any`. The MAC table has room for all of them beside those
/// granted to others, so a port can't use up another's. Many such NICs share [`MACS_ANY_ALL`].
const MACS_ANY: u32 = 1 << 17;

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

/// Addresses that the MAC table has room for beside those that this topology grants and one for
/// each port that there may be: as many as another uplink learns, or 256 more networks.
const ROOM: usize = UPLINK_MACS as usize;

/// Addresses that the MAC table is made for at the start, with room for topologies to come; see
/// [`fits`]. `n_reserved`: ports that there may be.
pub(crate) fn n_macs(
    sources: impl Iterator<Item = SourcePolicy>,
    n_networks: usize,
    n_reserved: usize,
) -> usize {
    granted(sources, n_networks) + n_reserved + ROOM
}

/// Whether a MAC table that was made with room for `capacity` addresses has room for all that
/// another topology grants.
///
/// # Errors
/// It has not: a sentence that says what to do.
pub(crate) fn fits(
    sources: impl Iterator<Item = SourcePolicy>,
    n_networks: usize,
    capacity: usize,
) -> Result<(), String> {
    match granted(sources, n_networks) {
        needed if needed > capacity => Err(format!(
            "the topology grants {needed} MAC addresses (`mac:`, `macs:`, networks, uplinks), and \
            there is room for {capacity}: restart the daemon, or grant fewer"
        )),
        _ => Ok(()),
    }
}

/// Addresses that a topology grants. `sources`: the policy of each port.
fn granted(sources: impl Iterator<Item = SourcePolicy>, n_networks: usize) -> usize {
    let of_port = |source: SourcePolicy| match source {
        SourcePolicy::Fixed(_) | SourcePolicy::Sticky => 1,
        SourcePolicy::Learn(n) => n.min(MACS_ANY),
        SourcePolicy::Any(n) => n,
    };
    let granted: usize = sources
        .map(of_port)
        .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
        .sum();
    let of_networks = n_networks * usize::try_from(reserve::ADDRESSES).unwrap_or(0);
    granted + of_networks
}

#[cfg(test)]
mod tests {
    use super::super::ports::tests::planned;
    use super::*;

    #[test]
    fn table_has_room_for_all_that_was_granted() {
        let nic = |idx: usize, macs: &str| {
            format!("      n{idx}: {{ network: a, vhost-user: {{ path: /s{idx} }}{macs} }}\n")
        };
        let nics = [
            "",
            ", mac: \"52:54:00:00:00:01\"",
            ", macs: 5000",
            ", macs: any",
            ", macs: any",
        ];
        let nics: String = nics
            .iter()
            .enumerate()
            .map(|(idx, macs)| nic(idx, macs))
            .collect();
        let text = format!(
            r"cores: [0]
uplinks: {{ up0: {{ device: eth1 }} }}
networks: {{ a: {{ uplink: up0 }} }}
vms:
  v:
    nics:
{nics}"
        );
        let topology =
            config::parse(&text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"));
        let sources: Vec<_> = planned(&topology)
            .iter()
            .map(|port| port.ingress.source)
            .collect();
        let of_uplink_and_network = (1 << 16) + usize::try_from(reserve::ADDRESSES).unwrap();
        let needed = 1 + 1 + 5000 + 2 * (1 << 17) + of_uplink_and_network;
        assert_eq!(
            n_macs(sources.iter().copied(), 1, 4096),
            needed + 4096 + ROOM
        );
        assert_eq!(fits(sources.iter().copied(), 1, needed), Ok(()));
        let refused = fits(sources.into_iter(), 1, needed - 1).unwrap_err();
        assert!(refused.contains(&needed.to_string()), "{refused}");
    }

    /// The last port that there is room for can have its address whatever those before it have.
    #[test]
    fn every_port_that_may_come_has_room_for_its_address() {
        let all = || std::iter::repeat_n(SourcePolicy::Sticky, 4096);
        let capacity = n_macs(std::iter::empty(), 0, 4096);
        assert_eq!(fits(all(), 250, capacity), Ok(()));
        let with_uplink = all().chain([SourcePolicy::Any(UPLINK_MACS)]);
        assert_eq!(fits(with_uplink, 0, capacity), Ok(()));
    }
}
