//! Devices that go and come back, and how they are given back.

use std::sync::Arc;

use rustix::process::Signal;

use crate::rig::{Daemon, folder, write};
use crate::space::{Spaces, spaces};

const TOPOLOGY: &str = "\
cores: [CPU]
control: { path: DIR/control.sock }
uplinks: { wire: { device: up0 } }
networks: { blue: { uplink: wire } }
";

fn with_device() -> Option<Spaces> {
    let spaces = spaces(&["sw", "peer"])?;
    spaces.veth(("sw", "up0"), ("peer", "p0"), 2);
    Some(spaces)
}

fn running(spaces: &Spaces) -> Daemon {
    let mut daemon = Daemon::start_by(Arc::new(folder()), TOPOLOGY, spaces.weir("sw"));
    daemon.until_state("wire", "up");
    daemon
}

fn waits_for(daemon: &Daemon) -> String {
    daemon.port("wire")["sentence"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// How `device` is: whether there is a program, whether it is promiscuous, and its offloads.
fn state(spaces: &Spaces, device: &str) -> (bool, bool, String) {
    let link = spaces.ip("sw", &format!("-d link show {device}"));
    let is_promiscuous = !link.contains("promiscuity 0");
    let offloads = spaces.run("sw", &format!("ethtool -k {device} && ethtool -l {device}"));
    (
        link.contains("prog/xdp"),
        is_promiscuous,
        offloads.replace(device, "DEVICE"),
    )
}

#[test]
fn device_is_given_back_as_it_was() {
    let Some(spaces) = with_device() else { return };
    let before = state(&spaces, "up0");
    let mut daemon = running(&spaces);
    let (has_program, is_promiscuous, offloads) = state(&spaces, "up0");
    assert!(
        has_program && is_promiscuous && offloads.contains("rx-vlan-offload: off"),
        "{offloads}"
    );
    assert!(
        daemon.path("up0.device").exists(),
        "what was changed is noted"
    );
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
    assert_eq!(state(&spaces, "up0"), before);
    assert!(!daemon.path("up0.device").exists(), "the note is done with");
}

#[test]
fn queues_are_set_and_put_back() {
    let Some(spaces) = with_device() else { return };
    let before = state(&spaces, "up0");
    let topology = TOPOLOGY.replace("device: up0", "device: up0, queues: 2");
    let mut daemon = Daemon::start_by(Arc::new(folder()), &topology, spaces.weir("sw"));
    daemon.until_state("wire", "up");
    assert_eq!(daemon.json(&["uplinks"])[0]["device"]["xdp"]["queues"], 2);
    assert_ne!(state(&spaces, "up0").2, before.2, "two queues of two");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().code(), Some(0));
    assert_eq!(state(&spaces, "up0"), before);
}

#[test]
fn killed_daemon_leaves_no_program_and_no_promiscuity_and_the_next_puts_the_rest_back() {
    let Some(spaces) = with_device() else { return };
    let before = state(&spaces, "up0");
    let mut daemon = running(&spaces);
    daemon.signal(Signal::KILL);
    daemon.ended();
    // The kernel takes its time to let go of a link.
    daemon.until("the kernel has let go", |_| {
        let (has_program, is_promiscuous, _) = state(&spaces, "up0");
        !has_program && !is_promiscuous
    });
    assert_ne!(
        state(&spaces, "up0").2,
        before.2,
        "its offloads are still those of the daemon"
    );
    // One that has nothing to do with the device any more, and under whose eyes it was renamed.
    spaces.ip("sw", "link set up0 down");
    spaces.ip("sw", "link set up0 name old0");
    spaces.ip("sw", "link set old0 up");
    let next = Daemon::start_by(
        daemon.dir.clone(),
        "cores: [CPU]\ncontrol: { path: DIR/control.sock }\n",
        spaces.weir("sw"),
    );
    assert_eq!(state(&spaces, "old0"), before);
    assert!(
        next.log().contains("up0: restored after an unclean exit"),
        "{}",
        next.log()
    );
    assert!(!daemon.path("up0.device").exists());
}

#[test]
fn killed_daemon_is_followed_by_one_that_gives_back_what_was_before_both() {
    let Some(spaces) = with_device() else { return };
    let before = state(&spaces, "up0");
    let mut first = running(&spaces);
    first.signal(Signal::KILL);
    first.ended();
    let mut second = Daemon::start_by(first.dir.clone(), TOPOLOGY, spaces.weir("sw"));
    second.until_state("wire", "up");
    second.signal(Signal::TERM);
    assert_eq!(second.ended().code(), Some(0));
    assert_eq!(state(&spaces, "up0"), before);
}

#[test]
fn carrier_that_goes_and_returns_is_shown_and_recovered_from() {
    let Some(spaces) = with_device() else { return };
    let mut daemon = running(&spaces);
    // Twice, since of more lines at once the log keeps some back.
    for _ in 0..2 {
        spaces.ip("peer", "link set p0 down");
        daemon.until("the loss is shown", |daemon| {
            waits_for(daemon) == "up0 has no carrier"
        });
        assert_eq!(daemon.port("wire")["state"], "connected");
        spaces.ip("peer", "link set p0 up");
        daemon.until_state("wire", "up");
        spaces.ip("sw", "link set up0 down");
        daemon.until("it is shown to be down", |daemon| {
            waits_for(daemon) == "up0 is down: `ip link set up0 up`"
        });
        spaces.ip("sw", "link set up0 up");
        daemon.until_state("wire", "up");
    }
    assert_eq!(
        daemon.json(&["uplinks"])[0]["device"]["attached_times"],
        1,
        "it was never let go"
    );
    let log = daemon.log();
    assert_eq!(log.matches("has no carrier").count(), 2, "{log}");
}

#[test]
fn device_that_is_removed_is_taken_again_when_it_is_back() {
    let Some(spaces) = with_device() else { return };
    let mut daemon = running(&spaces);
    for n in 2..4 {
        spaces.ip("sw", "link del up0");
        daemon.until("the loss is shown", |daemon| {
            waits_for(daemon).contains("there is no device up0")
        });
        assert_eq!(daemon.port("wire")["state"], "waiting");
        spaces.veth(("sw", "up0"), ("peer", "p0"), 2);
        daemon.until_state("wire", "up");
        assert_eq!(daemon.json(&["uplinks"])[0]["device"]["attached_times"], n);
    }
    assert!(
        daemon.log().contains("up0 was removed: waiting for up0"),
        "{}",
        daemon.log()
    );
    let (has_program, is_promiscuous, _) = state(&spaces, "up0");
    assert!(has_program && is_promiscuous);
}

#[test]
fn device_that_is_renamed_is_kept_and_the_name_shown() {
    let Some(spaces) = with_device() else { return };
    let before = state(&spaces, "up0");
    let mut daemon = running(&spaces);
    spaces.ip("sw", "link set up0 down");
    spaces.ip("sw", "link set up0 name new0");
    spaces.ip("sw", "link set new0 up");
    daemon.until("the new name is shown", |daemon| {
        daemon.json(&["uplinks"])[0]["device"]["name"] == "new0"
    });
    daemon.until_state("wire", "up");
    assert!(
        daemon.log().contains("up0 was renamed to new0"),
        "{}",
        daemon.log()
    );
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0));
    assert_eq!(
        state(&spaces, "new0"),
        before,
        "given back by whatever name"
    );
    // The next start looks for the name that the file says.
    assert!(
        spaces
            .refusal("sw", TOPOLOGY)
            .contains("there is no device up0")
    );
}

#[test]
fn device_that_moves_into_another_namespace_is_let_go_and_taken_when_it_returns() {
    let Some(spaces) = with_device() else { return };
    let mut daemon = running(&spaces);
    spaces.ip("sw", &format!("link set up0 netns {}", spaces.name("peer")));
    daemon.until("it is said", |daemon| {
        daemon
            .log()
            .contains("up0 was moved into another network namespace")
    });
    daemon.until("its place is shown", |daemon| {
        waits_for(daemon).contains("there is no device up0")
    });
    let link = spaces.ip("peer", "-d link show up0");
    assert!(
        !link.contains("prog/xdp") && link.contains("promiscuity 0"),
        "{link}"
    );
    spaces.ip("peer", &format!("link set up0 netns {}", spaces.name("sw")));
    spaces.ip("sw", "link set up0 up");
    spaces.ip("peer", "link set p0 up");
    daemon.until_state("wire", "up");
}

#[test]
fn address_that_a_device_gets_while_it_is_gone_keeps_it_from_being_taken() {
    let Some(spaces) = with_device() else { return };
    let mut daemon = running(&spaces);
    spaces.ip("sw", "link del up0");
    daemon.until_state("wire", "waiting");
    // Not up at once, so that it has its address when it is looked at.
    let name = spaces.name("peer");
    spaces.ip(
        "sw",
        &format!("link add up0 type veth peer name p0 netns {name}"),
    );
    spaces.ip("sw", "addr add 10.1.0.1/24 dev up0");
    spaces.ip("sw", "link set up0 up");
    spaces.ip("peer", "link set p0 up");
    daemon.until("it is refused", |daemon| {
        waits_for(daemon).contains("has the address 10.1.0.1/24")
    });
    spaces.ip("sw", "addr flush dev up0");
    daemon.until_state("wire", "up");
}

#[test]
fn unused_uplink_is_no_error_and_named() {
    let Some(spaces) = with_device() else { return };
    let dir = folder();
    let file = write(&dir, &TOPOLOGY.replace("{ uplink: wire }", "{}"));
    let output = spaces.weir("sw").arg("check").arg(file).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && said.contains("note: uplink wire is used by no network"),
        "{said}"
    );
}
