//! Starting, refusing to start, ending.

mod cpus;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::Arc;

use guest::Options;
use rustix::process::Signal;

use crate::rig::{Daemon, cpu, folder, text, topology, weir, write};

fn run(topology: &str) -> (tempfile::TempDir, Output) {
    let dir = folder();
    let output = weir()
        .arg("run")
        .arg(write(&dir, topology))
        .output()
        .unwrap();
    (dir, output)
}

/// What a daemon says that does not start.
fn refusal(topology: &str) -> String {
    let (_dir, output) = run(topology);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn signals_end_the_daemon_and_its_sockets_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
        let guest = daemon.guest("a.sock", Options::default());
        assert!(daemon.path("a.sock").exists() && daemon.path("b.sock").exists());
        daemon.signal(signal);
        assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
        for name in ["a.sock", "b.sock", "control.sock"] {
            assert!(!daemon.path(name).exists(), "{name} is still there");
        }
        assert!(guest.is_gone());
    }
}

#[test]
fn sighup_ends_nothing() {
    let mut daemon = Daemon::start(&topology(&["a"], "weir"));
    daemon.signal(Signal::HUP);
    daemon.until("it says so", |daemon| {
        daemon.log().contains("is in force: no changes")
    });
    daemon.guest("a.sock", Options::default()).stop().unwrap();
}

#[test]
fn second_daemon_in_the_same_folder_is_refused() {
    let first = Daemon::start(&topology(&["a"], "weir"));
    let output = weir()
        .arg("run")
        .arg(first.path("weir.yaml"))
        .output()
        .unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        why.contains("another weir") && why.contains(&first.pid().as_raw_nonzero().to_string()),
        "{why}"
    );
    first.guest("a.sock", Options::default()).stop().unwrap();
}

#[test]
fn sockets_of_a_killed_daemon_are_replaced() {
    let dir = Arc::new(folder());
    let topology = topology(&["a"], "weir");
    let mut daemon = Daemon::start_in(dir.clone(), &topology);
    daemon.signal(Signal::KILL);
    daemon.ended();
    assert!(dir.path().join("a.sock").exists());
    let daemon = Daemon::start_in(dir, &topology);
    daemon.guest("a.sock", Options::default()).stop().unwrap();
}

#[test]
fn sockets_have_their_mode() {
    let file = topology(&["a"], "weir").replace("listens: weir", "mode: \"0640\"");
    let daemon = Daemon::start(&file);
    let mode = |name: &str| {
        fs::metadata(daemon.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!((mode("a.sock"), mode("control.sock")), (0o640, 0o660));
}

#[test]
fn every_socket_that_cannot_be_made_is_named_at_once() {
    let dir = folder();
    fs::write(dir.path().join("b.sock"), "precious").unwrap();
    let file = topology(&["a", "b", "c"], "weir").replace("DIR/a.sock", "DIR/missing/a.sock");
    let output = weir().arg("run").arg(write(&dir, &file)).output().unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        why.contains("a/net0: cannot listen on") && why.contains("no folder"),
        "{why}"
    );
    assert!(
        why.contains("b/net0: cannot listen on") && why.contains("not a socket"),
        "{why}"
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("b.sock")).unwrap(),
        "precious"
    );
    for name in ["c.sock", "control.sock"] {
        assert!(!dir.path().join(name).exists(), "{name} was left behind");
    }
}

#[test]
fn folder_without_permission_is_said_plainly() {
    let dir = folder();
    let program = dir.path().join("weir");
    fs::copy(env!("CARGO_BIN_EXE_weir"), &program).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o1777)).unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let file = topology(&["a"], "weir")
        .replace("DIR/control", "DIR/run/control")
        .replace("DIR/a", "DIR/closed/a");
    let mut command = std::process::Command::new(program);
    command.arg("run").arg(write(&dir, &file));
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    // Another test that starts a program may hold the copy open for writing, for a moment.
    let output = loop {
        match command.output() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::yield_now()
            }
            output => break output.unwrap(),
        }
    };
    let why = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(
        why.contains("a/net0") && why.contains("may not write to") && why.contains(&text(&closed)),
        "{why}"
    );
}

#[test]
fn folder_that_others_may_write_to_is_refused_and_one_below_it_may_be_anybodys() {
    let dir = folder();
    let (run, guests) = (dir.path().join("run"), dir.path().join("run/guests"));
    fs::create_dir_all(&guests).unwrap();
    let file = topology(&["a"], "weir")
        .replace("DIR/control", "DIR/run/control")
        .replace("DIR/a", "DIR/run/guests/a");
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
    };
    mode(&run, 0o775);
    let output = weir().arg("run").arg(write(&dir, &file)).output().unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(
        why.contains("others may write to it (mode 0775)") && why.contains(&text(&run)),
        "{why}"
    );
    assert!(!run.join("weir.lock").exists(), "nothing was made there");
    // As libvirt's guests need it, whose sockets are their own user's.
    mode(&run, 0o755);
    mode(&guests, 0o777);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&guests, Some(65534), Some(65534)).unwrap();
    }
    let mut child = weir().arg("run").arg(write(&dir, &file)).spawn().unwrap();
    let begin = std::time::Instant::now();
    while !guests.join("a.sock").exists() {
        assert!(child.try_wait().unwrap().is_none() && begin.elapsed() < crate::rig::PATIENCE);
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn notes_that_are_not_the_daemons_own_are_left_alone_and_said() {
    let dir = Arc::new(folder());
    let path = |name: &str| dir.path().join(name);
    fs::write(path("victim"), "precious").unwrap();
    std::os::unix::fs::symlink(path("victim"), path("a.device")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        path("b.device"),
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    fs::write(path("c.device"), "{}").unwrap();
    let note = r#"{"world":"","index":7,"device":"d","features":{"rx-lro":true},"channels":null}"#;
    fs::write(path("d.device"), note).unwrap();
    let is_foreign = std::os::unix::fs::chown(path("d.device"), Some(65534), Some(65534)).is_ok();
    let daemon = Daemon::start_in(dir.clone(), &topology(&["a"], "weir"));
    let log = daemon.log();
    for name in ["a.device", "b.device", "c.device"]
        .iter()
        .chain(is_foreign.then_some(&"d.device"))
    {
        assert!(
            log.lines()
                .any(|line| line.contains("ignored") && line.contains(name)),
            "{name}:\n{log}"
        );
        assert!(
            fs::symlink_metadata(path(name)).is_ok(),
            "{name} is still there"
        );
    }
    assert_eq!(fs::read_to_string(path("victim")).unwrap(), "precious");
    if !is_foreign {
        eprintln!("NOT TESTED: a note of another user needs root");
    }
}

#[test]
fn check_says_what_is_wrong_and_exits_accordingly() {
    let dir = folder();
    let good = weir()
        .arg("check")
        .arg(write(&dir, &topology(&["a"], "weir")))
        .output()
        .unwrap();
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let bad = weir()
        .arg("check")
        .arg(write(&dir, "cores: [0]\nnetwroks: {}\n"))
        .output()
        .unwrap();
    assert_eq!(bad.status.code(), Some(1));
    let why = String::from_utf8(bad.stderr).unwrap();
    assert!(
        why.contains("netwroks") && why.contains("networks"),
        "{why}"
    );
}

#[test]
fn schema_is_told_to_people_and_to_editors() {
    let printed = |words: &[&str]| {
        let output = weir().arg("schema").args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let outline = printed(&[]);
    assert!(
        outline.contains("\nnetworks: ") && outline.contains("\n    nics: "),
        "{outline}"
    );
    let schema: serde_json::Value = serde_json::from_str(&printed(&["--json"])).unwrap();
    assert_eq!(
        schema["properties"]["networks"]["type"][0], "object",
        "{schema}"
    );
    let help = String::from_utf8(weir().arg("--help").output().unwrap().stdout).unwrap();
    assert!(
        help.contains("schema") && help.contains("every key of the topology file"),
        "{help}"
    );
}

#[test]
fn operators_are_told_in_json_and_in_words() {
    let daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let shown = |words: &[&str]| String::from_utf8(daemon.show(words).stdout).unwrap();
    let ports = shown(&["ports"]);
    assert!(
        ports.contains("a/net0") && ports.contains("waiting for guest"),
        "{ports}"
    );
    assert!(shown(&["port", "a/net0"]).contains("a.sock"));
    assert!(shown(&["cores"]).starts_with("CPU"));
    let busy = shown(&["cores", "--busy"]);
    assert!(
        busy.split_whitespace()
            .all(|word| word.parse::<u64>().is_ok()),
        "{busy}"
    );
    assert_eq!(busy.split_whitespace().count(), 2);
    let absent = daemon.show(&["port", "nobody/net0"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(
        String::from_utf8(absent.stderr)
            .unwrap()
            .contains("no port nobody/net0")
    );
    assert_eq!(daemon.json(&["ports"]).as_array().unwrap().len(), 2);
}

#[test]
fn operators_who_are_slow_or_speak_nonsense_keep_nobody_waiting() {
    use std::io::Write;
    let daemon = Daemon::start(&topology(&["a"], "weir"));
    let connect = || std::os::unix::net::UnixStream::connect(daemon.path("control.sock")).unwrap();
    let mut slow: Vec<_> = (0..2).map(|_| connect()).collect();
    slow.iter_mut()
        .for_each(|stream| stream.write_all(b"GET /v1/po").unwrap());
    for nonsense in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\n\r\n",
        &[b'x'; 20_000],
    ] {
        // It may be closed before all of this is taken.
        let _ = connect().write_all(nonsense);
        assert!(daemon.show(&["ports"]).status.success());
    }
}

#[test]
fn front_end_without_a_number_in_the_daemons_namespace_is_served_as_any() {
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
    ]);
    if !unshare
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        return eprintln!("NOT TESTED: this user may make no namespace of processes");
    }
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command.arg(env!("CARGO_BIN_EXE_weir"));
    let daemon = Daemon::start_by(Arc::new(folder()), &topology(&["a"], "weir"), command);
    daemon.guest("a.sock", Options::default()).stop().unwrap();
    assert!(
        daemon
            .log()
            .contains("a front-end connected (a process that can't be seen from here)"),
        "{}",
        daemon.log()
    );
}
