//! The topology file. Whatever it holds, it becomes a topology or a report; every mistake of a
//! report names the file and a place in it, and the report can be printed on a terminal.

use std::fmt::Write;
use std::path::Path;

use config::Report;

/// Text that a person could have meant is a few KiB long; a longer one is the same again.
const BYTES_MAX: usize = 8 << 10;

/// A topology that runs, to which the text may be another VM, or the limit of its own.
const RUNNING: &str = "
cores: [0]
ports: 4
networks: { b: {}, blue: {} }
vms: { a: { nics: { n: { network: b, vhost-user: { path: /s } } } } }
";

/// Runs one input.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(&data[..data.len().min(BYTES_MAX)]);
    run_as_file(&text);
    run_as_request(&text);
}

/// A request ends in a file that says the same, or in a report.
fn run_as_request(text: &str) {
    let running = config::parse(RUNNING, "weir.yaml").expect("it is right");
    let file = Path::new("vms.d/new.yaml");
    let vm = running.with_vm("new", text, "the request", file);
    let limit = running.with_limit("a", text, "the request", file);
    for written in [Some(vm), limit].into_iter().flatten() {
        match written {
            Ok(written) => {
                let name = &written.topology.vms.last().expect("it was written").name;
                let body = written.text.lines().skip(3);
                let body: Vec<_> = body.map(|line| line.get(4..).unwrap_or_default()).collect();
                let again = running.with_vm(name, &body.join("\n"), "the file", file);
                let again = again.unwrap_or_else(|report| panic!("{report}\n{}", written.text));
                assert_eq!(again, written, "a file says what the request said");
            }
            Err(report) => assert_printable(&report),
        }
    }
}

fn run_as_file(text: &str) {
    let n_lines = 1 + text.bytes().filter(|&b| b == b'\n' || b == b'\r').count();
    match config::parse(text, "weir.yaml") {
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
            assert_printable(&report);
        }
    }
}

fn assert_printable(report: &Report) {
    let mut printed = String::new();
    write!(printed, "{report}").expect("a string has room");
    assert!(
        printed.chars().all(|c| c == '\n' || !c.is_control()),
        "{printed:?}"
    );
}
