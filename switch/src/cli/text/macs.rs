//! `show macs`.

use crate::api::mac::MacReport;
use crate::cli::format::align;

/// `show macs`.
pub(crate) fn macs(macs: &[MacReport]) -> String {
    let mut rows = vec![
        ["MAC", "NETWORK", "PORT", "KIND", "IDLE", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(macs.iter().map(|mac| {
        let idle = mac
            .idle_seconds
            .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s"));
        let remark = mac.sentence.clone().unwrap_or_default();
        vec![
            mac.mac.clone(),
            mac.network.clone(),
            mac.port.clone(),
            mac.kind.text().to_owned(),
            idle,
            remark,
        ]
    }));
    align(&rows)
}
