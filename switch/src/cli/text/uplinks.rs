//! `show uplinks`.

use std::fmt::Write as _;

use super::state::state;
use crate::api::uplink::UplinkReport;
use crate::cli::format::{align, rate};

/// `show uplinks`.
pub(crate) fn uplinks(uplinks: &[UplinkReport]) -> String {
    if uplinks.is_empty() {
        return "no uplinks\n".to_owned();
    }
    let head = [
        "UPLINK", "DEVICE", "DRIVER", "STATE", "MODE", "QUEUES", "RX", "TX", "DROPPED", "LOST", "",
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
