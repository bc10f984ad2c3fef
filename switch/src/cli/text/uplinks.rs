//! `show uplinks`.

use std::fmt::Write as _;

use super::state::state;
use crate::api::port::PortReport;
use crate::cli::format::{align, rx_rate, tx_rate};

/// `show uplinks`.
pub(crate) fn uplinks(uplinks: &[PortReport]) -> String {
    if uplinks.is_empty() {
        return "no uplinks\n".to_owned();
    }
    let head = [
        "UPLINK", "DEVICE", "DRIVER", "STATE", "MODE", "QUEUES", "RX", "TX", "DROPPED", "LOST", "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(uplinks.iter().map(row));
    let mut text = align(&rows);
    for uplink in uplinks {
        let lost = uplink.device.as_ref().and_then(|device| device.lost);
        if let Some(lost) = lost.filter(|lost| lost.n_frames() > 0) {
            // Writing to a string can't fail.
            let _ = writeln!(
                text,
                "{}: lost in the kernel or at the device: {lost}",
                uplink.row.name
            );
        }
        for remark in &uplink.remarks {
            let _ = writeln!(text, "{}: {remark}", uplink.row.name);
        }
    }
    text
}

fn row(uplink: &PortReport) -> Vec<String> {
    let device = uplink.device.as_ref();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let xdp = device.and_then(|device| device.xdp);
    let mode = xdp.map(|xdp| {
        let copies = if xdp.zero_copy { "zero-copy" } else { "copy" };
        format!("{}, {copies}", xdp.mode.text())
    });
    let lost = device.and_then(|device| device.lost).unwrap_or_default();
    vec![
        uplink.row.name.clone(),
        device.map(|device| device.name.clone()).unwrap_or_default(),
        or_dash(device.and_then(|device| device.driver.clone())),
        state(uplink.row.state).to_owned(),
        or_dash(mode),
        xdp.map_or(0, |xdp| xdp.queues).to_string(),
        rx_rate(&uplink.row.rates),
        tx_rate(&uplink.row.rates),
        uplink.row.counters.dropped_frames.to_string(),
        lost.n_frames().to_string(),
        uplink.row.sentence.clone().unwrap_or_default(),
    ]
}
