//! `show ports` and `show port NAME`.

use super::state::{ring_state, state};
use crate::api::port::{AddressReport, ConnectionReport, PortReport, PortRow};
use crate::api::state::Direction;
use crate::cli::format::{align, rx_rate, tx_rate};

/// `show ports`.
pub(crate) fn ports(ports: &[PortRow]) -> String {
    let mut rows = vec![
        ["PORT", "NETWORK", "STATE", "RX", "TX", "DROPPED", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(ports.iter().map(|port| {
        vec![
            port.name.clone(),
            port.networks.join(","),
            state(port.state).to_owned(),
            rx_rate(&port.rates),
            tx_rate(&port.rates),
            port.counters.dropped_frames.to_string(),
            port.sentence.clone().unwrap_or_default(),
        ]
    }));
    align(&rows)
}

/// `show port NAME`.
pub(crate) fn port(port: &PortReport) -> String {
    let (row, counters) = (&port.row, &port.row.counters);
    let frames =
        |frames: u64, bytes: u64, rate: String| format!("{frames} frames, {bytes} bytes, {rate}");
    let (from, to) = if port.connection.is_some() {
        ("rx (from-vm)", "tx (to-vm)")
    } else {
        ("rx", "tx")
    };
    let mut rows = vec![
        ("port", row.name.clone()),
        ("network", row.networks.join(",")),
        ("state", state(row.state).to_owned()),
        (
            "waits for",
            row.sentence.clone().unwrap_or_else(|| "nothing".to_owned()),
        ),
        (
            from,
            frames(counters.rx_frames, counters.rx_bytes, rx_rate(&row.rates)),
        ),
        (
            to,
            frames(counters.tx_frames, counters.tx_bytes, tx_rate(&row.rates)),
        ),
        (
            "forwarded",
            format!(
                "{}, {} of them extra copies of floods",
                counters.forwarded_frames, counters.copied_frames
            ),
        ),
        ("dropped", counters.dropped_frames.to_string()),
        (
            "missed",
            format!(
                "{} frames dropped before delivery to this port",
                counters.missed_frames
            ),
        ),
        (
            "denied",
            format!(
                "{} of those missed, by its rules; {} of those it sent",
                counters.missed_denied_frames,
                dropped(port, "denied")
            ),
        ),
        (
            "queued",
            format!(
                "{} frames queued at a VM's `to-vm` limit, {} of them now",
                counters.queued_frames, counters.held_frames
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
    let device = port.device.iter();
    rows.extend(
        (device.clone())
            .filter_map(|device| device.xdp)
            .map(|xdp| ("XDP", xdp.to_string())),
    );
    rows.extend(
        device
            .filter_map(|device| device.lost)
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
            format!(
                "{} (made by {})",
                connection.path,
                connection.listens.text()
            ),
        ),
        (
            "connections",
            format!(
                "{}, and {} refused",
                connection.connections, connection.refused_connections
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
    rows.extend(
        connection
            .last_refusal
            .clone()
            .map(|why| ("last refusal", why)),
    );
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
            let direction = match queue.direction {
                Direction::Rx => "rx",
                Direction::Tx => "tx",
            };
            let files = match (queue.has_kick, queue.has_call) {
                (true, true) => "kick, call",
                (true, false) => "kick",
                (false, true) => "call",
                (false, false) => "polled",
            };
            vec![
                queue.index.to_string(),
                direction.to_owned(),
                size,
                files.to_owned(),
                ring_state(queue),
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
    let mut rows: Vec<_> = port
        .drops
        .iter()
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
    use crate::api::device::{LostReport, XdpMode, XdpReport};
    use crate::api::example;

    #[test]
    fn device_of_a_nic_says_how_it_is_fetched_from_and_what_was_lost() {
        let mut nic = example::uplink();
        nic.remarks = vec!["it is slower".to_owned()];
        let device = nic.device.as_mut().unwrap();
        device.xdp = Some(XdpReport {
            mode: XdpMode::Skb,
            zero_copy: false,
            queues: 1,
        });
        device.lost = Some(LostReport {
            rx_no_buffer_frames: 4,
            rx_fill_ring_empty_frames: 3,
            rx_ring_full_frames: 2,
            ..LostReport::default()
        });
        let text = port(&nic);
        for line in [
            "XDP         skb mode, copy, 1 queue\n",
            "6 frames: 4 no buffer (3 fill",
            "remark      it is slower\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        let device = nic.device.as_mut().unwrap();
        (device.xdp, device.lost) = (None, None);
        let tap = port(&nic);
        assert!(!tap.contains("lost  ") && !tap.contains("XDP"), "{tap}");
    }

    #[test]
    fn vhost_user_port_says_all_there_is() {
        let text = port(&example::nic());
        for line in [
            "port               web/net0\n",
            "network            blue\n",
            "waits for          nothing\n",
            "rx (from-vm)       ",
            "0      tx   1024  kick, call  runs\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }
}
