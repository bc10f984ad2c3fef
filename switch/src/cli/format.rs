//! Numbers and columns for a terminal.

use std::fmt::Write as _;

use crate::api::counters::RateReport;
use crate::api::vm::LimitReport;

/// What a port or a VM sends: frames and bits a second.
pub(crate) fn rx_rate(rates: &RateReport) -> String {
    rate(rates.rx_frames_per_second, rates.rx_bits_per_second)
}

/// What it receives.
pub(crate) fn tx_rate(rates: &RateReport) -> String {
    rate(rates.tx_frames_per_second, rates.tx_bits_per_second)
}

/// Frames and bits a second.
pub(crate) fn rate(pps: f64, bps: f64) -> String {
    format!("{}pps {}bit/s", scaled(pps), scaled(bps))
}

/// With an SI prefix, for a unit to follow.
pub(crate) fn scaled(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0} "),
    }
}

/// Columns as wide as their widest cell, two spaces apart, nothing at the end of a line.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<_> = (0..n_columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            // Writing to a string can't fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A limit for people; `-`: none.
pub(crate) fn limit(limit: Option<LimitReport>) -> String {
    let Some(limit) = limit else {
        return "-".to_owned();
    };
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let part = |value: Option<u64>, unit: &str| {
        value.map(|value| format!("{}{unit}", scaled(value as f64)))
    };
    let parts = [
        part(limit.packets_per_second, "pps"),
        part(limit.bits_per_second, "bit/s"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A part of 1, in per cent.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["A", "LONG"], ["wide", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(align(&rows), "A     LONG\nwide  x\n");
        assert_eq!(align(&[]), "");
    }

    #[test]
    fn rates_are_short() {
        assert_eq!(rate(0.0, 0.0), "0 pps 0 bit/s");
        assert_eq!(
            rate(12_345_678.0, 9_876_543_210.0),
            "12.35 Mpps 9.88 Gbit/s"
        );
    }
}
