//! `show flows`.

use crate::api::flows::FlowsReport;
use crate::cli::format::{align, percent};

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
