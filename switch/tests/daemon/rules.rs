//! Rules of the file, in force and on show.

use crate::rig::{Daemon, folder, receive, send, weir, write};

const TOPOLOGY: &str = "\
cores: [CPU]
control: { path: DIR/control.sock }
networks: { blue: {} }
vms:
  a:
    nics:
      net0:
        network: blue
        vhost-user: { path: DIR/a.sock }
        rules: [ { deny: { from-vm: { proto: udp, cidr: 10.0.0.0/8 } } }, { allow: { from-vm: { \
        proto: tcp } } } ]
  b:
    nics:
      net0: { network: blue, vhost-user: { path: DIR/b.sock }, rules: [ { deny: { to-vm: { proto: \
      tcp, port: 25 } } } ] }
";

/// From station 1 to station 2, from 10.0.0.1 to 10.0.0.2.
fn packet(proto: u8, port: u8) -> Vec<u8> {
    let ip = [
        8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0x88, 0,
        port,
    ];
    let mut bytes = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &ip[..]].concat();
    bytes.resize(60, port);
    bytes
}

#[test]
fn rules_are_in_force_and_on_show() {
    let mut daemon = Daemon::start(TOPOLOGY);
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    // Frames keep their order: what comes first shows what didn't come before it.
    for _ in 0..3 {
        for (denied, passes) in [((6, 25), (6, 80)), ((17, 80), (1, 8))] {
            send(&mut a, &packet(denied.0, denied.1));
            send(&mut a, &packet(passes.0, passes.1));
            assert_eq!(receive(&mut b), packet(passes.0, passes.1));
        }
    }
    daemon.until("all are counted", |daemon| {
        let b = daemon.port("b/net0");
        daemon.dropped("a/net0", "denied") == 6 && b["counters"]["missed_denied_frames"] == 3
    });
    let text = |port: &str| String::from_utf8(daemon.show(&["port", port]).stdout).unwrap();
    let (a, b) = (text("a/net0"), text("b/net0"));
    assert!(
        a.contains(
            "1     deny from-vm: proto udp, cidr 10.0.0.0/8\n2     allow from-vm: proto tcp\n"
        ),
        "{a}"
    );
    assert!(
        a.contains("0 of those missed, by its rules; 6 of those it sent\n"),
        "{a}"
    );
    assert!(b.contains("1     deny to-vm: proto tcp, port 25\n"), "{b}");
    assert!(
        b.contains("3 of those missed, by its rules; 0 of those it sent\n"),
        "{b}"
    );
}

#[test]
fn check_remarks_on_rules_that_do_nothing_and_refuses_those_never_reached() {
    let dir = folder();
    let path = write(&dir, TOPOLOGY);
    let output = weir().arg("check").arg(&path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success()
            && text.contains("\nnote: rule `allow from-vm: proto tcp` of a/net0"),
        "{text}"
    );
    let path = write(
        &dir,
        &TOPOLOGY.replace(
            "{ proto: tcp } } }",
            "{ proto: udp, cidr: 10.1.0.0/16, port: 53 } } }",
        ),
    );
    let output = weir().arg("check").arg(&path).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && text.contains("never reached: the one on line 10 denies all"),
        "{text}"
    );
}
