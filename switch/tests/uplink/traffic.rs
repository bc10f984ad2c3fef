//! Ping, TCP, software guests and VLANs through devices.

use std::sync::Arc;
use std::time::Duration;

use guest::{Guest, Options};
use rustix::process::Signal;

use crate::hosts::{Answering, assert_checksums, host, ip, ping, ping_from, tcp};
use crate::packet::Packets;
use crate::rig::{Daemon, folder, weir};
use crate::space::{Spaces, spaces};

/// Keys of a topology that polls on these CPUs.
fn head(cpus: &str) -> String {
    format!("cores: [{cpus}]\ncontrol: {{ path: DIR/control.sock }}\n")
}

fn start(spaces: &Spaces, topology: &str, ports: &[&str]) -> Daemon {
    let mut daemon = Daemon::start_by(Arc::new(folder()), topology, spaces.weir("sw"));
    for port in ports {
        daemon.until_state(port, "up");
    }
    daemon
}

/// Every frame that came in is accounted for, on every port and over all.
fn assert_balanced(daemon: &mut Daemon) {
    daemon.until("all counters add up", |daemon| {
        let ports = daemon.json(&["ports"]);
        let get = |port: &serde_json::Value, name: &str| port["counters"][name].as_u64().unwrap();
        let total = |name| {
            ports
                .as_array()
                .unwrap()
                .iter()
                .map(|port| get(port, name))
                .sum::<u64>()
        };
        let is_balanced = |port| {
            get(port, "rx_frames") + get(port, "copied_frames")
                == get(port, "forwarded_frames") + get(port, "dropped_frames")
        };
        ports.as_array().unwrap().iter().all(is_balanced)
            && total("forwarded_frames") == total("tx_frames")
    });
}

/// Two containers in one network, each on a device.
fn two_containers() -> Option<(Spaces, String)> {
    let spaces = spaces(&["sw", "a", "b"])?;
    host(&spaces, "a", 1, 1);
    host(&spaces, "b", 2, 1);
    let nic =
        |role| format!("{{ nics: {{ n: {{ network: blue, afxdp: {{ device: to-{role} }} }} }} }}");
    let topology = format!(
        "{}networks: {{ blue: {{}} }}\nvms:\n  a: {}\n  b: {}\n",
        head("CPU"),
        nic("a"),
        nic("b")
    );
    Some((spaces, topology))
}

#[test]
fn namespaces_talk_with_offloads_as_the_kernel_sets_them() {
    let Some((spaces, topology)) = two_containers() else {
        return;
    };
    let mut daemon = start(&spaces, &topology, &["a/n", "b/n"]);
    let offloads = spaces.run("a", "ethtool -k h0");
    assert!(offloads.contains("tx-checksumming: on"), "{offloads}");
    ping(&spaces, "a", 2, 500);
    ping(&spaces, "b", 1, 500);
    for options in ["", "-R", "-P 4", "--bidir"] {
        let rate = tcp(&spaces, "a", ("b", 2), 2, options);
        assert!(rate > 50e6, "{rate} bit/s");
    }
    // Datagrams that are cut into fragments, and such that are not.
    let udp = tcp(&spaces, "a", ("b", 2), 1, "-u -b 50M -l 1400");
    assert!(udp > 20e6, "{udp} bit/s");
    let fragments = tcp(&spaces, "a", ("b", 2), 1, "-u -b 50M -l 4000");
    assert!(fragments > 20e6, "{fragments} bit/s");
    assert_checksums(&spaces, "a");
    assert_checksums(&spaces, "b");
    assert_balanced(&mut daemon);
}

#[test]
fn skb_mode_carries_tcp_when_what_it_names_is_off() {
    let Some(spaces) = spaces(&["sw", "a", "b"]) else {
        return;
    };
    host(&spaces, "a", 1, 1);
    host(&spaces, "b", 2, 1);
    let topology = format!(
        "{}uplinks: {{ wire: {{ device: to-a, mode: skb }} }}\nnetworks: {{ blue: {{ uplink: wire \
        }} }}\n\
         vms: {{ b: {{ nics: {{ n: {{ network: blue, afxdp: {{ device: to-b, mode: skb }} }} }} }} \
         }}\n",
        head("CPU")
    );
    let mut daemon = start(&spaces, &topology, &["wire", "b/n"]);
    let uplink = daemon.json(&["uplinks"])[0].clone();
    assert_eq!(
        (
            &uplink["device"]["xdp"]["mode"],
            &uplink["device"]["xdp"]["zero_copy"]
        ),
        (&"skb".into(), &false.into()),
        "{uplink}"
    );
    let nic = daemon.port("b/n");
    assert_eq!(nic["device"]["xdp"]["mode"], "skb", "{nic}");
    // What is said there is what is done here.
    for (role, port) in [("a", uplink), ("b", nic)] {
        let remark = port["remarks"][0].as_str().unwrap();
        let command = remark.split('`').nth(1).unwrap().replace("<device>", "h0");
        assert!(command.starts_with("ethtool -K h0 "), "{remark}");
        spaces.run(role, &command);
    }
    ping(&spaces, "a", 2, 500);
    for options in ["", "-R"] {
        let rate = tcp(&spaces, "a", ("b", 2), 2, options);
        assert!(rate > 50e6, "{rate} bit/s");
    }
    assert_checksums(&spaces, "a");
    assert_checksums(&spaces, "b");
    assert_balanced(&mut daemon);
}

#[test]
fn what_the_kernel_lost_of_a_nic_is_shown() {
    let Some((spaces, topology)) = two_containers() else {
        return;
    };
    let mut daemon = start(&spaces, &topology, &["a/n", "b/n"]);
    let lost = |daemon: &Daemon, port: &str| {
        let lost = daemon.port(port)["device"]["lost"].clone();
        lost["rx_no_buffer_frames"].as_u64().unwrap()
            + lost["rx_ring_full_frames"].as_u64().unwrap()
    };
    let container = Packets::open(&spaces, "a", "h0");
    // While nobody fetches, more frames than there is memory for.
    daemon.signal(Signal::STOP);
    let n_sent = (0..20_000)
        .filter(|_| container.try_send(&[0xff; 60]))
        .count();
    assert!(n_sent > 10_000, "{n_sent}");
    daemon.signal(Signal::CONT);
    daemon.until("it is shown", |daemon| lost(daemon, "a/n") > 0);
    assert_eq!(lost(&daemon, "b/n"), 0);
    let text = String::from_utf8(daemon.show(&["port", "a/n"]).stdout).unwrap();
    let said = text
        .lines()
        .find(|line| line.starts_with("lost "))
        .unwrap_or_default();
    assert!(
        said.contains(&format!(" {} frames: ", lost(&daemon, "a/n"))),
        "{text}"
    );
    let top = weir()
        .args(["top", "--once", "--control"])
        .arg(daemon.path("control.sock"))
        .output()
        .unwrap();
    let top = String::from_utf8(top.stdout).unwrap();
    assert!(
        top.contains(&format!("{} lost in the kernel", lost(&daemon, "a/n"))),
        "{top}"
    );
    assert_balanced(&mut daemon);
}

/// An uplink to `a`, and guests `g` and `h` in networks of these keys beside `uplink: wire`.
fn with_guests(networks: [&str; 2]) -> Option<(Spaces, Daemon)> {
    let spaces = spaces(&["sw", "a"])?;
    host(&spaces, "a", 1, 1);
    let [g, h] = networks;
    let nic = |name: &str| {
        format!(
            "{{ nics: {{ n: {{ network: {name}, vhost-user: {{ path: DIR/{name}.sock }} }} }} }}"
        )
    };
    let topology = format!(
        "{}uplinks: {{ wire: {{ device: to-a }} }}\nnetworks:\n  g: {{ uplink: wire{g} }}\n  h: {{ \
        uplink: wire{h} }}\n\
         vms:\n  g: {}\n  h: {}\n",
        head("CPU"),
        nic("g"),
        nic("h")
    );
    let daemon = start(&spaces, &topology, &["wire"]);
    Some((spaces, daemon))
}

#[test]
fn namespace_and_software_guest_talk_both_ways() {
    let Some((spaces, mut daemon)) = with_guests(["", ", vlan: 100"]) else {
        return;
    };
    let answering = Answering::start(&daemon, "g.sock", 3);
    daemon.until_state("g/n", "up");
    ping(&spaces, "a", 3, 500);
    let mut guest = answering.guest();
    ping_from(&mut guest, 3, 1, 200);
    guest.driver.assert_intact();
    let macs = daemon.json(&["macs"]);
    let of = |port: &str| {
        macs.as_array()
            .unwrap()
            .iter()
            .filter(|mac| mac["port"] == port)
            .count()
    };
    assert_eq!((of("wire"), of("g/n")), (1, 1), "{macs}");
    assert_checksums(&spaces, "a");
    assert_balanced(&mut daemon);
    let ports = String::from_utf8(daemon.show(&["ports"]).stdout).unwrap();
    assert!(ports.contains("wire") && ports.contains("g,h"), "{ports}");
    assert!(
        String::from_utf8(daemon.show(&["port", "wire"]).stdout)
            .unwrap()
            .contains("up")
    );
}

const TYPE: [u8; 2] = [0x88, 0xb5];

/// A frame from one station to another with these tags, each of the usual kind, and a body that can
/// be told from others.
fn tagged(from: u8, to: u8, tags: &[u16], body: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from];
    for tag in tags {
        frame.extend([0x81, 0]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(TYPE);
    frame.resize(100, body);
    frame
}

/// The frame that a guest receives next, of those of this test.
fn received(guest: &mut Guest) -> Vec<u8> {
    let begin = std::time::Instant::now();
    loop {
        match guest.recv(0) {
            Some(frame) if frame[12..].windows(2).take(9).any(|bytes| bytes == TYPE) => {
                return frame;
            }
            Some(_) => {}
            None => {
                assert!(
                    guest.wait(Duration::from_millis(100))
                        || begin.elapsed() < crate::rig::PATIENCE,
                    "no frame"
                )
            }
        }
    }
}

#[test]
fn tags_are_on_the_wire_and_nowhere_else() {
    let Some((spaces, mut daemon)) = with_guests([", vlan: 100", ""]) else {
        return;
    };
    let (mut g, mut h) = (
        daemon.guest("g.sock", Options::default()),
        daemon.guest("h.sock", Options::default()),
    );
    daemon.until_state("g/n", "up");
    daemon.until_state("h/n", "up");
    let wire = Packets::open(&spaces, "a", "h0");
    let mut seen = spaces.spawn(
        "a",
        "tcpdump -l -e -n -i h0 -Q in -c 2 'ether src 02:00:00:00:00:03 or ether src \
            02:00:00:00:00:04'",
    );
    seen.until_says("listening on");
    // Out: each network's frames carry its tag, or none.
    g.send(0, &tagged(3, 1, &[], 7));
    assert!(
        wire.receive(|frame| frame[6..12] == [2, 0, 0, 0, 0, 3])
            .ends_with(&[7; 50])
    );
    h.send(0, &tagged(4, 1, &[], 8));
    assert!(
        wire.receive(|frame| frame[6..12] == [2, 0, 0, 0, 0, 4])
            .ends_with(&[8; 50])
    );
    let seen = seen.ended();
    let line = |source: &str| {
        seen.lines()
            .find(|line| line.contains(source))
            .unwrap_or_else(|| panic!("{seen}"))
            .to_owned()
    };
    assert!(
        line("02:00:00:00:00:03 >").contains("802.1Q")
            && line("02:00:00:00:00:03 >").contains("vlan 100"),
        "{seen}"
    );
    assert!(!line("02:00:00:00:00:04 >").contains("vlan"), "{seen}");
    // In: taken off, and what is inside of it is left alone.
    wire.send(&tagged(1, 3, &[100], 1));
    assert_eq!(received(&mut g)[12..], [&TYPE[..], &[1; 82]].concat());
    wire.send(&tagged(1, 3, &[100, 7], 2));
    assert_eq!(received(&mut g)[12..], tagged(1, 3, &[7], 2)[12..96]);
    // A tag that says a priority alone is none.
    wire.send(&tagged(1, 4, &[5 << 13], 3));
    assert_eq!(received(&mut h)[12..14], TYPE);
    wire.send(&tagged(1, 4, &[], 4));
    assert_eq!(received(&mut h), tagged(1, 4, &[], 4));
    // A VLAN of nobody, and a guest that makes tags itself.
    wire.send(&tagged(1, 3, &[300], 5));
    daemon.until("it is dropped", |daemon| {
        daemon.dropped("wire", "unknown-vlan") == 1
    });
    g.send(0, &tagged(3, 1, &[100], 6));
    h.send(0, &tagged(4, 1, &[100], 6));
    daemon.until("they are dropped", |daemon| {
        daemon.dropped("g/n", "tagged") == 1 && daemon.dropped("h/n", "tagged") == 1
    });
    // A guest's own priority is none either: to the wire its frame goes with the network's tag, or
    // without any.
    g.send(0, &tagged(3, 1, &[3 << 13], 7));
    assert!(
        wire.receive(|frame| frame[6..12] == [2, 0, 0, 0, 0, 3])
            .ends_with(&[7; 50])
    );
    h.send(0, &tagged(4, 1, &[3 << 13], 8));
    assert!(
        wire.receive(|frame| frame[6..12] == [2, 0, 0, 0, 0, 4])
            .ends_with(&[8; 50])
    );
    // But it brings no other tag through.
    h.send(0, &tagged(4, 1, &[0, 100], 9));
    daemon.until("it is dropped", |daemon| {
        daemon.dropped("h/n", "tagged") == 2
    });
    assert_balanced(&mut daemon);
}

#[test]
fn priority_tags_that_a_kernel_sends_by_a_veth_or_a_tap_count_as_none() {
    let Some(spaces) = spaces(&["sw", "a"]) else {
        return;
    };
    host(&spaces, "a", 1, 1);
    let topology = format!(
        "{}networks: {{ blue: {{}}, wired: {{ vlan: 9 }} }}\nvms:\n  a: {{ nics: {{ n: {{ network: \
        wired, macs: any, afxdp: \
         {{ device: to-a }} }} }} }}\n  b: {{ nics: {{ n: {{ network: wired, macs: any, tap: {{ \
         name: tap7 }} }} }} }}\n  \
         g: {{ nics: {{ n: {{ network: wired, vhost-user: {{ path: DIR/g.sock }} }} }} }}\n",
        head("CPU")
    );
    let mut daemon = start(&spaces, &topology, &["a/n"]);
    spaces.ip("sw", "link set tap7 up");
    daemon.until_state("b/n", "up");
    let mut g = daemon.guest("g.sock", Options::default());
    daemon.until_state("g/n", "up");
    let (veth, tap) = (
        Packets::open(&spaces, "a", "h0"),
        Packets::open(&spaces, "sw", "tap7"),
    );
    for (kernel, station, port) in [(&veth, 11, "a/n"), (&tap, 12, "b/n")] {
        for priority in [0, 5 << 13] {
            kernel.send(&tagged(station, 3, &[priority], 1));
            assert_eq!(
                received(&mut g)[12..],
                [&TYPE[..], &[1; 82]].concat(),
                "{port}"
            );
        }
        kernel.send(&tagged(station, 3, &[0, 9], 2));
        kernel.send(&tagged(station, 3, &[9], 2));
        daemon.until("they are dropped", |daemon| {
            daemon.dropped(port, "tagged") == 2
        });
    }
    assert_balanced(&mut daemon);
}

#[test]
fn two_uplinks_of_two_queues_are_served_by_two_cores() {
    let Some(spaces) = spaces(&["sw", "a", "b"]) else {
        return;
    };
    host(&spaces, "a", 1, 2);
    host(&spaces, "b", 2, 2);
    for role in ["a", "b"] {
        // So that a host's flows go by both.
        spaces.run(role, "ethtool -L h0 rx 2 tx 2");
    }
    let nic = |name: &str| {
        format!(
            "{{ nics: {{ n: {{ network: {name}, vhost-user: {{ path: DIR/{name}.sock }} }} }} }}"
        )
    };
    let topology = format!(
        "{}uplinks: {{ w1: {{ device: to-a, queues: 2 }}, w2: {{ device: to-b, queues: 2 }} }}\n\
         networks: {{ g: {{ uplink: w1 }}, h: {{ uplink: w2 }} }}\nvms:\n  g: {}\n  h: {}\n",
        head("0, 1"),
        nic("g"),
        nic("h")
    );
    let mut daemon = start(&spaces, &topology, &["w1", "w2"]);
    let uplinks = daemon.json(&["uplinks"]);
    assert_eq!(
        (
            &uplinks[0]["device"]["xdp"]["queues"],
            &uplinks[1]["device"]["xdp"]["queues"]
        ),
        (&2.into(), &2.into()),
        "{uplinks}"
    );
    let _answering = (
        Answering::start(&daemon, "g.sock", 3),
        Answering::start(&daemon, "h.sock", 4),
    );
    daemon.until_state("g/n", "up");
    daemon.until_state("h/n", "up");
    ping(&spaces, "a", 3, 200);
    ping(&spaces, "b", 4, 200);
    // Many flows from each host, which choose their queue by hash.
    for (role, to) in [("a", 3), ("b", 4)] {
        let flows = format!(
            "for port in $(seq 2000 2199); do echo x > /dev/udp/{}/$port; done",
            ip(to)
        );
        spaces.run(role, &format!("bash -c '{flows}'"));
    }
    let cores = daemon.json(&["cores"]);
    for core in cores.as_array().unwrap() {
        assert_eq!(
            core["rx_queues"], 3,
            "two of the uplinks and one of the guests: {cores}"
        );
        assert!(core["rx_frames"].as_u64().unwrap() > 0, "{cores}");
    }
    assert_balanced(&mut daemon);
}

#[test]
fn tap_is_made_and_serves_wherever_it_is_moved() {
    let Some(spaces) = spaces(&["sw", "a", "b"]) else {
        return;
    };
    host(&spaces, "b", 2, 1);
    let topology = format!(
        "{}networks: {{ blue: {{}} }}\nvms:\n  a: {{ nics: {{ n: {{ network: blue, macs: any, tap: \
        {{ name: tap7 }} }} }} }}\n  \
         b: {{ nics: {{ n: {{ network: blue, afxdp: {{ device: to-b }} }} }} }}\n",
        head("CPU")
    );
    let mut daemon = start(&spaces, &topology, &["b/n"]);
    daemon.until_state("a/n", "connected");
    assert_eq!(
        daemon.port("a/n")["sentence"],
        "tap7 is down: `ip link set tap7 up`"
    );
    // Here, as a NIC of the host itself.
    spaces.ip("sw", "addr add 10.9.0.1/24 dev tap7");
    spaces.ip("sw", "link set tap7 up");
    daemon.until_state("a/n", "up");
    ping(&spaces, "sw", 2, 200);
    tcp(&spaces, "sw", ("b", 2), 1, "");
    // There, as that of a container.
    spaces.ip("sw", &format!("link set tap7 netns {}", spaces.name("a")));
    spaces.ip("a", "addr add 10.9.0.1/24 dev tap7");
    spaces.ip("a", "link set tap7 up");
    daemon.until("it is said", |daemon| {
        daemon
            .log()
            .contains("tap7 was moved into another network namespace")
    });
    daemon.until_state("a/n", "up");
    ping(&spaces, "a", 2, 200);
    tcp(&spaces, "a", ("b", 2), 1, "-R");
    for role in ["sw", "a", "b"] {
        assert_checksums(&spaces, role);
    }
    // Gone with its container, it is made again here.
    spaces.ip("a", "link del tap7");
    daemon.until("it is back", |daemon| {
        daemon.port("a/n")["state"] == "connected"
    });
    assert!(spaces.ip("sw", "-d link show tap7").contains("tap"));
    assert_balanced(&mut daemon);
}
