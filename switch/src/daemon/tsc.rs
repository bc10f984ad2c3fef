//! Whether the cycle counter (TSC) behind the switch's clock is reliable, and log lines where it
//! isn't.

use std::fs;
use std::time::{Duration, Instant};

use pmd::time::{Checked, Clock};
use tracing::{info, warn};

/// Where the kernel lists the clocks that it would use.
const CLOCKS: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
/// Parts in a million by which the clock may be off after the start.
const CALIBRATED_PPM: f64 = 1000.0;
/// Parts in a million by which a counter's rate may change within a second: crystals do less, what
/// the kernel corrects its own clock by is at most 500.
const DRIFT_PPM: f64 = 1000.0;
/// Nanoseconds by which CPUs' counters may be apart.
const APART_NS: i64 = 100_000;
/// Least time between log lines about the clock.
const LOGS_EVERY: Duration = Duration::from_secs(60);

/// Logs doubts about the counter at the start. Limits, hold times and ages are as wrong as the
/// counter.
pub(crate) fn log_doubts(clock: &Clock) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    for doubt in doubts(&read("/proc/cpuinfo"), &read(CLOCKS)) {
        warn!(
            "{doubt}: limits may be kept inexactly; the clock is checked against the kernel's once \
            a second"
        );
    }
    let ppm = clock.error_ppm();
    if ppm > CALIBRATED_PPM {
        warn!(
            "the CPU was taken away so often that the clock may be {ppm:.0} ppm off for the first \
            seconds"
        );
    }
}

fn doubts(cpuinfo: &str, clocks: &str) -> Vec<String> {
    let flags = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    let mut doubts = Vec::new();
    for (flag, what) in [
        (
            "constant_tsc",
            "this CPU's cycle counter (TSC) follows its frequency (no constant_tsc)",
        ),
        (
            "nonstop_tsc",
            "this CPU's cycle counter (TSC) stops when it sleeps deeply (no nonstop_tsc)",
        ),
    ] {
        if !flags.is_empty() && !has(flag) {
            doubts.push(what.to_owned());
        }
    }
    if !clocks.is_empty() && !clocks.split_whitespace().any(|clock| clock.contains("tsc")) {
        doubts.push(format!(
            "the kernel doesn't use this machine's cycle counter (TSC) as a clock (it has {})",
            clocks.trim()
        ));
    }
    doubts
}

/// Logs if the counter of a polling CPU differs from the one that the clock was calibrated with.
/// Called on that CPU.
pub(crate) fn compare(cpu: usize, (ahead_ns, doubt_ns): (i64, u64)) {
    if is_apart(ahead_ns, doubt_ns) {
        warn!(
            "the cycle counter (TSC) of CPU {cpu} is {ahead_ns} ns ahead of the others': limits of \
            VMs that are served by several cores may be kept inexactly; is the TSC of this machine \
            unsynchronised?"
        );
    }
}

fn is_apart(ahead_ns: i64, doubt_ns: u64) -> bool {
    ahead_ns.saturating_abs() > APART_NS.saturating_add(i64::try_from(doubt_ns).unwrap_or(i64::MAX))
}

/// Logs the results of the clock's checks, at most a line a minute.
#[derive(Debug, Default)]
pub(crate) struct ClockWatch {
    logged: Option<Instant>,
}

impl ClockWatch {
    /// Logs a check's result if it matters.
    pub(crate) fn see(&mut self, checked: Checked) {
        if let Some(line) =
            line(checked).filter(|_| self.logged.is_none_or(|at| at.elapsed() >= LOGS_EVERY))
        {
            info!("{line}");
            self.logged = Some(Instant::now());
        }
    }
}

/// The log line for a check's result, if it matters.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn line(checked: Checked) -> Option<String> {
    match checked {
        Checked::Corrected { drift_ppm, .. } if drift_ppm.abs() > DRIFT_PPM => Some(format!(
            "the cycle counter's rate has changed by {drift_ppm:.0} ppm: the clock follows, limits \
            were off by as much for a second"
        )),
        Checked::Rebased { ahead_ns } => Some(format!(
            "the clock was {:.3} ms ahead of the kernel's, which is not corrected: was the machine \
            suspended or migrated, or is its cycle counter (TSC) unreliable?",
            ahead_ns as f64 / 1e6
        )),
        Checked::Corrected { .. } | Checked::Nothing => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_that_cannot_be_relied_upon_is_said_to_be_so() {
        let good = "processor : 0\nflags\t: fpu tsc constant_tsc nonstop_tsc\n";
        assert_eq!(doubts(good, "tsc hpet acpi_pm \n"), Vec::<String>::new());
        assert_eq!(doubts(good, "kvm-clock tsc"), Vec::<String>::new());
        assert_eq!(
            doubts(good, "hyperv_clocksource_tsc_page acpi_pm"),
            Vec::<String>::new()
        );
        assert_eq!(doubts("", ""), Vec::<String>::new(), "nothing is known");
        let bad = doubts("flags : fpu tsc\n", "hpet acpi_pm\n");
        assert!(
            bad[0].contains("constant_tsc")
                && bad[1].contains("nonstop_tsc")
                && bad[2].contains("hpet acpi_pm")
        );
    }

    #[test]
    fn what_is_within_reason_is_not_said() {
        assert_eq!(line(Checked::Nothing), None);
        assert_eq!(
            line(Checked::Corrected {
                drift_ppm: 400.0,
                ahead_ns: 1_000_000
            }),
            None
        );
        assert!(
            line(Checked::Corrected {
                drift_ppm: -4000.0,
                ahead_ns: 0
            })
            .unwrap()
            .contains("-4000 ppm")
        );
        assert!(
            line(Checked::Rebased {
                ahead_ns: -7_500_000
            })
            .unwrap()
            .contains("-7.500 ms")
        );
        assert!(!is_apart(90_000, 0) && !is_apart(-150_000, 60_000));
        assert!(is_apart(-150_000, 100) && is_apart(i64::MIN, 5));
    }
}
