//! `show flows`.

use crate::api::flows::FlowReport;
use crate::cli::format::{align, percent};

/// `show flows`.
pub(crate) fn flows(report: &FlowReport) -> String {
    let n_frames = report.core_cache_hits + report.table_hits + report.misses;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let of_frames = |n: u64| match n_frames {
        0 => n.to_string(),
        all => format!("{n} ({})", percent(n as f64 / all as f64)),
    };
    let rows = [
        (
            "flows",
            format!(
                "{} of {}; quota {} a port when nearly full",
                report.used, report.capacity, report.quota
            ),
        ),
        ("per-core cache hits", of_frames(report.core_cache_hits)),
        ("table hits", of_frames(report.table_hits)),
        ("misses", of_frames(report.misses)),
        ("inserted", report.inserted.to_string()),
        ("evicted: outdated", report.evicted_outdated.to_string()),
        ("evicted: port's own oldest", report.evicted_own.to_string()),
        (
            "evicted: port over its quota",
            report.evicted_over_quota.to_string(),
        ),
        ("updated", report.updated.to_string()),
        ("not cached", report.not_cached.to_string()),
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
