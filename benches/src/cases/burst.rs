//! `burst/*`, `flood/*`, `uplink/*`, `checksum/*`: whole bursts through a core's turn, in busy
//! cycles as it counts them.

use guest::flows::Vary;
use pmd::limit::{LimitOptions, QueueOptions};

use super::{Case, by_bursts};
use crate::Pair;
use crate::flood::Flood;
use crate::uplink::{Checksum, Uplink};

/// More than is ever sent here: a limit that costs what limits cost, and holds nothing back.
const AMPLE: LimitOptions = LimitOptions {
    bits_per_sec: Some(400_000_000_000),
    packets_per_sec: Some(1_000_000_000),
    burst_bytes: None,
    queue: Some(QueueOptions {
        time: 20_000_000,
        bytes_max: 1 << 23,
    }),
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        vm_to_vm("64B", 64, || Pair::new(64, 1, Vary::Ip, 52)),
        vm_to_vm("64B-limits", 64, || {
            Pair::with_limits(64, 1, Vary::Ip, 52, AMPLE)
        }),
        vm_to_vm("64B-linux", 64, || Pair::new(64, 1, Vary::Ip, 0)),
        vm_to_vm("512B", 512, || Pair::new(512, 1, Vary::Ip, 52)),
        vm_to_vm("1500B", 1500, || Pair::new(1500, 1, Vary::Ip, 52)),
        vm_to_vm("64B-1k-macs", 64, || Pair::new(64, 1000, Vary::Mac, 52)),
        vm_to_vm("64B-100k-macs", 64, || {
            Pair::new(64, 100_000, Vary::Mac, 52)
        }),
        vm_to_vm("64B-rules", 64, || Pair::with_rules(64, 1, Vary::Ip, 52)),
        vm_to_vm("64B-rules-37", 64, || {
            Pair::with_rules(64, 37, Vary::Ip, 52)
        }),
        vm_to_vm("64B-rules-1k", 64, || {
            Pair::with_rules(64, 1000, Vary::Ip, 52)
        }),
        vm_to_vm("64B-rules-100k", 64, || {
            Pair::with_rules(64, 100_000, Vary::Ip, 52)
        }),
        vm_to_vm("64B-rules-1M", 64, || {
            Pair::with_rules(64, 1_000_000, Vary::Ip, 52)
        }),
    ];
    // Cycles of a frame that is sent sixteen times.
    cases.push(Case::of_frames("flood/to-16-64B", 64, || {
        by_bursts(Flood::new(64, 16), Flood::send)
    }));
    for len in [64, 1514] {
        let make = move || by_bursts(Uplink::new(len, Checksum::Unasked), Uplink::receive);
        cases.push(Case::of_frames(
            format!("uplink/wire-to-vm-{len}B"),
            len,
            make,
        ));
        let make = move || by_bursts(Uplink::new(len, Checksum::Unasked), Uplink::send);
        cases.push(Case::of_frames(
            format!("uplink/vm-to-wire-{len}B"),
            len,
            make,
        ));
    }
    // Off a veth to a guest that takes none unfinished: what finishing costs is what these two
    // differ by.
    for (name, kind) in [
        ("finished", Checksum::Finished),
        ("partial", Checksum::Partial),
    ] {
        for len in [64, 1514] {
            let make = move || by_bursts(Uplink::new(len, kind), Uplink::receive);
            cases.push(Case::of_frames(
                format!("checksum/{name}-{len}B"),
                len,
                make,
            ));
        }
    }
    cases
}

fn vm_to_vm(name: &str, len: usize, make: impl Fn() -> Pair + 'static) -> Case {
    Case::of_frames(format!("burst/vm-to-vm-{name}"), len, move || {
        let mut pair = make();
        pair.meet_all();
        by_bursts(pair, Pair::send)
    })
}
