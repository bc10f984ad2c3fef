//! What is not taken: each is refused at once, by name, with what to do; and nothing is changed.

use std::sync::Arc;

use crate::rig::{Daemon, folder, write};
use crate::space::{Spaces, spaces};

/// A topology with one uplink on the device `up0`, whose further keys are `keys`.
fn uplink(keys: &str) -> String {
    format!(
        "cores: [CPU]\ncontrol: {{ path: DIR/control.sock }}\nuplinks: {{ wire: {{ device: \
        up0{keys} }} }}\n\
         networks: {{ blue: {{ uplink: wire }} }}\n"
    )
}

/// A namespace with the device `up0`, whose other end is in another.
fn with_device() -> Option<Spaces> {
    let spaces = spaces(&["sw", "peer"])?;
    spaces.veth(("sw", "up0"), ("peer", "p0"), 1);
    Some(spaces)
}

fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

/// What `weir check` says, and whether all is well.
fn checked(spaces: &Spaces, topology: &str) -> (bool, String) {
    let dir = folder();
    let output = spaces
        .weir("sw")
        .arg("check")
        .arg(write(&dir, topology))
        .output()
        .unwrap();
    (
        output.status.success(),
        [output.stdout, output.stderr]
            .map(|text| String::from_utf8(text).unwrap())
            .concat(),
    )
}

#[test]
fn device_that_is_missing_or_elsewhere_is_refused_with_the_nearest() {
    let Some(spaces) = with_device() else { return };
    let file = uplink("").replace("device: up0", "device: upo");
    let said = spaces.refusal("sw", &file);
    assert_says(
        &said,
        &[
            "wire: there is no device upo",
            "did you mean up0?",
            "here there are",
            "another namespace",
        ],
    );
    // A file can be checked on another machine than its own.
    let (is_fine, said) = checked(&spaces, &file);
    assert!(is_fine, "{said}");
    assert_says(&said, &["note: not checked: wire: there is no device upo"]);
    // The other end is in another namespace.
    let said = spaces.refusal("sw", &uplink("").replace("device: up0", "device: p0"));
    assert_says(&said, &["there is no device p0 in this network namespace"]);
}

#[test]
fn device_that_the_host_uses_is_refused_by_what_it_is_used_for() {
    let Some(spaces) = with_device() else { return };
    let refused = |parts: &[&str]| {
        let said = spaces.refusal("sw", &uplink(""));
        assert_says(&said, parts);
        assert_says(&said, &["wire: up0 ", "`take: true`"]);
        let (is_fine, said) = checked(&spaces, &uplink(""));
        assert!(!is_fine, "{said}");
        assert_says(&said, parts);
    };
    spaces.ip("sw", "addr add 10.1.0.1/24 dev up0");
    refused(&[
        "has the address 10.1.0.1/24",
        "has the route to 10.1.0.0/24",
    ]);
    spaces.ip("sw", "addr flush dev up0");
    spaces.ip("sw", "route add 10.2.0.0/16 dev up0");
    refused(&["has the route to 10.2.0.0/16"]);
    spaces.ip("sw", "route flush dev up0");
    spaces.ip("sw", "link add br7 type bridge");
    spaces.ip("sw", "link set up0 master br7");
    refused(&["belongs to br7"]);
    spaces.ip("sw", "link set up0 nomaster");
    let (is_fine, said) = checked(&spaces, &uplink(""));
    assert!(is_fine && !said.contains("note:"), "{said}");
}

#[test]
fn device_in_use_is_taken_where_the_file_says_so() {
    let Some(spaces) = with_device() else { return };
    spaces.ip("sw", "addr add 10.1.0.1/24 dev up0");
    let mut daemon = Daemon::start_by(
        Arc::new(folder()),
        &uplink(", take: true"),
        spaces.weir("sw"),
    );
    daemon.until_state("wire", "up");
}

#[test]
fn device_with_fewer_queues_or_too_small_an_mtu_is_refused() {
    let Some(spaces) = with_device() else { return };
    let said = spaces.refusal("sw", &uplink(", queues: 3"));
    assert_says(
        &said,
        &["wire: up0 has 1 queue at most, not 3", "`queues: auto`"],
    );
    let said = spaces.refusal(
        "sw",
        &uplink("").replace("uplink: wire }", "uplink: wire, mtu: 3000 }"),
    );
    assert_says(
        &said,
        &[
            "up0 has an MTU of 1500, too small for network blue with 3000",
            "`ip link set up0 mtu 3000`",
        ],
    );
    spaces.ip("sw", "link set up0 mtu 9000");
    assert_says(
        &spaces.refusal("sw", &uplink("")),
        &[
            "up0 has an MTU of 9000",
            "ends at 3506",
            "`ip link set up0 mtu 3498`",
        ],
    );
}

#[test]
fn device_without_xdp_is_refused_unless_skb_mode_will_do() {
    let Some(spaces) = with_device() else { return };
    spaces.ip("sw", "link add br7 type bridge");
    spaces.ip("sw", "link set br7 up");
    let on_bridge = |keys: &str| uplink(keys).replace("device: up0", "device: br7");
    for mode in ["copy", "zero-copy"] {
        let said = spaces.refusal("sw", &on_bridge(&format!(", mode: {mode}")));
        assert_says(
            &said,
            &["wire: ", "br7", "`mode: skb` works with every driver"],
        );
    }
}

#[test]
fn device_that_has_a_program_already_is_refused() {
    let Some(spaces) = with_device() else { return };
    let mut first = Daemon::start_by(Arc::new(folder()), &uplink(""), spaces.weir("sw"));
    first.until_state("wire", "up");
    assert_says(
        &spaces.refusal("sw", &uplink("")),
        &["up0 has an XDP program", "another weir"],
    );
    // It may be the daemon that runs the very file.
    let (is_fine, said) = checked(&spaces, &uplink(""));
    assert!(is_fine, "{said}");
    assert_says(&said, &["note: wire: up0 has an XDP program"]);
}

#[test]
fn every_capability_that_is_missing_is_named() {
    let Some(spaces) = with_device() else { return };
    for capability in ["net_raw", "net_admin", "bpf"] {
        let mut command = spaces.command("sw", "setpriv");
        // CAP_SYS_ADMIN would stand in for CAP_BPF.
        command
            .arg(format!("--bounding-set=-{capability},-sys_admin"))
            .arg(env!("CARGO_BIN_EXE_weir"));
        let (_, said) = spaces.refusal_by(command, &uplink(""));
        let name = format!("CAP_{}", capability.to_uppercase());
        assert_says(
            &said,
            &[
                &format!("need {name}, which this process lacks"),
                "run weir as root",
                "AmbientCapabilities=",
            ],
        );
    }
    assert_untouched(&spaces);
}

#[test]
fn too_little_locked_memory_is_refused_with_what_to_raise() {
    let Some(spaces) = with_device() else { return };
    let mut command = spaces.command("sw", "prlimit");
    command
        .args([
            "--memlock=65536:65536",
            "setpriv",
            "--bounding-set=-ipc_lock",
        ])
        .arg(env!("CARGO_BIN_EXE_weir"));
    let (_, said) = spaces.refusal_by(command, &uplink(""));
    assert_says(&said, &["wire: ", "CAP_IPC_LOCK"]);
    assert_untouched(&spaces);
}

#[test]
fn four_capabilities_are_enough() {
    let Some(spaces) = with_device() else { return };
    let mut command = spaces.command("sw", "setpriv");
    command
        .args(["--bounding-set=-all,+net_raw,+net_admin,+bpf,+ipc_lock"])
        .arg(env!("CARGO_BIN_EXE_weir"));
    let mut daemon = Daemon::start_by(Arc::new(folder()), &uplink(""), command);
    daemon.until_state("wire", "up");
}

#[test]
fn device_that_is_down_is_waited_for() {
    let Some(spaces) = with_device() else { return };
    spaces.ip("sw", "link set up0 down");
    let mut daemon = Daemon::start_by(Arc::new(folder()), &uplink(""), spaces.weir("sw"));
    let waits = |daemon: &Daemon| {
        daemon.port("wire")["sentence"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    daemon.until("it says so", |daemon| {
        waits(daemon) == "up0 is down: `ip link set up0 up`"
    });
    let shown = String::from_utf8(daemon.show(&["uplinks"]).stdout).unwrap();
    assert_says(&shown, &["wire", "up0", "waiting", "is down"]);
    let (is_fine, said) = checked(&spaces, &uplink(""));
    assert!(is_fine, "{said}");
    assert_says(&said, &["note: wire: up0 is down"]);
    spaces.ip("sw", "link set up0 up");
    daemon.until_state("wire", "up");
}

/// A refusal leaves the device as it was.
fn assert_untouched(spaces: &Spaces) {
    let link = spaces.ip("sw", "-d link show up0");
    assert!(
        !link.contains("xdp") && link.contains("promiscuity 0"),
        "{link}"
    );
    let offloads = spaces.run("sw", "ethtool -k up0");
    assert!(offloads.contains("rx-vlan-offload: on"), "{offloads}");
}
