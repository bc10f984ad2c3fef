//! `show cores`.

use crate::api::core::CoreReport;
use crate::cli::format::align;

/// `show cores`.
pub(crate) fn cores(cores: &[CoreReport]) -> String {
    let head = [
        "CPU",
        "RX QUEUES",
        "TURNS",
        "BUSY CYCLES",
        "HELD CYCLES",
        "FRAMES",
        "CYCLES/FRAME",
        "SLEEPS",
        "CPU TIME",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(cores.iter().map(|core| {
        let per_frame = core.busy_cycles.checked_div(core.rx_frames);
        vec![
            core.cpu.to_string(),
            core.rx_queues.to_string(),
            core.turns.to_string(),
            core.busy_cycles.to_string(),
            core.held_cycles.to_string(),
            core.rx_frames.to_string(),
            per_frame.map_or_else(|| "-".to_owned(), |cycles| cycles.to_string()),
            core.sleeps.to_string(),
            format!("{} ms", core.cpu_nanoseconds / 1_000_000),
        ]
    }));
    align(&rows)
}

/// `show cores --busy`: cycles of all cores in turns that had packets, and packets received so far.
pub(crate) fn busy(cores: &[CoreReport]) -> String {
    let cycles: u64 = cores.iter().map(|core| core.busy_cycles).sum();
    let frames: u64 = cores.iter().map(|core| core.rx_frames).sum();
    format!("{cycles} {frames}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::example;

    #[test]
    fn busy_is_two_numbers_over_all_cores() {
        let core = |busy_cycles, rx_frames| CoreReport {
            busy_cycles,
            rx_frames,
            ..example::core()
        };
        assert_eq!(busy(&[core(100, 2), core(50, 1)]), "150 3\n");
        assert_eq!(busy(&[]), "0 0\n");
    }
}
