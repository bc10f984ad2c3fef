//! Reports of switches, made up.

use crate::api::counters::DropReport;
use crate::api::state::State;
use crate::page::status::{Core, Nic, Status, Uplink, Vm, Way};

/// A switch with `n` VMs, in which something of everything is to be seen.
pub(super) fn report(n: usize) -> Status {
    Status {
        version: "0.1.0".to_owned(),
        topology: 17,
        started_at: "2026-03-01T09:30:00Z".to_owned(),
        uptime_seconds: 93_784,
        at_nanoseconds: 1_000_000_000,
        vms: (0..n).map(vm).collect(),
        uplinks: vec![
            Uplink {
                name: "up0".to_owned(),
                state: State::Up,
                sentence: None,
                rx: way(4.21e9, None),
                tx: way(2.9e9, None),
                dropped_frames: 12,
                lost_frames: 0,
            },
            Uplink {
                name: "storage".to_owned(),
                state: State::Waiting,
                sentence: Some("waiting for the device eth9".to_owned()),
                rx: way(0.0, None),
                tx: way(0.0, None),
                dropped_frames: 0,
                lost_frames: 1234,
            },
        ],
        cores: vec![core(2, 0.42), core(3, 0.97), core(10, 0.08), core(11, 0.0)],
        drops: vec![
            drops("denied", 98_765),
            drops("receiver-full", 40 * n as u64),
        ],
    }
}

/// The VM of this place. Each third has no limit, each eleventh waits for its guest.
pub(super) fn vm(place: usize) -> Vm {
    let name = ["web", "database", "cache", "mail-relay-for-all-of-us"][place % 4];
    let bits = ((place * 7919) % 1000) as f64 * 1e6;
    let mut nics = vec![nic("net0", "blue", State::Up)];
    if place % 11 == 3 {
        nics[0].state = State::Waiting;
        nics[0].sentence = Some("waiting for guest".to_owned());
    }
    if place % 4 == 1 {
        nics.push(nic("net1", "red", State::Up));
    }
    let dropped_frames = if place % 13 == 2 { 40 } else { 0 };
    let drop = (dropped_frames > 0).then(|| ("receiver-full".to_owned(), dropped_frames));
    Vm {
        name: format!("{name}{place}"),
        labels: [("owner".to_owned(), format!("shop{}", place % 5))].into(),
        nics,
        from_vm: way(bits, (place % 3 != 2).then_some(1_000_000_000)),
        to_vm: Way {
            limit_packets_per_second: place.is_multiple_of(5).then_some(200_000),
            ..way(bits / 3.0, place.is_multiple_of(5).then_some(2_000_000_000))
        },
        throttled_ratio: if bits > 9.5e8 { 0.31 } else { 0.0 },
        dropped_frames,
        drops: drop.into_iter().collect(),
        missed_frames: 3,
        lost_frames: 0,
    }
}

/// A second later: all rates are others, one VM in thirteen has dropped more.
pub(super) fn goes_on(report: &mut Status) {
    report.at_nanoseconds += 1_000_000_000;
    report.uptime_seconds += 1;
    let factor = 0.9 + (report.uptime_seconds % 7) as f64 / 50.0;
    for vm in &mut report.vms {
        vm.from_vm.bits_per_second = (vm.from_vm.bits_per_second * factor).round();
        vm.to_vm.bits_per_second = (vm.to_vm.bits_per_second * factor).round();
        if vm.dropped_frames > 0 {
            vm.dropped_frames += 25;
            vm.drops
                .insert("receiver-full".to_owned(), vm.dropped_frames);
        }
    }
    report.drops[1].frames += 250;
}

pub(super) fn nic(name: &str, network: &str, state: State) -> Nic {
    Nic {
        name: name.to_owned(),
        network: network.to_owned(),
        state,
        sentence: None,
    }
}

pub(super) fn way(bits_per_second: f64, limit_bits_per_second: Option<u64>) -> Way {
    Way {
        bits_per_second,
        frames_per_second: (bits_per_second / 8000.0).round(),
        limit_bits_per_second,
        limit_packets_per_second: None,
    }
}

fn core(cpu: usize, busy_ratio: f64) -> Core {
    Core {
        cpu,
        busy_ratio,
        cpu_ratio: if busy_ratio > 0.0 { 1.0 } else { 0.001 },
        frames_per_second: busy_ratio * 3e6,
    }
}

fn drops(reason: &str, frames: u64) -> DropReport {
    DropReport {
        reason: reason.to_owned(),
        frames,
        sentence: format!("a sentence about {reason}"),
    }
}
