//! Files that the daemon needs open at once.

use tracing::warn;

use crate::plan::ports::{PortKind, PortSpec};

/// Files that are open whatever the topology.
const FILES_BASE: u64 = 64;

/// Sees to it that as many files can be open as the guests may send.
pub(super) fn provide_files(ports: &[PortSpec]) {
    let in_force = pmd::sys::raise_open_files();
    let needed = files_needed(ports);
    if in_force < needed {
        warn!(
            "with all guests connected up to {needed} files are open, {in_force} are allowed: raise the limit \
             (LimitNOFILE= of the service, or ulimit -n)"
        );
    }
}

/// A socket, a connection with two more handles, two of whoever makes its pages, and three eventfds for each queue.
fn files_needed(ports: &[PortSpec]) -> u64 {
    let n_pairs = |nic: &PortSpec| match &nic.kind {
        PortKind::Socket(socket) => u64::from(socket.n_pairs),
        PortKind::Device(_) => 1,
    };
    let nics = ports.iter().filter(|port| port.vm.is_some());
    FILES_BASE + nics.map(|nic| 6 + 2 * 3 * n_pairs(nic)).sum::<u64>()
}
