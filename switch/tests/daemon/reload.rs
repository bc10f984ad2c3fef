//! The topology's files change while guests send, and are read again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use guest::{Guest, Options};
use rustix::process::Signal;

use crate::rig::{Daemon, exchange, frame, introduce, receive, send, write};

/// VMs in one network, each with the keys of its NIC beside `NAME.sock`.
fn vms(vms: &[(&str, &str)]) -> String {
    let vm = |(name, keys): &(&str, &str)| {
        format!(
            "  {name}: {{ nics: {{ net0: {{ network: blue, vhost-user: {{ path: DIR/{name}.sock \
            }}{keys} }} }} }}\n"
        )
    };
    let vms: String = vms.iter().map(vm).collect();
    format!(
        "cores: [CPU]\ncontrol: {{ path: DIR/control.sock }}\nnetworks: {{ blue: {{ mtu: 9000 }}, \
        red: {{}} }}\nvms:\n{vms}"
    )
}

impl Daemon {
    /// Changes the topology's file, has it read, and says whether it is in force now.
    pub(crate) fn reload(&mut self, topology: &str) -> bool {
        write(&self.dir, topology);
        let count = |daemon: &Self, what: &str| daemon.log().matches(what).count();
        let before = ["is in force", "nothing has been changed"].map(|what| count(self, what));
        self.signal(Signal::HUP);
        let mut is_done = false;
        self.until("the file has been read", |daemon| {
            is_done = count(daemon, "is in force") > before[0];
            is_done || count(daemon, "nothing has been changed") > before[1]
        });
        is_done
    }

    fn connects(&self, port: &str) -> u64 {
        self.port(port)["connection"]["connections"]
            .as_u64()
            .unwrap()
    }

    fn names(&self) -> Vec<String> {
        let ports = self.json(&["ports"]);
        let ports = ports.as_array().unwrap();
        ports
            .iter()
            .map(|port| port["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn two() -> String {
    vms(&[("a", ""), ("b", "")])
}

/// A daemon with two guests who have heard of each other.
fn start() -> (Daemon, [Guest; 2]) {
    let daemon = Daemon::start(&two());
    let guests = daemon.guests(["a", "b"]);
    (daemon, guests)
}

#[test]
fn vms_come_and_go_while_others_exchange_frames() {
    let (mut daemon, [mut a, mut b]) = start();
    for n in 0..20 {
        let name = format!("new{n}");
        assert!(daemon.reload(&vms(&[(&name, ""), ("a", ""), ("b", "")])));
        let mut new = daemon.guest(&format!("{name}.sock"), Options::default());
        introduce((1, &mut a), (3, &mut new));
        exchange((1, &mut a), (3, &mut new), 20);
        exchange((1, &mut a), (2, &mut b), 20);
        assert!(daemon.reload(&two()));
        assert!(!daemon.path(&format!("{name}.sock")).exists());
        exchange((2, &mut b), (1, &mut a), 20);
    }
    assert_eq!(daemon.names(), ["a/net0", "b/net0"]);
    assert_eq!(
        (daemon.connects("a/net0"), daemon.connects("b/net0")),
        (1, 1)
    );
    for port in ["a/net0", "b/net0"] {
        // A guest that greets another one goes on while that has no buffers yet.
        let drops = daemon.port(port)["drops"].as_array().unwrap().clone();
        let is_of_switch = |drop: &&serde_json::Value| drop["reason"] != "receiver-full";
        assert_eq!(drops.iter().find(is_of_switch), None, "{port}");
    }
}

/// The id of the one is the other's then.
#[test]
fn vm_that_comes_after_another_gets_nothing_that_was_for_the_other() {
    let (mut daemon, [mut a, _b]) = start();
    assert!(daemon.reload(&vms(&[("a", ""), ("b", ""), ("old", "")])));
    let mut old = daemon.guest("old.sock", Options::default());
    introduce((1, &mut a), (3, &mut old));
    exchange((1, &mut a), (3, &mut old), 50);
    assert!(daemon.reload(&vms(&[("a", ""), ("b", "")])));
    assert!(daemon.reload(&vms(&[("a", ""), ("b", ""), ("new", "")])));
    let port = daemon.port("new/net0");
    let counters = port["counters"].as_object().unwrap();
    assert!(counters.values().all(|n| n == 0), "{counters:?}");
    assert_eq!(port["addresses"]["known"], 0);
    let mut new = daemon.guest("new.sock", Options::default());
    daemon.until_state("new/net0", "up");
    // What is for the old address is flooded as for any that is unknown.
    send(&mut a, &frame(1, 3, 100, 7));
    assert_eq!(receive(&mut new), frame(1, 3, 100, 7));
    let macs = daemon.json(&["macs"]);
    let is_old = |row: &serde_json::Value| row["mac"] == "02:00:00:00:00:03";
    assert!(!macs.as_array().unwrap().iter().any(is_old), "{macs}");
    send(&mut new, &frame(4, 1, 100, 8));
    assert_eq!(receive(&mut a), frame(4, 1, 100, 8));
}

#[test]
fn file_with_an_error_changes_nothing() {
    let (mut daemon, [mut a, mut b]) = start();
    let good = vms(&[("a", ""), ("b", ""), ("c", "")]);
    for bad in [
        good.replace("network: blue", "network: blau"),
        good.replace("vms:", "  vms:"),
        good.replace("DIR/c.sock", "DIR/a.sock"),
        good.replace("DIR/c.sock", "DIR/nowhere/c.sock"),
        good.replace("control:", "flows: 4096\ncontrol:"),
        good.replace("control:", "ports: 17\ncontrol:"),
        String::new(),
    ] {
        assert!(!daemon.reload(&bad), "{bad}");
        assert_eq!(daemon.names(), ["a/net0", "b/net0"]);
        assert!(!daemon.path("c.sock").exists());
        exchange((1, &mut a), (2, &mut b), 20);
    }
    assert!(daemon.reload(&good));
    assert_eq!(
        (daemon.connects("a/net0"), daemon.connects("b/net0")),
        (1, 1)
    );
}

/// What comes before it has been done already.
#[test]
fn change_of_which_one_step_fails_is_undone() {
    let (mut daemon, [mut a, mut b]) = start();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let before = mode(daemon.path("a.sock"));
    let vm = "  z: { nics: { net0: { network: blue, vhost-user: { path: DIR/no/z.sock } }, t: { \
        network: red, afxdp: { device: weir-no-such } } } }\n";
    let bad = vms(&[
        ("b", ", queues: 4"),
        ("c", ""),
        ("d", ", mac: 02:00:00:00:00:09"),
    ]) + vm;
    let bad = bad.replace("path: DIR/b.sock", "path: DIR/b.sock, mode: \"0600\"");
    let n_files = daemon.n_files();
    for _ in 0..3 {
        assert!(!daemon.reload(&bad));
        assert_eq!(daemon.names(), ["a/net0", "b/net0"]);
        exchange((1, &mut a), (2, &mut b), 20);
        assert_eq!(mode(daemon.path("a.sock")), before);
        let mut left: Vec<_> = fs::read_dir(daemon.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sock") || name.starts_with('.'))
            .collect();
        left.sort();
        assert_eq!(left, ["a.sock", "b.sock", "control.sock"]);
        assert_eq!(daemon.n_files(), n_files);
        let macs = daemon.json(&["macs"]);
        assert_eq!(macs.as_array().unwrap().len(), 2, "{macs}");
    }
    assert_eq!(
        (daemon.connects("a/net0"), daemon.connects("b/net0")),
        (1, 1)
    );
}

#[test]
fn guest_that_cannot_follow_is_reconnected_and_no_other() {
    let (mut daemon, [mut a, b]) = start();
    assert!(daemon.reload(&vms(&[("a", ""), ("b", ", queues: 4")])));
    daemon.until_state("b/net0", "waiting");
    drop(b);
    let options = Options {
        n_queue_pairs: 4,
        ..Options::default()
    };
    let mut b = daemon.guest("b.sock", options);
    introduce((1, &mut a), (2, &mut b));
    exchange((1, &mut a), (2, &mut b), 20);
    assert_eq!(daemon.connects("a/net0"), 1);
    assert_eq!(daemon.port("b/net0")["connection"]["queue_pairs"], 4);
    // Off, and on again.
    assert!(daemon.reload(&vms(&[("a", ""), ("b", ", queues: 4, enabled: false")])));
    daemon.until_state("b/net0", "disabled");
    daemon.until("its socket is gone", |daemon| {
        !daemon.path("b.sock").exists()
    });
    drop(b);
    assert!(daemon.reload(&two()));
    let mut b = daemon.guest("b.sock", Options::default());
    introduce((1, &mut a), (2, &mut b));
    exchange((2, &mut b), (1, &mut a), 20);
    assert_eq!(daemon.connects("a/net0"), 1);
}

#[test]
fn two_vms_exchange_their_paths() {
    let (mut daemon, guests) = start();
    let swapped = two()
        .replace("DIR/a.sock", "DIR/x")
        .replace("DIR/b.sock", "DIR/a.sock")
        .replace("DIR/x", "DIR/b.sock");
    assert!(daemon.reload(&swapped));
    drop(guests);
    let b = daemon.guest("a.sock", Options::default());
    daemon.until_state("b/net0", "up");
    daemon.until_state("a/net0", "waiting");
    drop(b);
    assert!(daemon.path("a.sock").exists() && daemon.path("b.sock").exists());
}

#[test]
fn rules_networks_limits_and_modes_change_under_a_guest() {
    let (mut daemon, [mut a, mut b]) = start();
    let deny = ", rules: [ { deny: { from-vm: { proto: non-ip } } } ]";
    assert!(daemon.reload(&vms(&[("a", deny), ("b", "")])));
    send(&mut a, &frame(1, 2, 100, 1));
    daemon.until("the rule denies it", |daemon| {
        daemon.dropped("a/net0", "denied") == 1
    });
    assert!(daemon.reload(&two()));
    exchange((1, &mut a), (2, &mut b), 20);
    // Another network, and back.
    assert!(daemon.reload(&two().replacen("network: blue", "network: red", 1)));
    assert_eq!(daemon.port("a/net0")["networks"][0], "red");
    send(&mut a, &frame(1, 2, 100, 2));
    daemon.until("nobody is there", |daemon| {
        daemon.dropped("a/net0", "no-destination") >= 1
    });
    assert!(daemon.reload(&two()));
    introduce((1, &mut a), (2, &mut b));
    exchange((1, &mut a), (2, &mut b), 20);
    let limited = two().replace("  b: {", "  b: { limit: { from-vm: { rate: 1gbit } },");
    assert!(daemon.reload(&limited));
    assert_eq!(daemon.json(&["limits"])[0]["name"], "b");
    exchange((2, &mut b), (1, &mut a), 20);
    assert!(daemon.reload(&two().replace("DIR/b.sock", "DIR/b.sock, mode: \"0600\"")));
    let mode = fs::metadata(daemon.path("b.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    exchange((1, &mut a), (2, &mut b), 20);
    assert_eq!(
        (daemon.connects("a/net0"), daemon.connects("b/net0")),
        (1, 1)
    );
}
