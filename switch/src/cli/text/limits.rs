//! `show limits`.

use crate::api::vm::{LimitReport, VmReport};
use crate::cli::format::{align, limit, percent, rx_rate, tx_rate};

/// `show limits`: a line for each limit.
pub(crate) fn limits(vms: &[VmReport]) -> String {
    let head = [
        "VM",
        "DIRECTION",
        "LIMIT",
        "BURST",
        "LEFT",
        "NOW",
        "THROTTLED / QUEUE",
        "",
        "DROPPED",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for vm in vms {
        if let Some(report) = vm.limit.from_vm {
            let held = [
                format!("{} ms", vm.throttled_nanoseconds / 1_000_000),
                percent(vm.throttled_ratio),
                "-".to_owned(),
            ];
            rows.push(limit_row(
                &vm.name,
                "from-vm",
                report,
                rx_rate(&vm.rates),
                held,
            ));
        }
        if let Some(report) = vm.limit.to_vm {
            let [now, ring] = match report.queue {
                None => ["-".to_owned(), "-".to_owned()],
                Some(queue) => [
                    format!(
                        "{} ms, {} bytes now",
                        queue.delay_nanoseconds / 1_000_000,
                        queue.queued_bytes
                    ),
                    format!("{} ms a ring", queue.ring_delay_nanoseconds / 1_000_000),
                ],
            };
            rows.push(limit_row(
                &vm.name,
                "to-vm",
                report,
                tx_rate(&vm.rates),
                [now, ring, vm.counters.missed_limit_frames.to_string()],
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
    let left = both(report.allowance_packets, report.allowance_bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::example;
    use crate::api::vm::LimitsReport;

    #[test]
    fn limits_have_a_line_each() {
        let report = LimitReport {
            bits_per_second: Some(1_000_000_000),
            burst_bytes: Some(500_000),
            allowance_bytes: Some(-1514),
            ..LimitReport::default()
        };
        let mut vm = example::vm("web");
        vm.limit = LimitsReport {
            from_vm: Some(report),
            to_vm: Some(LimitReport {
                packets_per_second: Some(5000),
                ..LimitReport::default()
            }),
        };
        (vm.throttled_nanoseconds, vm.throttled_ratio) = (1_500_000_000, 0.5);
        vm.counters.missed_limit_frames = 8;
        let text = limits(&[vm]);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("web  from-vm    1.00 Gbit/s  500000 bytes  -1514 bytes"),
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
}
