//! The topology file. Whatever it holds, it becomes a topology or a report; every mistake of a
//! report names the file and a place in it, and the report can be printed on a terminal.

use std::fmt::Write;

/// Text that a person could have meant is a few KiB long; a longer one is the same again.
const BYTES_MAX: usize = 8 << 10;

/// Runs one input.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(&data[..data.len().min(BYTES_MAX)]);
    let n_lines = 1 + text.bytes().filter(|&b| b == b'\n' || b == b'\r').count();
    match config::parse(&text, "weir.yaml") {
        Ok(topology) => {
            assert!(!topology.cores.is_empty());
            topology
                .nics()
                .for_each(|(_, nic)| drop(topology.network_of(nic).name.clone()));
        }
        Err(report) => {
            assert!(!report.diagnostics().is_empty(), "a report of nothing");
            for mistake in report.diagnostics() {
                assert_eq!(mistake.file(), "weir.yaml", "{mistake}");
                assert!(
                    mistake.line() <= n_lines,
                    "line {} of {n_lines}: {mistake}",
                    mistake.line()
                );
                assert_eq!(mistake.line() == 0, mistake.column() == 0, "{mistake}");
                assert!(
                    !mistake.message().is_empty() && !mistake.help().is_empty(),
                    "{mistake}"
                );
                assert!(
                    !mistake.help().starts_with("report it"),
                    "a hole in the checks: {mistake}"
                );
            }
            let places: Vec<_> = report
                .diagnostics()
                .iter()
                .map(|m| (m.line(), m.column()))
                .collect();
            assert!(places.is_sorted(), "{places:?}");
            let mut printed = String::new();
            write!(printed, "{report}").expect("a string has room");
            assert!(
                printed.chars().all(|c| c == '\n' || !c.is_control()),
                "{printed:?}"
            );
        }
    }
}
