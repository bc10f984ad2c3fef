//! Front-ends that come and go, again and again: how often they are let, and what is said of them.

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use guest::raw::{self, Message, request};
use guest::{Options, Socket};

use crate::rig::{Daemon, PATIENCE, topology};

/// For how long they try.
const TRIES: Duration = Duration::from_secs(4);

fn one_queue(listens: &str) -> String {
    topology(&["a"], listens).replace("queues: 8", "queues: 1")
}

/// What QEMU 7.2 says before it finds that there are fewer queues than it wants, and leaves; false:
/// it isn't answered.
fn ask_and_leave(stream: &UnixStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    raw::ask_u64(stream, request::GET_FEATURES)?;
    raw::ask_u64(stream, request::GET_PROTOCOL_FEATURES)?;
    Message::with_u64(request::SET_PROTOCOL_FEATURES, 0x8009).send(stream)?;
    assert_eq!(raw::ask_u64(stream, request::GET_QUEUE_NUM)?, 1);
    raw::ask_u64(stream, request::GET_MAX_MEM_SLOTS)?;
    Message::new(request::SET_OWNER, &[]).send(stream)?;
    raw::ask_u64(stream, request::GET_FEATURES)?;
    (0..2).try_for_each(|queue| {
        Message::with_u64(request::SET_VRING_CALL, queue | 0x100).send(stream)
    })
}

/// It is said while the port waits, between one attempt and the next: `again` makes the next come
/// to nothing as well, if there is one.
fn assert_said(daemon: &mut Daemon, mut again: impl FnMut()) {
    let sentence = "left after asking for the number of queues; this port has 1";
    daemon.until("the operator is told", |daemon| {
        again();
        let port = daemon.port("a/net0");
        port["sentence"]
            .as_str()
            .is_some_and(|why| why.contains(sentence))
            && port["connection"]["last_left"]
                .as_str()
                .is_some_and(|why| why.contains(sentence))
    });
    let log = daemon.log();
    assert_eq!(log.matches(sentence).count(), 1, "said once:\n{log}");
    assert!(log.lines().count() < 20, "{log}");
}

/// Then a guest that wants no more than there is comes up, having waited no longer than a pause.
/// One that connects is refused as long as a program that another test starts just now holds a copy
/// of a connection before it, and tries again.
fn assert_served(daemon: &mut Daemon, mut socket: impl FnMut() -> Socket) {
    let begin = Instant::now();
    let mut guest = loop {
        match guest::Guest::open(
            socket(),
            Options::default(),
            guest::Manner::default(),
            PATIENCE,
        ) {
            Ok(guest) => break guest,
            Err(e) => assert!(begin.elapsed() < Duration::from_secs(5), "{e}"),
        }
    };
    daemon.until_state("a/net0", "up");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    guest.stop().unwrap();
}

#[test]
fn guest_that_wants_more_queues_than_there_are_is_let_in_once_a_second() {
    let mut daemon = Daemon::start(&one_queue("weir"));
    let (begin, mut n) = (Instant::now(), 0);
    while begin.elapsed() < TRIES {
        // Into the queue of those who wait, when it is not served at once. It is refused as long as
        // a program that another test starts just now holds a copy of the connection before it.
        let stream = UnixStream::connect(daemon.path("a.sock")).unwrap();
        n += u32::from(ask_and_leave(&stream).is_ok());
    }
    // Seven in the first 1.3 seconds, one a second after that.
    assert!((4..=13).contains(&n), "{n} in {:?}", begin.elapsed());
    assert_said(&mut daemon, || {});
    let path = daemon.path("a.sock");
    assert_served(&mut daemon, || Socket::Connect(path.clone()));
    // Whoever comes after a good one is served at once again, if not refused because a copy of that
    // one's connection is open.
    let mut time = Duration::MAX;
    daemon.until("somebody is served", |daemon| {
        let stream = UnixStream::connect(daemon.path("a.sock")).unwrap();
        let begin = Instant::now();
        let is_served = ask_and_leave(&stream).is_ok();
        time = begin.elapsed();
        is_served
    });
    assert!(time < Duration::from_millis(800), "{time:?}");
}

#[test]
fn guest_that_listens_and_wants_more_queues_is_connected_to_once_a_second() {
    let dir = crate::rig::folder();
    let listener = UnixListener::bind(dir.path().join("a.sock")).unwrap();
    let mut daemon = Daemon::start_in(std::sync::Arc::new(dir), &one_queue("guest"));
    listener.set_nonblocking(true).unwrap();
    let (begin, mut n) = (Instant::now(), 0);
    let take_one = || {
        let Ok((stream, _)) = listener.accept() else {
            return false;
        };
        stream.set_nonblocking(false).unwrap();
        ask_and_leave(&stream).unwrap();
        true
    };
    while begin.elapsed() < TRIES {
        if take_one() {
            n += 1;
        } else {
            std::thread::yield_now();
        }
    }
    assert!((4..=13).contains(&n), "{n} in {:?}", begin.elapsed());
    assert_said(&mut daemon, || _ = take_one());
    drop(listener);
    let mut socket = Some(Socket::listen(&daemon.path("a.sock")).unwrap());
    assert_served(&mut daemon, || {
        socket
            .take()
            .expect("who connects to a listener is not refused")
    });
}

#[test]
fn connections_that_are_given_up_keep_no_guest_waiting() {
    let mut daemon = Daemon::start(&one_queue("weir"));
    // More of them than a second apart each would leave anybody patient.
    for _ in 0..100 {
        drop(UnixStream::connect(daemon.path("a.sock")).unwrap());
    }
    let path = daemon.path("a.sock");
    assert_served(&mut daemon, || Socket::Connect(path.clone()));
}

#[test]
fn others_who_try_to_connect_beside_a_guest_are_let_try_so_many_times_a_second() {
    let daemon = Daemon::start(&one_queue("weir"));
    let mut guest = daemon.guest("a.sock", Options::default());
    let begin = Instant::now();
    let mut streams = Vec::new();
    while begin.elapsed() < TRIES {
        let stream = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let address = rustix::net::SocketAddrUnix::new(daemon.path("a.sock")).unwrap();
        if rustix::net::connect(&stream, &address).is_err() {
            std::thread::yield_now();
        }
        streams.push(stream);
        streams.drain(..streams.len().saturating_sub(200));
    }
    let n = daemon.port("a/net0")["connection"]["refused_connections"]
        .as_u64()
        .unwrap();
    assert!((64..400).contains(&n), "{n} were looked at");
    assert!(!guest.is_gone());
    guest.stop().unwrap();
}

#[test]
fn queues_that_are_turned_off_and_on_all_the_time_are_a_hundred_times_a_second() {
    let names = ["a", "b", "x0", "x1", "x2", "x3"];
    let daemon = Daemon::start(&topology(&names, "weir"));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let options = Options {
        n_queue_pairs: 8,
        ..Options::default()
    };
    let guests: Vec<_> = names[2..]
        .iter()
        .map(|name| daemon.guest(&format!("{name}.sock"), options.clone()))
        .collect();
    let toggle = |mut guest: guest::Guest| {
        let (begin, mut n) = (Instant::now(), 0_u32);
        while begin.elapsed() < TRIES {
            guest.session().enable(1, n % 2 == 1).unwrap();
            n += 1;
        }
        n
    };
    let toggling: Vec<_> = guests
        .into_iter()
        .map(|guest| std::thread::spawn(move || toggle(guest)))
        .collect();
    crate::rig::exchange((1, &mut a), (2, &mut b), 500);
    for toggling in toggling {
        let n = toggling.join().unwrap();
        // Those at once, and a hundred for each second; each costs one change or two.
        assert!(
            (100..=512 + 500).contains(&n),
            "{n} by one of four in {TRIES:?}"
        );
    }
}
