//! TCP off the wire to a NIC with a limit on what it gets, through the kernel's veths.

use std::sync::Arc;

use crate::hosts::{host, ping, tcp};
use crate::rig::{Daemon, folder};
use crate::space::spaces;

const LIMIT: f64 = 100e6;
/// What TCP's payload is of a full frame without FCS, on which limits are.
const PAYLOAD: f64 = 1448.0 / 1514.0;

/// Of one CUBIC stream, policed, a tenth of the rate is left: what is over the limit has to wait.
/// Rows of more rates, round trips and kinds: `./x tcp`.
#[test]
fn tcp_gets_what_a_limit_leaves_to_it() {
    let Some(spaces) = spaces(&["sw", "a", "b"]) else {
        return;
    };
    host(&spaces, "a", 1, 1);
    host(&spaces, "b", 2, 1);
    let run = |limit: &str| {
        let topology = format!(
            "cores: [CPU]\ncontrol: {{ path: DIR/control.sock }}\nuplinks: {{ wire: {{ device: \
            to-a }} }}\n\
             networks: {{ blue: {{ uplink: wire }} }}\n\
             vms: {{ b: {{ {limit}nics: {{ n: {{ network: blue, afxdp: {{ device: to-b }} }} }} }} \
             }}\n"
        );
        let mut daemon = Daemon::start_by(Arc::new(folder()), &topology, spaces.weir("sw"));
        daemon.until_state("wire", "up");
        daemon.until_state("b/n", "up");
        ping(&spaces, "a", 2, 20);
        daemon
    };
    let cubic = "-C cubic -O 1";
    let control = {
        let _daemon = run("");
        tcp(&spaces, "a", ("b", 2), 1, cubic)
    };
    if control < 1.2 * LIMIT {
        // This machine has no time for it: a stream that is no faster without a limit says nothing
        // of the limit.
        eprintln!(
            "**** NOT RUN: {:.0} Mbit/s without the limit ****",
            control / 1e6
        );
        return;
    }
    let daemon = run("limit: { to-vm: { rate: 100mbit } }, ");
    // Real time: others may take the CPU away once, or twice.
    let best = (0..3)
        .map(|_| tcp(&spaces, "a", ("b", 2), 2, cubic) / LIMIT)
        .find(|part| *part >= 0.95 * PAYLOAD);
    let counters = daemon.port("b/n")["counters"].clone();
    assert!(
        best.is_some_and(|part| part <= 1.02),
        "{best:?} of the limit: {counters}"
    );
}
