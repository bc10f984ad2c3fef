//! Front-ends that misbehave, or are too many.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use guest::hostile_messages::{MESSAGE_FAULTS, Messenger};
use guest::raw::{self, Message, request};
use guest::{Guest, Manner, Options, Session, Socket};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::rig::{Daemon, PATIENCE, exchange, frame, introduce, receive, send, topology};

fn connect(daemon: &Daemon, name: &str) -> UnixStream {
    let stream = UnixStream::connect(daemon.path(name)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether the other side closes; whatever it sends before is read.
fn is_closed(mut stream: &UnixStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}");
                return true;
            }
        }
    }
}

#[test]
fn every_message_that_breaks_the_rules_is_answered_as_it_should_be() {
    // A port for each, since after one that came to nothing the next one has to wait.
    let names: Vec<_> = ["a".to_owned(), "b".to_owned()]
        .into_iter()
        .chain((0..MESSAGE_FAULTS.len()).map(|n| format!("x{n}")))
        .collect();
    let mut daemon = Daemon::start(&topology(
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
        "weir",
    ));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let n_files = daemon.n_files();
    let mut wrong = Vec::new();
    for (n, fault) in MESSAGE_FAULTS.iter().enumerate() {
        let socket = Socket::Connect(daemon.path(&format!("x{n}.sock")));
        let answer = Messenger::connect(&socket, Duration::from_secs(10))
            .unwrap()
            .run(fault);
        if !fault.expect.allows(answer) {
            wrong.push(format!(
                "{} {}: {answer:?}, expected {:?}",
                fault.row, fault.name, fault.expect
            ));
        }
        // The neighbours notice nothing.
        exchange((1, &mut a), (2, &mut b), 1);
        daemon.until_state(&format!("x{n}/net0"), "waiting");
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), daemon.log());
    daemon.until("every file is closed", |daemon| daemon.n_files() == n_files);
    daemon.until("all memory is unmapped", |daemon| {
        daemon.n_shared_mappings() == 2
    });
}

#[test]
fn a_hundred_connections_leave_nothing_behind() {
    let mut daemon = Daemon::start(&topology(&["a"], "weir"));
    let n_files = daemon.n_files();
    for n in 0..100 {
        match n % 4 {
            // All the way, part of the way, not a word, half a word.
            0 => drop(daemon.guest(
                "a.sock",
                Options {
                    n_queue_pairs: 4,
                    ..Options::default()
                },
            )),
            1 => {
                let stream = Socket::Connect(daemon.path("a.sock"))
                    .open(PATIENCE)
                    .unwrap();
                drop(Session::negotiate(
                    stream,
                    &Options::default(),
                    Manner::default(),
                ));
            }
            2 => drop(connect(&daemon, "a.sock")),
            _ => connect(&daemon, "a.sock").write_all(&[1, 0, 0]).unwrap(),
        }
        daemon.until_state("a/net0", "waiting");
    }
    daemon.until("every file is closed", |daemon| daemon.n_files() == n_files);
    daemon.until("all memory is unmapped", |daemon| {
        daemon.n_shared_mappings() == 0
    });
    let n_lines = daemon.log().lines().count();
    assert!(
        n_lines < 100,
        "{n_lines} lines in the log for 100 connections"
    );
}

#[test]
fn second_front_end_is_refused_at_once_and_counted() {
    let mut daemon = Daemon::start(&topology(&["a"], "weir"));
    let mut guest = daemon.guest("a.sock", Options::default());
    let n_files = daemon.n_files();
    for _ in 0..20 {
        assert!(
            is_closed(&connect(&daemon, "a.sock")),
            "it should be closed"
        );
    }
    daemon.until("they are counted", |daemon| {
        daemon.port("a/net0")["connection"]["refused_connections"] == 20
    });
    assert_eq!(daemon.n_files(), n_files);
    assert!(!guest.is_gone());
    guest.stop().unwrap();
}

#[test]
fn connections_by_the_thousand_end_and_the_port_still_serves() {
    let mut daemon = Daemon::start(&topology(&["a"], "weir"));
    let n_files = daemon.n_files();
    let mut kept = Vec::new();
    for _ in 0..2000 {
        let stream = UnixStream::connect(daemon.path("a.sock")).unwrap();
        kept.push(stream);
        if kept.len() > 100 {
            kept.remove(0);
        }
    }
    drop(kept);
    // A program that another test starts just now holds copies of them open, for a moment.
    let mut guest = None;
    daemon.until("the port has a guest again", |daemon| {
        let socket = Socket::Connect(daemon.path("a.sock"));
        guest = Guest::open(socket, Options::default(), Manner::default(), PATIENCE).ok();
        guest.is_some()
    });
    let mut guest = guest.unwrap();
    guest.stop().unwrap();
    drop(guest);
    daemon.until("every file is closed", |daemon| daemon.n_files() == n_files);
}

#[test]
fn front_end_that_never_reads_is_closed() {
    let mut daemon = Daemon::start(&topology(&["a"], "weir"));
    let stream = connect(&daemon, "a.sock");
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let question = Message::new(request::GET_FEATURES, &[]);
    let begin = Instant::now();
    while question.send(&stream).is_ok() || !daemon.log().contains("does not read") {
        assert!(
            begin.elapsed() < PATIENCE,
            "it is not closed:\n{}",
            daemon.log()
        );
    }
    daemon.until_state("a/net0", "waiting");
    assert!(
        daemon.port("a/net0")["sentence"]
            .as_str()
            .unwrap()
            .contains("does not read its answers")
    );
}

#[test]
fn half_a_message_holds_up_nobody_for_long() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let mut stream = connect(&daemon, "a.sock");
    stream
        .write_all(&Message::with_u64(request::SET_FEATURES, 0).to_bytes()[..15])
        .unwrap();
    // Meanwhile others are refused, and other ports served.
    daemon.until_state("a/net0", "connected");
    assert!(is_closed(&connect(&daemon, "a.sock")));
    daemon.guest("b.sock", Options::default()).stop().unwrap();
    assert!(is_closed(&stream));
    daemon.until("it says why", |daemon| {
        daemon.log().contains("half a message")
    });
}

#[test]
fn queue_may_be_enabled_before_features_are_chosen() {
    // As QEMU does for the queues that a device begins with.
    let daemon = Daemon::start(&topology(&["a"], "weir"));
    let stream = connect(&daemon, "a.sock");
    raw::ask_u64(&stream, request::GET_FEATURES).unwrap();
    raw::ask_u64(&stream, request::GET_PROTOCOL_FEATURES).unwrap();
    Message::with_u64(request::SET_PROTOCOL_FEATURES, 8)
        .send(&stream)
        .unwrap();
    for (queue, answer) in [(1, 0), (99, 1)] {
        Message::vring(request::SET_VRING_ENABLE, queue, 1)
            .need_reply(true)
            .send(&stream)
            .unwrap();
        let (request, body) = raw::read_reply(&stream).unwrap();
        assert_eq!(
            (request, body),
            (request::SET_VRING_ENABLE, u64::to_le_bytes(answer).to_vec())
        );
    }
}

#[test]
fn guest_without_shared_memory_is_told_what_to_do() {
    let mut daemon = Daemon::start(&topology(&["a"], "weir"));
    let stream = Socket::Connect(daemon.path("a.sock"))
        .open(PATIENCE)
        .unwrap();
    let waits_for = |daemon: &Daemon| {
        daemon.port("a/net0")["sentence"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    daemon.until("it is connected", |daemon| {
        waits_for(daemon).contains("driver not started")
    });
    let _session = Session::negotiate(stream, &Options::default(), Manner::default()).unwrap();
    daemon.until("it misses memory", |daemon| {
        waits_for(daemon).contains("memory-backend-memfd,share=on")
    });
    daemon.until("the log says so", |daemon| {
        daemon.log().contains("memory-backend-memfd,share=on")
    });
}

#[test]
fn memory_that_cannot_be_shared_is_said_so() {
    let mut daemon = Daemon::start(&topology(&["a"], "weir"));
    let stream = connect(&daemon, "a.sock");
    raw::ask_u64(&stream, request::GET_FEATURES).unwrap();
    let file = std::fs::File::open("/proc/version").unwrap();
    let fd = file.as_raw_fd();
    Message::mem_table(1, &[([0, 4096, 0x1000, 0], fd)])
        .send(&stream)
        .unwrap();
    assert!(
        is_closed(&stream),
        "without acknowledgements a refusal ends the connection"
    );
    daemon.until("it says why", |daemon| {
        daemon.log().contains("memory-backend-memfd,share=on")
    });
}

#[test]
fn files_cut_short_close_their_port_and_no_other() {
    let mut daemon = Daemon::start(&topology(&["a", "b", "c"], "weir"));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let c = daemon.guest("c.sock", Options::default());
    c.driver.memory().file().unwrap().set_len(0).unwrap();
    // A flood makes the switch write into what is gone.
    daemon.until("the port is closed", |daemon| {
        let broadcast = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], &[0; 50]].concat();
        a.send(0, &broadcast);
        while b.recv(0).is_some() {}
        daemon.port("c/net0")["state"] == "waiting"
    });
    let last = frame(1, 2, 77, 1);
    send(&mut a, &last);
    while receive(&mut b) != last {}
    exchange((1, &mut a), (2, &mut b), 10);
    // Its successor doesn't pay for it.
    let mut d = daemon.guest("c.sock", Options::default());
    introduce((1, &mut a), (4, &mut d));
    exchange((4, &mut d), (1, &mut a), 10);
    assert!(!d.is_gone());
    // The guest's memory is gone for itself as well; it must not be looked at again.
    std::mem::forget(c);
}

#[test]
fn call_that_would_block_stops_nobody() {
    let mut daemon = Daemon::start(&topology(&["a", "b", "x"], "weir"));
    let [mut a, mut b, mut x] = daemon.guests(["a", "b", "x"]);
    // Its file is shared with the daemon, which has to signal it for the next frame.
    x.session().clog_call(0).unwrap();
    send(&mut a, &frame(1, 3, 100, 1));
    daemon.until("the frame is with x", |_| x.recv(0).is_some());
    exchange((1, &mut a), (2, &mut b), 50);
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.ended().success(), "{}", daemon.log());
}

#[test]
fn storms_of_messages_disturb_nobody() {
    let mut daemon = Daemon::start(&topology(&["a", "b", "x", "y"], "weir"));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let n_files = daemon.n_files();
    let missed = |daemon: &Daemon| -> u64 {
        let of = |vm: &str| {
            daemon.port(&format!("{vm}/net0"))["counters"]["missed_frames"]
                .as_u64()
                .unwrap()
        };
        of("a") + of("b")
    };
    // Greetings may have come before a guest had posted its buffers.
    let missed_before = missed(&daemon);
    let is_over = Arc::new(AtomicBool::new(false));
    // One turns its queues off and on, one asks, both without a pause.
    let (mut x, over) = (daemon.guest("x.sock", Options::default()), is_over.clone());
    let toggling = std::thread::spawn(move || {
        let mut n = 0;
        while !over.load(Ordering::Relaxed) {
            x.session().enable(1, false).unwrap();
            x.session().enable(1, true).unwrap();
            n += 2;
        }
        n
    });
    let (y, over) = (connect(&daemon, "y.sock"), is_over.clone());
    let asking = std::thread::spawn(move || {
        let mut n = 0;
        while !over.load(Ordering::Relaxed) {
            raw::ask_u64(&y, request::GET_FEATURES).unwrap();
            n += 1;
        }
        n
    });
    exchange((1, &mut a), (2, &mut b), 3000);
    is_over.store(true, Ordering::Relaxed);
    let counts = (toggling.join().unwrap(), asking.join().unwrap());
    assert!(
        counts.0 > 10 && counts.1 > 10,
        "{counts:?} messages are no storm"
    );
    daemon.until("every file is closed", |daemon| daemon.n_files() == n_files);
    assert_eq!(missed(&daemon), missed_before);
}

#[test]
fn memory_comes_and_goes_in_traffic() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let file = memfd_create("more", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 1 << 20).unwrap();
    let region = [0x7000_0000_0000, 1 << 20, 0x7100_0000_0000, 0];
    for _ in 0..200 {
        for (what, fd) in [
            (request::ADD_MEM_REG, Some(file.as_raw_fd())),
            (request::REM_MEM_REG, None),
        ] {
            Message::mem_region(what, region, fd)
                .need_reply(true)
                .send(a.session().stream())
                .unwrap();
            // Frames on their way while the regions are swapped.
            let sent = [frame(1, 2, 900, 1), frame(2, 1, 901, 2)];
            send(&mut a, &sent[0]);
            send(&mut b, &sent[1]);
            assert_eq!(
                raw::read_reply(a.session().stream()).unwrap(),
                (what, vec![0; 8])
            );
            // The port is down for a moment: a frame to it may be missed then, never one from it.
            assert_eq!(receive(&mut b), sent[0]);
            while a.recv(0).is_some() {}
        }
    }
    exchange((1, &mut a), (2, &mut b), 20);
    a.driver.assert_intact();
    daemon.until("the region is gone", |daemon| {
        daemon.n_shared_mappings() == 2
    });
}
