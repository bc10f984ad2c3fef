//! NICs with `enabled: false`: they keep their place, and nothing of them is there.

use std::path::Path;

use crate::rig::{Daemon, receive, send, weir};

const TOPOLOGY: &str = "\
cores: [CPU]
ports: 5
control: { path: DIR/control.sock }
networks: { blue: {} }
vms:
  a:
    labels: { owner: shop }
    nics:
      off: { enabled: false, network: blue, vhost-user: { path: DIR/off.sock } }
      net0: { network: blue, vhost-user: { path: DIR/a.sock } }
      tap: { enabled: false, network: blue, tap: { name: weir-no-such } }
  b:
    nics:
      net0: { enabled: true, network: blue, vhost-user: { path: DIR/b.sock } }
      out: { enabled: false, network: blue, vhost-user: { path: DIR/out.sock, listens: guest } }
";

/// A broadcast frame from station 1.
fn frame() -> Vec<u8> {
    let mut bytes = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 0x88, 0xb5]].concat();
    bytes.resize(60, 7);
    bytes
}

#[test]
fn disabled_nic_has_no_socket_and_no_device_and_others_do_not_notice() {
    let daemon = Daemon::start(TOPOLOGY);
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    send(&mut a, &frame());
    assert_eq!(receive(&mut b), frame());
    assert!(daemon.path("a.sock").exists() && !daemon.path("off.sock").exists());
    assert!(!Path::new("/sys/class/net/weir-no-such").exists());
    for port in ["a/off", "a/tap", "b/out"] {
        let port = daemon.port(port);
        assert_eq!(port["state"], "disabled");
        assert_eq!(
            port["sentence"],
            "disabled: the topology says `enabled: false`"
        );
    }
    // Order and number are those of the file, whether enabled or not.
    let ports = daemon.json(&["ports"]);
    let names: Vec<_> = ports
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a/off", "a/net0", "a/tap", "b/net0", "b/out"]);
    // Whoever looks for the other end of a guest's socket finds that nobody has asked for it.
    assert_eq!(daemon.port("b/out")["connection"]["connections"], 0);
}

#[test]
fn check_does_not_look_for_the_device_of_a_disabled_nic() {
    let dir = tempfile::tempdir().unwrap();
    let text = |enabled| {
        format!(
            "cores: [0]\nnetworks: {{ b: {{}} }}\nvms: {{ a: {{ nics: {{ n: {{ enabled: {enabled}, \
            network: b, afxdp: {{ device: weir-no-such }} }} }} }} }}\n"
        )
    };
    let checked = |enabled| {
        let file = dir.path().join("weir.yaml");
        std::fs::write(&file, text(enabled)).unwrap();
        let output = weir().arg("check").arg(&file).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(checked(true).contains("there is no device weir-no-such"));
    let quiet = checked(false);
    assert!(
        quiet.contains("no errors") && !quiet.contains("no device"),
        "{quiet}"
    );
}
