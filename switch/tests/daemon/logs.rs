//! The log, and a standard error that takes nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;

use guest::Options;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::process::Signal;
use serde_json::Value;

use crate::rig::{Daemon, exchange, folder, topology, weir, write};

/// A daemon with this standard error starts, forwards, answers while lines are to be logged, and
/// ends.
fn goes_on(stderr: impl Into<Stdio>, command: Command) {
    let dir = Arc::new(folder());
    let file = topology(&["a", "b", "c"], "weir");
    let mut daemon = Daemon::spawn_with(dir, &file, command, stderr.into());
    daemon.until_it_answers();
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    for _ in 0..20 {
        // Some lines each.
        daemon.guest("c.sock", Options::default()).stop().unwrap();
        daemon.signal(Signal::HUP);
        exchange((1, &mut a), (2, &mut b), 20);
        assert!(daemon.show(&["ports"]).status.success());
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn full_disk_as_standard_error_stops_nothing() {
    goes_on(
        File::options().write(true).open("/dev/full").unwrap(),
        weir(),
    );
}

#[test]
fn closed_standard_error_stops_nothing() {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>&-", env!("CARGO_BIN_EXE_weir")]);
    goes_on(Stdio::null(), command);
}

#[test]
fn pipe_without_a_reader_as_standard_error_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    goes_on(writer, weir());
}

#[test]
fn full_pipe_that_nobody_reads_as_standard_error_stops_nothing() {
    let (_reader, writer) = full_pipe();
    goes_on(writer, weir());
}

/// Neither does one that says so instead of keeping its writer, as what a shell over ssh leaves.
#[test]
fn full_pipe_that_does_not_block_as_standard_error_stops_nothing() {
    let (_reader, writer) = full_pipe();
    set_blocking(&writer, false);
    goes_on(writer, weir());
}

#[test]
fn refusal_to_start_ends_though_nobody_reads_it() {
    let (_reader, writer) = full_pipe();
    let dir = folder();
    let file = topology(&["a"], "weir").replace("DIR/a.sock", "DIR/missing/a.sock");
    let mut command = weir();
    command.arg("run").arg(write(&dir, &file)).stderr(writer);
    assert_eq!(command.status().unwrap().code(), Some(1));
}

#[test]
fn lines_that_waited_for_a_reader_are_all_there_in_order() {
    let (mut reader, writer) = full_pipe();
    let dir = Arc::new(folder());
    let mut daemon = Daemon::spawn_with(dir, &topology(&["a"], "weir"), weir(), writer.into());
    daemon.until_it_answers();
    daemon.guest("a.sock", Options::default()).stop().unwrap();
    daemon.until_state("a/net0", "waiting");
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success());
    let text = reading.join().unwrap();
    let places = [
        "running: ports 1",
        "a front-end connected",
        "stopping",
        "stopped",
    ]
    .map(|words| {
        text.find(words)
            .unwrap_or_else(|| panic!("no {words}: {text}"))
    });
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn json_has_an_object_a_line_with_the_port_in_a_field() {
    for by_variable in [false, true] {
        let mut command = weir();
        if by_variable {
            command.env("WEIR_LOG_FORMAT", "json");
        } else {
            command = Command::new("sh");
            let words = "exec \"$0\" \"$@\" --log-format json";
            command.args(["-c", words, env!("CARGO_BIN_EXE_weir")]);
        }
        let text = log_of(command);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        let connected = lines.iter().find(|line| line["port"] == "a/net0");
        let connected = connected.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(connected["level"], "INFO");
        let message = connected["message"].as_str().unwrap();
        assert!(message.starts_with("a/net0: "), "{message}");
        assert!(connected["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(lines.iter().any(|line| line["message"] == "stopped"));
    }
}

#[test]
fn variable_says_what_is_logged() {
    let with = |value: &str| {
        let mut command = weir();
        command.env("RUST_LOG", value);
        log_of(command)
    };
    let text = with("warn");
    assert!(!text.contains("INFO"), "{text}");
    assert!(with("").contains("INFO"), "empty is as if it were not set");
    let text = with("weir=loud,,");
    assert!(
        text.contains("WARN") && text.contains("RUST_LOG=\"weir=loud,,\" is ignored"),
        "{text}"
    );
    assert!(text.contains("INFO"), "{text}");
}

#[test]
fn journal_is_given_levels_and_no_time_stamps() {
    let text = journal("");
    assert!(!text.is_empty());
    for line in text.lines() {
        assert!(line.starts_with("<6>") || line.starts_with("<4>"), "{line}");
    }
    let connected = "<6>a/net0: a front-end connected";
    assert!(
        text.lines().any(|line| line.starts_with(connected)),
        "{text}"
    );
    let text = journal("json");
    for line in text.lines() {
        let line = line.strip_prefix("<6>").or(line.strip_prefix("<4>"));
        let line: Value = serde_json::from_str(line.unwrap()).unwrap();
        assert!(
            line["timestamp"].is_null() && line["level"].is_string(),
            "{line}"
        );
    }
}

/// What the journal gets.
fn journal(format: &str) -> String {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = weir();
    command.env("JOURNAL_STREAM", stream(&writer));
    if !format.is_empty() {
        command.env("WEIR_LOG_FORMAT", format);
    }
    log_by(command, reader, writer)
}

/// A child of a service inherits the variable, but not its standard error.
#[test]
fn another_stream_than_the_journals_has_time_stamps() {
    let (_other, of_the_journal) = std::io::pipe().unwrap();
    let mut command = weir();
    command.env("JOURNAL_STREAM", stream(&of_the_journal));
    let text = log_of(command);
    assert!(text.lines().all(|line| line.starts_with("20")), "{text}");
}

#[test]
fn refusal_to_start_is_an_error_in_the_journal() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let dir = folder();
    let file = topology(&["a", "b"], "weir")
        .replace("DIR/a.sock", "DIR/missing/a.sock")
        .replace("DIR/b.sock", "DIR/missing/b.sock");
    let mut command = weir();
    command.env("JOURNAL_STREAM", stream(&writer));
    command.arg("run").arg(write(&dir, &file)).stderr(writer);
    assert_eq!(command.status().unwrap().code(), Some(1));
    drop(command);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let errors = text.lines().filter(|line| line.starts_with("<3>error: "));
    assert_eq!(errors.count(), 2, "{text}");
}

/// As systemd names it.
fn stream(file: impl AsFd) -> String {
    let file = fstat(file).unwrap();
    format!("{}:{}", file.st_dev, file.st_ino)
}

/// What a daemon logs from its start to its end, with a guest that comes and goes.
fn log_of(command: Command) -> String {
    let (reader, writer) = std::io::pipe().unwrap();
    log_by(command, reader, writer)
}

fn log_by(command: Command, reader: PipeReader, writer: PipeWriter) -> String {
    let dir = Arc::new(folder());
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines();
        lines.map(|line| line.unwrap() + "\n").collect::<String>()
    });
    let file = topology(&["a"], "weir");
    let mut daemon = Daemon::spawn_with(dir, &file, command, writer.into());
    daemon.until_it_answers();
    daemon.guest("a.sock", Options::default()).stop().unwrap();
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success());
    reading.join().unwrap()
}

/// A pipe without room for another byte, whose writers wait.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    set_blocking(&writer, false);
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    set_blocking(&writer, true);
    (reader, writer)
}

fn set_blocking(file: impl AsFd, blocks: bool) {
    let mut flags = fcntl_getfl(&file).unwrap();
    flags.set(OFlags::NONBLOCK, !blocks);
    fcntl_setfl(&file, flags).unwrap();
}
