//! `show ports` and `show port NAME`.

use super::state::state;
use crate::api::counters::RateReport;
use crate::api::port::{AddressReport, ConnectionReport, PortReport};
use crate::cli::format::{align, rate};

/// `show ports`.
pub(crate) fn ports(ports: &[PortReport]) -> String {
    let mut rows = vec![
        ["PORT", "NETWORK", "STATE", "RX", "TX", "DROPPED", ""]
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
        ("rx (from-vm)", "tx (to-vm)")
    } else {
        ("rx", "tx")
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
                "{}, {} of them extra copies of floods",
                counters.forwarded, counters.copies
            ),
        ),
        ("dropped", counters.dropped.to_string()),
        (
            "missed",
            format!(
                "{} frames dropped before delivery to this port",
                counters.missed
            ),
        ),
        (
            "denied",
            format!(
                "{} of those missed, by its rules; {} of those it sent",
                counters.refused,
                dropped(port, "denied")
            ),
        ),
        (
            "queued",
            format!(
                "{} frames queued at a VM's `to-vm` limit, {} of them now",
                counters.queued, counters.held
            ),
        ),
        (
            "held turns",
            format!(
                "{}, in which frames stayed in its ring",
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
            .map(|fetched| ("XDP", fetched.to_string())),
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
        .map(|own| format!("own {own}, "))
        .unwrap_or_default();
    format!(
        "{own}{known} in the MAC table; {lost} moved to the uplink, {won} taken from it, {away} \
        used there while the port was not started"
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
        ["RULE", "THE FIRST MATCH DECIDES; NO MATCH PASSES"]
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
    // Queues that the front-end has not touched are left out.
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
        ["QUEUE", "DIR", "SIZE", "EVENTFDS", "STATE"]
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
    rows.insert(0, ["DROPPED", "REASON", ""].map(str::to_owned).to_vec());
    format!("\n{}", align(&rows))
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
                r#"{{
                    "name": "a/n", "network": "b", "state": "up", "waits_for": null,
                    "at_ns": 0, "drops": [], "rules": [],
                    "rates": {{ "rx_pps": 0, "rx_bps": 0, "tx_pps": 0, "tx_bps": 0 }},
                    "counters": {counters}, "connection": null, "queues": [], {device}
                }}"#
            );
            port(&serde_json::from_str(&json).unwrap())
        };
        let text = port_of(
            r#""fetched": { "mode": "skb", "zero_copy": false, "queues": 1 },
               "remarks": ["it is slower"],
               "lost": { "rx_dropped": 4, "rx_fill_ring_empty": 3, "rx_ring_full": 2 }"#,
        );
        for line in [
            "XDP         skb mode, copy, 1 queue\n",
            "6 frames: 4 no buffer (3 fill",
            "remark      it is slower\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        let tap = port_of(r#""fetched": null, "lost": null, "remarks": []"#);
        assert!(!tap.contains("lost") && !tap.contains("XDP"), "{tap}");
    }
}
