//! Limits of VMs on a running daemon, and what it says of them.

use std::time::{Duration, Instant};

use guest::Options;

use crate::rig::{Daemon, frame, introduce, receive, send, weir};

/// `a` may send little, `c` may get little, and what is over that is dropped, `d` may get little,
/// and the rest waits.
const TOPOLOGY: &str = "cores: [CPU]
control: { path: DIR/control.sock }
networks: { blue: {} }
vms:
  a:
    limit: { from-vm: { rate: 10mbit } }
    nics: { net0: { network: blue, vhost-user: { path: DIR/a.sock } } }
  b: { nics: { net0: { network: blue, vhost-user: { path: DIR/b.sock } } } }
  c:
    limit: { to-vm: { packets: 10pps, queue: none } }
    nics: { net0: { network: blue, vhost-user: { path: DIR/c.sock } } }
  d:
    limit: { to-vm: { rate: 10mbit } }
    nics: { net0: { network: blue, vhost-user: { path: DIR/d.sock } } }
";

#[test]
fn vm_over_its_limit_waits_loses_nothing_and_is_said_to_have_waited() {
    let mut daemon = Daemon::start(TOPOLOGY);
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let dropped = daemon.port("a/net0")["counters"]["dropped_frames"].clone();
    let begin = Instant::now();
    // All in the ring at once, 240,000 bytes.
    let frames: Vec<_> = (0..240).map(|seed| frame(1, 2, 1000, seed)).collect();
    for frame in &frames {
        send(&mut a, frame);
    }
    for frame in &frames {
        assert_eq!(&receive(&mut b), frame, "in order");
    }
    // Less than 64 KiB were saved up, the rest takes its time.
    assert!(
        begin.elapsed() >= Duration::from_millis(139),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(daemon.port("a/net0")["counters"]["dropped_frames"], dropped);
    daemon.until("the wait is told", |daemon| {
        let vm = &daemon.json(&["limits"])[0];
        vm["throttled_nanoseconds"].as_u64().unwrap() >= 100_000_000
            && vm["limit"]["from_vm"]["bits_per_second"] == 10_000_000
    });
    let text = String::from_utf8(daemon.show(&["limits"]).stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[1].starts_with("a   from-vm    10.00 Mbit/s  65536 bytes"),
        "{text}"
    );
    assert!(lines[2].starts_with("c   to-vm      10 pps"), "{text}");
}

#[test]
fn what_a_vm_may_not_get_yet_waits_in_its_senders_ring_and_none_of_it_is_lost() {
    let daemon = Daemon::start(TOPOLOGY);
    let mut b = daemon.guest("b.sock", Options::default());
    let mut d = daemon.guest("d.sock", Options::default());
    introduce((2, &mut b), (4, &mut d));
    let dropped = daemon.port("b/net0")["counters"]["dropped_frames"].clone();
    let begin = Instant::now();
    // All in the ring at once, 240,000 bytes.
    let frames: Vec<_> = (0..240).map(|seed| frame(2, 4, 1000, seed)).collect();
    for frame in &frames {
        send(&mut b, frame);
    }
    for frame in &frames {
        assert_eq!(&receive(&mut d), frame, "in order");
    }
    // Less than 64 KiB were saved up, the rest takes its time.
    assert!(
        begin.elapsed() >= Duration::from_millis(139),
        "{:?}",
        begin.elapsed()
    );
    let counters = daemon.port("b/net0")["counters"].clone();
    assert_eq!(
        (&counters["dropped_frames"], &counters["held_frames"]),
        (&dropped, &0.into())
    );
    assert!(counters["held_turns"].as_u64() > Some(0), "{counters}");
    let limit = &daemon.json(&["limits"])[2]["limit"]["to_vm"];
    // 20 ms of 10 Mbit/s, and a ring of 256 full frames.
    assert_eq!(
        (
            &limit["queue"]["max_bytes"],
            &limit["queue"]["queued_bytes"]
        ),
        (&25_000.into(), &0.into())
    );
    let ring_ns = limit["queue"]["ring_delay_nanoseconds"].as_u64().unwrap();
    assert!((310_000_000..311_000_000).contains(&ring_ns), "{ring_ns}");
}

#[test]
fn vm_gets_no_more_than_it_may_and_what_is_dropped_is_said() {
    let mut daemon = Daemon::start(TOPOLOGY);
    let mut b = daemon.guest("b.sock", Options::default());
    let mut c = daemon.guest("c.sock", Options::default());
    introduce((2, &mut b), (3, &mut c));
    // What they missed of each other before they were there is not the limit's.
    let before = daemon.port("c/net0")["counters"].clone();
    let begin = Instant::now();
    for seed in 0..1000 {
        send(&mut b, &frame(2, 3, 100, seed));
    }
    // Counters are read while the core writes them: only once it has done with all of them do they
    // fit together.
    daemon.until("all were taken and accounted for", |daemon| {
        let counters = &daemon.port("b/net0")["counters"];
        let count = |name: &str| counters[name].as_u64().unwrap();
        count("rx_frames") >= 1000
            && count("rx_frames") + count("copied_frames")
                == count("forwarded_frames") + count("dropped_frames")
    });
    let counters = daemon.port("c/net0")["counters"].clone();
    let count = |name: &str| counters[name].as_u64().unwrap();
    // 64 at once, ten a second, and those of before.
    let most = 64 + 11 * (1 + begin.elapsed().as_secs());
    let got = count("tx_frames");
    assert!(got <= most + 64, "{got} of {most}");
    let limited = count("missed_limit_frames");
    let since = |name: &str| count(name) - before[name].as_u64().unwrap();
    assert!(
        limited >= 1000 - most && since("missed_limit_frames") == since("missed_frames"),
        "{before} {counters}"
    );
    assert_eq!(daemon.dropped("b/net0", "limit"), limited);
    let top = weir()
        .arg("--control")
        .arg(daemon.path("control.sock"))
        .args(["top", "--once"])
        .output()
        .unwrap();
    let text = String::from_utf8(top.stdout).unwrap();
    assert!(
        top.status.success() && text.contains(&format!("{limited} to-vm limit")),
        "{text}"
    );
    assert!(text.contains("CPU  LOAD"), "{text}");
}
