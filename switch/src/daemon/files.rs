//! The limits of open files and of mappings.

use tracing::warn;

use crate::plan::ports::{PortKind, PortSpec};

/// Files open with any topology, operators' connections among them.
const FILES_BASE: u64 = 128;

/// Raises the limit of open files, and warns if guests may need more of them, or more mappings.
pub(super) fn provide_files(ports: &[PortSpec]) {
    let in_force = pmd::sys::raise_open_files();
    let needed = files_needed(ports);
    if in_force < needed {
        warn!(
            "with all guests connected up to {needed} files are open, but {in_force} are allowed: \
            raise the limit (LimitNOFILE= of the service, or ulimit -n)"
        );
    }
    if let Some(needed) = pmd::shm::map_count_for(ports.len()) {
        warn!(
            "with all guests connected some may be refused memory regions: set vm.max_map_count \
            to {needed} or more"
        );
    }
}

/// For each NIC: a socket, a connection with two more handles, two for the thread that makes its
/// pages, three eventfds per queue, and the files of its memory, of which those with large pages
/// are kept open to make the pages.
fn files_needed(ports: &[PortSpec]) -> u64 {
    let n_mappings = pmd::shm::mappings_of_a_port(ports.len()) as u64;
    let of_guest = |nic: &PortSpec| match &nic.kind {
        PortKind::Socket(socket) => 2 * 3 * u64::from(socket.n_pairs) + n_mappings,
        PortKind::Device(_) => 2 * 3,
    };
    let nics = ports.iter().filter(|port| port.vm.is_some());
    FILES_BASE + nics.map(|nic| 6 + of_guest(nic)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ports::tests::planned;

    #[test]
    fn files_of_all_that_guests_may_send_are_counted() {
        let text = r"cores: [0]
networks: {a: {}}
vms:
  v:
    nics:
      n: {network: a, queues: 2, vhost-user: {path: /n}}
      m: {network: a, vhost-user: {path: /m}}
";
        let ports =
            planned(&config::parse(text, "weir.yaml").unwrap_or_else(|report| panic!("{report}")));
        // As many as a guest may have regions of large pages, whose files are kept.
        let of_memory = 256;
        assert_eq!(
            files_needed(&ports),
            FILES_BASE + (6 + 12 + of_memory) + (6 + 6 + of_memory)
        );
    }
}
