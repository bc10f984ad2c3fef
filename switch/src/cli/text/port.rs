//! Reports as text for a terminal.

use std::fmt::Write as _;

use super::super::format::{align, limit, percent, rate};
use crate::api::core::CoreReport;
use crate::api::counters::RateReport;
use crate::api::flows::FlowsReport;
use crate::api::mac::MacReport;
use crate::api::port::{AddressReport, ConnectionReport, PortReport};
use crate::api::state::State;
use crate::api::uplink::UplinkReport;
use crate::api::vm::{LimitReport, VmReport};

/// `show ports`.
pub(crate) fn ports(ports: &[PortReport]) -> String {
    let mut rows = vec![
        ["PORT", "NETWORK", "STATE", "FROM", "TO", "DROPPED", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(ports.iter().map(|port| {
        vec![
            port.name.clone(),
            port.network.clone(),
            state(port.state).to_owned(),
            rate(port.rates.rx_pps, port.rates.rx_bps),
            rate(port.rates.tx_pps, port.rates.tx_bps),
            port.counters.dropped.to_string(),
            port.waits_for.clone().unwrap_or_default(),
        ]
    }));
    align(&rows)
}

/// `show port NAME`.
pub(crate) fn port(port: &PortReport) -> String {
    let counters = &port.counters;
    let frames = |frames: u64, bytes: u64, pps: f64, bps: f64| {
        format!("{frames} frames, {bytes} bytes, {}", rate(pps, bps))
    };
    let (from, to) = if port.connection.is_some() {
        ("from VM", "to VM")
    } else {
        ("from device", "to device")
    };
    let RateReport {
        rx_pps,
        rx_bps,
        tx_pps,
        tx_bps,
    } = port.rates;
    let mut rows = vec![
        ("port", port.name.clone()),
        ("network", port.network.clone()),
        ("state", state(port.state).to_owned()),
        (
            "waits for",
            port.waits_for
                .clone()
                .unwrap_or_else(|| "nothing".to_owned()),
        ),
        (
            from,
            frames(counters.rx_frames, counters.rx_bytes, rx_pps, rx_bps),
        ),
        (
            to,
            frames(counters.tx_frames, counters.tx_bytes, tx_pps, tx_bps),
        ),
        (
            "forwarded",
            format!(
                "{}, {} of them further copies of floods",
                counters.forwarded, counters.copies
            ),
        ),
        ("dropped", counters.dropped.to_string()),
        (
            "missed",
            format!(
                "{} frames for this port, dropped at its door",
                counters.missed
            ),
        ),
        (
            "denied",
            format!(
                "{} of these by its rules; of those it sent, {}",
                counters.refused,
                dropped(port, "denied")
            ),
        ),
        (
            "queued",
            format!(
                "{} frames that waited at a VM's limit, {} of them now",
                counters.queued, counters.held
            ),
        ),
        (
            "held turns",
            format!(
                "{}, in which frames had to stay in its ring",
                counters.held_turns
            ),
        ),
        ("faults", counters.faults.to_string()),
        ("addresses", addresses(&port.addresses)),
    ];
    rows.extend(port.connection.iter().flat_map(connection));
    rows.extend(
        port.fetched
            .iter()
            .map(|fetched| ("fetched", fetched.to_string())),
    );
    rows.extend(
        port.lost
            .iter()
            .map(|lost| ("lost", format!("{} frames: {lost}", lost.n_frames()))),
    );
    rows.extend(port.remarks.iter().map(|remark| ("remark", remark.clone())));
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    format!(
        "{}{}{}{}",
        align(&rows),
        queues(port),
        rules(port),
        drops(port)
    )
}

fn addresses(report: &AddressReport) -> String {
    let AddressReport {
        own,
        known,
        lost,
        won,
        away,
    } = report;
    let own = own
        .as_ref()
        .map(|own| format!("{own} is its own, "))
        .unwrap_or_default();
    format!(
        "{own}{known} known; to the uplink {lost} times, from there {won}, there without its port \
        {away}"
    )
}

fn connection(connection: &ConnectionReport) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        (
            "socket",
            format!("{} (made by {})", connection.path, connection.listens),
        ),
        (
            "connections",
            format!(
                "{}, and {} refused",
                connection.connects, connection.refused_connects
            ),
        ),
        (
            "features",
            connection
                .features
                .clone()
                .unwrap_or_else(|| "not chosen yet".to_owned()),
        ),
        ("protocol features", connection.protocol_features.clone()),
        (
            "memory",
            format!(
                "{} regions, {} bytes",
                connection.memory_regions, connection.memory_bytes
            ),
        ),
    ];
    rows.extend(connection.refusal.clone().map(|why| ("last refusal", why)));
    rows.extend(
        connection
            .last_closed_for
            .clone()
            .map(|why| ("last closed for", why)),
    );
    rows
}

/// Frames of the port that were dropped for a reason.
fn dropped(port: &PortReport, reason: &str) -> u64 {
    port.drops
        .iter()
        .filter(|drop| drop.reason == reason)
        .map(|drop| drop.frames)
        .sum()
}

fn rules(port: &PortReport) -> String {
    if port.rules.is_empty() {
        return String::new();
    }
    let mut rows = vec![
        ["RULE", "THE FIRST THAT FITS DECIDES, THE REST PASSES"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(
        (1..)
            .zip(&port.rules)
            .map(|(number, rule): (usize, _)| vec![number.to_string(), rule.clone()]),
    );
    format!("\n{}", align(&rows))
}

fn queues(port: &PortReport) -> String {
    // Pairs that nothing is known of say nothing.
    let known = port
        .queues
        .iter()
        .filter(|queue| queue.size.is_some() || queue.has_kick || queue.has_call);
    let mut rows: Vec<_> = known
        .map(|queue| {
            let size = queue
                .size
                .map_or_else(|| "-".to_owned(), |size| size.to_string());
            let files = match (queue.has_kick, queue.has_call) {
                (true, true) => "kick, call",
                (true, false) => "kick",
                (false, true) => "call",
                (false, false) => "polled",
            };
            vec![
                queue.index.to_string(),
                queue.direction.clone(),
                size,
                files.to_owned(),
                queue.state.clone(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.insert(
        0,
        ["QUEUE", "IS", "SIZE", "FILES", "STATE"]
            .map(str::to_owned)
            .to_vec(),
    );
    format!("\n{}", align(&rows))
}

fn drops(port: &PortReport) -> String {
    let mut rows: Vec<_> = (port.drops.iter().filter(|drop| drop.frames > 0))
        .map(|drop| {
            vec![
                drop.frames.to_string(),
                drop.reason.clone(),
                drop.sentence.clone(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.insert(0, ["DROPPED", "FOR", ""].map(str::to_owned).to_vec());
    format!("\n{}", align(&rows))
}

/// `show uplinks`.
pub(crate) fn uplinks(uplinks: &[UplinkReport]) -> String {
    if uplinks.is_empty() {
        return "no uplinks\n".to_owned();
    }
    let head = [
        "UPLINK",
        "DEVICE",
        "DRIVER",
        "STATE",
        "MODE",
        "QUEUES",
        "FROM WIRE",
        "TO WIRE",
        "DROPPED",
        "LOST",
        "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(uplinks.iter().map(|uplink| {
        let copies = if uplink.zero_copy {
            "zero-copy"
        } else {
            "copy"
        };
        vec![
            uplink.name.clone(),
            uplink.device.clone(),
            uplink.driver.clone().unwrap_or_else(|| "-".to_owned()),
            state(uplink.state).to_owned(),
            uplink
                .mode
                .as_ref()
                .map_or_else(|| "-".to_owned(), |mode| format!("{mode}, {copies}")),
            uplink.queues.to_string(),
            rate(uplink.rates.rx_pps, uplink.rates.rx_bps),
            rate(uplink.rates.tx_pps, uplink.rates.tx_bps),
            uplink.counters.dropped.to_string(),
            uplink.lost.n_frames().to_string(),
            uplink.waits_for.clone().unwrap_or_default(),
        ]
    }));
    let mut text = align(&rows);
    for uplink in uplinks {
        if uplink.lost.n_frames() > 0 {
            // Writing to a string can't fail.
            let _ = writeln!(
                text,
                "{}: lost in the kernel or at the device: {}",
                uplink.name, uplink.lost
            );
        }
        for remark in &uplink.remarks {
            let _ = writeln!(text, "{}: {remark}", uplink.name);
        }
    }
    text
}

/// `show macs`.
pub(crate) fn macs(macs: &[MacReport]) -> String {
    let mut rows = vec![
        ["MAC", "NETWORK", "PORT", "KIND", "IDLE", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(macs.iter().map(|mac| {
        let idle = mac
            .idle_s
            .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s"));
        let remark = mac.remark.clone().unwrap_or_default();
        vec![
            mac.mac.clone(),
            mac.network.clone(),
            mac.port.clone(),
            mac.kind.clone(),
            idle,
            remark,
        ]
    }));
    align(&rows)
}

/// `show flows`.
pub(crate) fn flows(report: &FlowsReport) -> String {
    let n_frames = report.front_hits + report.hits + report.misses;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let of_frames = |n: u64| match n_frames {
        0 => n.to_string(),
        all => format!("{n} ({})", percent(n as f64 / all as f64)),
    };
    let rows = [
        (
            "flows",
            format!(
                "{} of {}; {} a port when it is nearly full",
                report.used, report.capacity, report.share
            ),
        ),
        (
            "decided by what a core had at hand",
            of_frames(report.front_hits),
        ),
        ("decided by the table", of_frames(report.hits)),
        ("decided anew", of_frames(report.misses)),
        ("entered", report.inserts.to_string()),
        (
            "in place of an outdated flow",
            report.evicted_stale.to_string(),
        ),
        (
            "in place of the port's own oldest",
            report.evicted_own.to_string(),
        ),
        (
            "in place of one of a port over its share",
            report.evicted_over_share.to_string(),
        ),
        ("replaced by a new decision", report.updates.to_string()),
        ("not remembered", report.uncached.to_string()),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let mut ports = vec![vec!["PORT".to_owned(), "FLOWS".to_owned()]];
    ports.extend(
        report
            .by_port
            .iter()
            .map(|port| vec![port.port.clone(), port.flows.to_string()]),
    );
    let ports = if report.by_port.is_empty() {
        String::new()
    } else {
        format!("\n{}", align(&ports))
    };
    format!("{}{ports}", align(&rows))
}

/// `show cores`.
pub(crate) fn cores(cores: &[CoreReport]) -> String {
    let head = [
        "CPU",
        "RX QUEUES",
        "TURNS",
        "BUSY CYCLES",
        "HELD CYCLES",
        "FRAMES",
        "CYCLES/FRAME",
        "SLEEPS",
        "CPU TIME",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(cores.iter().map(|core| {
        let per_frame = core.busy_cycles.checked_div(core.rx_frames);
        vec![
            core.cpu.to_string(),
            core.rx_queues.to_string(),
            core.turns.to_string(),
            core.busy_cycles.to_string(),
            core.held_cycles.to_string(),
            core.rx_frames.to_string(),
            per_frame.map_or_else(|| "-".to_owned(), |cycles| cycles.to_string()),
            core.sleeps.to_string(),
            format!("{} ms", core.cpu_ns / 1_000_000),
        ]
    }));
    align(&rows)
}

/// `show limits`: a line for each limit.
pub(crate) fn limits(vms: &[VmReport]) -> String {
    let head = [
        "VM",
        "DIRECTION",
        "LIMIT",
        "BURST",
        "LEFT",
        "NOW",
        "HELD BACK",
        "",
        "DROPPED",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for vm in vms {
        let RateReport {
            rx_pps,
            rx_bps,
            tx_pps,
            tx_bps,
        } = vm.rates;
        if let Some(report) = vm.from_vm {
            let held = [
                format!("{} ms", vm.throttled_ns / 1_000_000),
                percent(vm.throttled),
                "-".to_owned(),
            ];
            rows.push(limit_row(
                &vm.name,
                "from VM",
                report,
                rate(rx_pps, rx_bps),
                held,
            ));
        }
        if let Some(report) = vm.to_vm {
            let [now, ring] = match report.queue {
                None => ["-".to_owned(), "-".to_owned()],
                Some(queue) => [
                    format!(
                        "{} ms, {} bytes now",
                        queue.delay_ns / 1_000_000,
                        queue.bytes
                    ),
                    format!("{} ms a ring", queue.ring_delay_ns / 1_000_000),
                ],
            };
            rows.push(limit_row(
                &vm.name,
                "to VM",
                report,
                rate(tx_pps, tx_bps),
                [now, ring, vm.limited.to_string()],
            ));
        }
    }
    if rows.len() == 1 {
        "no VM has a limit\n".to_owned()
    } else {
        align(&rows)
    }
}

fn limit_row(
    vm: &str,
    direction: &str,
    report: LimitReport,
    now: String,
    last: [String; 3],
) -> Vec<String> {
    fn both<T: ToString>(packets: Option<T>, bytes: Option<T>) -> String {
        let packets = packets.map(|n| format!("{} packets", n.to_string()));
        let bytes = bytes.map(|n| format!("{} bytes", n.to_string()));
        packets
            .into_iter()
            .chain(bytes)
            .collect::<Vec<_>>()
            .join(", ")
    }
    let burst = both(report.burst_packets, report.burst_bytes);
    let left = both(report.left_packets, report.left_bytes);
    let first = [
        vm.to_owned(),
        direction.to_owned(),
        limit(Some(report)),
        burst,
        left,
        now,
    ];
    first.into_iter().chain(last).collect()
}

/// `show cores --busy`: cycles of all cores in turns that had packets, and packets received so far.
pub(crate) fn busy(cores: &[CoreReport]) -> String {
    let cycles: u64 = cores.iter().map(|core| core.busy_cycles).sum();
    let frames: u64 = cores.iter().map(|core| core.rx_frames).sum();
    format!("{cycles} {frames}\n")
}

fn state(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Connected => "connected",
        State::Impaired => "impaired",
        State::Up => "up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::counters::CounterReport;

    #[test]
    fn device_of_a_nic_says_how_it_is_fetched_from_and_what_was_lost() {
        let port_of = |device: &str| {
            let counters = serde_json::to_string(&CounterReport::default()).unwrap();
            let json = format!(
                r#"{{ "name": "a/n", "network": "b", "state": "up", "waits_for": null, "at_ns": 0, "drops": [], "rules": [],
                    "rates": {{ "rx_pps": 0, "rx_bps": 0, "tx_pps": 0, "tx_bps": 0 }}, "counters": {counters},
                    "connection": null, "queues": [], {device} }}"#
            );
            port(&serde_json::from_str(&json).unwrap())
        };
        let text = port_of(
            r#""fetched": { "mode": "skb", "zero_copy": false, "queues": 1 }, "remarks": ["it is slower"],
               "lost": { "rx_dropped": 4, "rx_fill_ring_empty": 3, "rx_ring_full": 2 }"#,
        );
        for line in [
            "fetched      skb mode, copy, 1 queue\n",
            "6 frames: 4 no room (3 for",
            "remark       it is slower\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        let tap = port_of(r#""fetched": null, "lost": null, "remarks": []"#);
        assert!(!tap.contains("lost") && !tap.contains("fetched"), "{tap}");
    }

    #[test]
    fn limits_have_a_line_each() {
        let report = LimitReport {
            bits_per_sec: Some(1_000_000_000),
            burst_bytes: Some(500_000),
            left_bytes: Some(-1514),
            ..LimitReport::default()
        };
        let vm = VmReport {
            name: "web".into(),
            nics_up: 1,
            nics: 1,
            rates: RateReport::default(),
            from_vm: Some(report),
            to_vm: Some(LimitReport {
                packets_per_sec: Some(5000),
                ..LimitReport::default()
            }),
            throttled_ns: 1_500_000_000,
            throttled: 0.5,
            missed: 9,
            limited: 8,
            lost: 0,
            drops: Vec::new(),
        };
        let text = limits(&[vm]);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("web  from VM    1.00 Gbit/s  500000 bytes  -1514 bytes"),
            "{text}"
        );
        assert!(
            lines[1].contains("1500 ms") && lines[1].contains("50.0 %"),
            "{text}"
        );
        assert!(
            lines[2].contains("5.0 kpps") && lines[2].ends_with("8"),
            "{text}"
        );
        assert_eq!(limits(&[]), "no VM has a limit\n");
    }

    #[test]
    fn busy_is_two_numbers_over_all_cores() {
        let core = |busy_cycles, rx_frames| CoreReport {
            cpu: 0,
            rx_queues: 0,
            turns: 0,
            busy_cycles,
            held_cycles: 7,
            rx_frames,
            bursts: 0,
            sleeps: 0,
            cpu_ns: 0,
            load: crate::api::core::Load::default(),
        };
        assert_eq!(busy(&[core(100, 2), core(50, 1)]), "150 3\n");
        assert_eq!(busy(&[]), "0 0\n");
    }
}
