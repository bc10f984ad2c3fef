//! Room in the MAC table for the addresses that ports may have.

use flowtable::SourcePolicy;
use flowtable::mac::reserve;
use hashbrown::HashMap;

use super::addresses::{MACS_ANY, UPLINK_MACS};
use super::ports::PortSpec;

/// Addresses that the MAC table has room for beside those that this topology grants and one for
/// each port that there may be: as many as another uplink learns, or 256 more networks.
const ROOM: usize = UPLINK_MACS as usize;

/// Addresses that the MAC table is made for at the start, with room for topologies to come; see
/// [`fit`]. `n_reserved`: ports that there may be.
pub(crate) fn n_macs(
    sources: impl Iterator<Item = SourcePolicy>,
    n_networks: usize,
    n_reserved: usize,
) -> usize {
    granted(sources, n_networks) + n_reserved + ROOM
}

/// Fewest addresses of a port that may have any and comes while the daemon runs.
const PART_MIN: usize = 256;

/// Lets what a topology grants fit into a MAC table that was made with room for `capacity`
/// addresses: ports that may have any address and are new get no more than half of what is left.
/// `before`: the ports that there are, whose parts stay.
///
/// # Errors
/// It doesn't fit: a sentence that says what to do.
pub(crate) fn fit(
    ports: &mut [PortSpec],
    before: &[PortSpec],
    n_networks: usize,
    capacity: usize,
) -> Result<(), String> {
    let parts: HashMap<_, _> = before.iter().filter_map(PortSpec::part).collect();
    let (mut new, mut sources) = (Vec::new(), Vec::with_capacity(ports.len()));
    for port in ports {
        let running = parts.get(port.name.as_str()).copied();
        match (port.ingress.source, running) {
            (SourcePolicy::Any(_), Some(running)) => {
                port.ingress.source = SourcePolicy::Any(running);
                sources.push(port.ingress.source);
            }
            (SourcePolicy::Any(_), None) => new.push(&mut port.ingress.source),
            (source, _) => sources.push(source),
        }
    }
    let granted = granted(sources.into_iter(), n_networks);
    fits(granted + new.len() * 2 * PART_MIN, capacity)?;
    if let Some(most) = (capacity - granted).checked_div(2 * new.len()) {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        for source in new {
            if let SourcePolicy::Any(part) = source {
                *part = (*part).min(most);
            }
        }
    }
    Ok(())
}

/// Whether there is room for `granted` addresses.
fn fits(granted: usize, capacity: usize) -> Result<(), String> {
    if granted <= capacity {
        return Ok(());
    }
    Err(format!(
        "the topology grants {granted} MAC addresses (`mac:`, `macs:`, networks, uplinks), and \
        there is room for {capacity}: restart the daemon, or grant fewer"
    ))
}

/// Whether the MAC table of a daemon that starts has room for all that its topology grants.
///
/// # Errors
/// It has not: a sentence that says what to do.
pub(crate) fn fits_at_start(
    sources: impl Iterator<Item = SourcePolicy>,
    n_networks: usize,
    capacity: usize,
) -> Result<(), String> {
    fits(granted(sources, n_networks), capacity)
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
    }

    /// The ports of a topology, whose `nics` are those of VM `v`.
    fn ports(nics: &[(usize, &str)], uplinks: &str) -> Vec<PortSpec> {
        let nic = |(idx, macs): &(usize, &str)| {
            format!("n{idx}: {{ network: a, vhost-user: {{ path: /s{idx} }}, {macs} }}")
        };
        let nics: Vec<_> = nics.iter().map(nic).collect();
        let text = format!(
            "cores: [0]\nuplinks: {{ {uplinks} }}\nnetworks: {{ a: {{}} }}\nvms: {{ v: {{ nics: {{ \
            {} }} }} }}\n",
            nics.join(", ")
        );
        let topology =
            config::parse(&text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"));
        planned(&topology)
    }

    fn part(ports: &[PortSpec], name: &str) -> u32 {
        let port = ports.iter().find(|port| port.name == name).unwrap();
        port.part().unwrap().1
    }

    #[test]
    fn ports_that_come_may_have_any_address_as_long_as_there_is_room() {
        let mut running = ports(&[(0, "macs: 1"), (1, "macs: any")], "");
        let sources = running.iter().map(|port| port.ingress.source);
        let capacity = n_macs(sources, 1, 4096);
        let mut n_added = 0;
        let refused = loop {
            let added: Vec<_> = (0..n_added + 3).map(|idx| (idx, "macs: any")).collect();
            let nics = [&[(0, "macs: 1")][..], &added[1..]].concat();
            let mut next = ports(&nics, "");
            if let Err(refused) = fit(&mut next, &running, 1, capacity) {
                break refused;
            }
            let sources = next.iter().map(|port| port.ingress.source);
            assert!(granted(sources, 1) <= capacity);
            assert_eq!(part(&next, "v/n1"), MACS_ANY, "who is there keeps its part");
            assert!(part(&next, &format!("v/n{}", n_added + 2)) >= 256);
            running = next;
            n_added += 1;
        };
        assert!(n_added >= 7, "{n_added}");
        assert!(
            refused.contains(&format!("room for {capacity}: restart")),
            "{refused}"
        );
        // Whoever leaves makes room.
        let mut next = ports(&[(0, "macs: 1"), (1, "macs: any"), (99, "macs: any")], "");
        assert_eq!(fit(&mut next, &running[..2], 1, capacity), Ok(()));
        assert!(part(&next, "v/n99") > 30_000);
    }

    #[test]
    fn addresses_that_are_counted_are_granted_whole_or_refused() {
        let running = ports(&[(0, "macs: 1")], "");
        let sources = running.iter().map(|port| port.ingress.source);
        let capacity = n_macs(sources, 1, 4096);
        let with = |macs: &str| {
            let mut next = ports(&[(0, macs), (1, "macs: 40000")], "");
            fit(&mut next, &running, 1, capacity)
        };
        assert_eq!(with("macs: 20000"), Ok(()));
        assert!(
            with("macs: 60000")
                .unwrap_err()
                .contains("grants 100256 MAC")
        );
        let mut with_uplink = ports(&[(0, "macs: 1")], "up0: { device: eth1 }");
        assert_eq!(fit(&mut with_uplink, &running, 1, capacity), Ok(()));
    }

    /// The last port that there is room for can have its address whatever those before it have.
    #[test]
    fn every_port_that_may_come_has_room_for_its_address() {
        let all = std::iter::repeat_n(SourcePolicy::Sticky, 4096);
        assert!(granted(all, 250) <= n_macs(std::iter::empty(), 0, 4096));
    }
}
