//! Files of a front-end that take whoever touches them long: eventfds with many watchers, and what
//! takes long to close.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use guest::Options;
use guest::raw::{self, Message, request};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{Daemon, exchange, frame, introduce, receive, send, topology};

#[path = "../../src/vhost_user/lingering.rs"]
mod lingering;

use lingering::lingering_socket;

/// How long a socket lingers: longer than any test takes.
const LONG: u64 = 600;
/// Says what [`sends_files_that_linger`] shall do, and where.
const PART: &str = "WEIR_TEST_LINGER";
/// Connections that are left at once, each with such a file.
const N_LEFT: usize = 40;
/// What it says when that is done.
const DONE: &str = "lingering files are sent";

/// A daemon that stands still as long as this lives, so that what is sent to it is nobody's but its
/// own when it goes on.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> Self {
        kill_process(pid, Signal::STOP).unwrap();
        let state =
            || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        while !state().contains(") T ") {
            std::thread::yield_now();
        }
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap();
    }
}

/// Sends it in place of a call eventfd, and keeps no copy.
fn send_as_call(stream: &UnixStream) {
    let file = lingering_socket(LONG);
    let message = Message::with_u64(request::SET_VRING_CALL, 0).fds([file.as_raw_fd()]);
    message.need_reply(true).send(stream).unwrap();
}

/// Not a test but a process, for those below: this one starts others, which could be left with the
/// last copy of such a socket.
#[test]
#[ignore = "a front-end for other tests"]
fn sends_files_that_linger() {
    let Ok(text) = std::env::var(PART) else {
        return;
    };
    let [part, pid, path] = *text.split(' ').collect::<Vec<_>>() else {
        panic!("{text}")
    };
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    match part {
        "refused" => {
            let stream = UnixStream::connect(path).unwrap();
            raw::ask_u64(&stream, request::GET_FEATURES).unwrap();
            raw::ask_u64(&stream, request::GET_PROTOCOL_FEATURES).unwrap();
            Message::with_u64(request::SET_PROTOCOL_FEATURES, 8)
                .send(&stream)
                .unwrap();
            // Dealt with before the next comes: files of one that waits behind it count as its own.
            raw::ask_u64(&stream, request::GET_FEATURES).unwrap();
            for n in 0..3 {
                let stopped = Stopped::new(pid);
                send_as_call(&stream);
                drop(stopped);
                let (request, answer) = raw::read_reply(&stream).unwrap();
                assert_eq!((request, answer[0]), (request::SET_VRING_CALL, 1), "{n}");
            }
        }
        "left" => {
            let _stopped = Stopped::new(pid);
            // All at once, and gone when the daemon goes on.
            let streams: Vec<_> = (0..N_LEFT)
                .map(|_| UnixStream::connect(path).unwrap())
                .collect();
            streams.iter().for_each(send_as_call);
        }
        "untaken" => {
            let _stopped = Stopped::new(pid);
            let stream = UnixStream::connect(path).unwrap();
            // The first ends the connection, the others are never taken.
            Message::new(request::GET_FEATURES, &[])
                .flags(0)
                .send(&stream)
                .unwrap();
            (0..3).for_each(|_| send_as_call(&stream));
        }
        _ => {
            let _stopped = Stopped::new(pid);
            send_as_call(&UnixStream::connect(path).unwrap());
        }
    }
    println!("{DONE}");
    // The other ends of these sockets go with the process, and with them there is nothing to linger
    // for.
    loop {
        std::thread::park();
    }
}

struct Sender(Child);

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Such files are with the daemon, as long as this lives.
fn send_lingering(part: &str, daemon: &Daemon, socket: &str) -> Sender {
    let arguments = [
        "--exact",
        "files::sends_files_that_linger",
        "--ignored",
        "--nocapture",
    ];
    let text = format!(
        "{part} {} {}",
        daemon.pid().as_raw_nonzero(),
        daemon.path(socket).display()
    );
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut sender = Sender(
        command
            .args(arguments)
            .env(PART, text)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let (lines, sink) = (
        BufReader::new(sender.0.stdout.take().unwrap()).lines(),
        channel(),
    );
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .filter(|line| line == DONE)
            .try_for_each(|_| sink.0.send(()))
    });
    let done = sink.1.recv_timeout(Duration::from_secs(20));
    done.unwrap_or_else(|e| panic!("it is not served: {e}\n{}", daemon.log()));
    sender
}

fn assert_ends(mut daemon: Daemon) {
    let begin = Instant::now();
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success(), "{}", daemon.log());
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}\n{}",
        begin.elapsed(),
        daemon.log()
    );
}

#[test]
fn file_that_lingers_in_place_of_a_call_is_refused_and_keeps_nobody() {
    let mut daemon = Daemon::start(&topology(&["a", "b", "c"], "weir"));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let _sender = send_lingering("refused", &daemon, "c.sock");
    // The next one at this port isn't kept waiting either.
    daemon.guest("c.sock", Options::default()).stop().unwrap();
    exchange((1, &mut a), (2, &mut b), 20);
    daemon.until("it says why", |daemon| {
        daemon.log().contains("not an eventfd")
    });
    assert_ends(daemon);
}

#[test]
fn connection_that_is_refused_with_a_file_that_lingers_keeps_nobody() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let mut senders = Vec::new();
    for n in 1..6 {
        senders.push(send_lingering("beside", &daemon, "a.sock"));
        daemon.until("it is refused", |daemon| {
            daemon.port("a/net0")["connection"]["refused_connections"] == n
        });
    }
    // The port's thread still answers its guest.
    a.session()
        .stream()
        .set_read_timeout(Some(crate::rig::PATIENCE))
        .unwrap();
    raw::ask_u64(a.session().stream(), request::GET_FEATURES).unwrap();
    exchange((1, &mut a), (2, &mut b), 20);
    assert_ends(daemon);
}

#[test]
fn connection_that_ends_with_a_file_that_lingers_keeps_nobody() {
    let daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let _sender = send_lingering("untaken", &daemon, "a.sock");
    daemon.guest("a.sock", Options::default()).stop().unwrap();
    assert_ends(daemon);
}

/// Nine of a port's at most: eight that make it wait, and one in hand.
#[test]
fn connections_that_were_left_with_files_that_linger_are_closed_a_few_at_a_time() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let _sender = send_lingering("left", &daemon, "a.sock");
    daemon.until("some are being closed", |daemon| {
        daemon.threads("closing").len() >= 8
    });
    for _ in 0..20 {
        // Other ports are served meanwhile.
        daemon.guest("b.sock", Options::default()).stop().unwrap();
        daemon.until_state("b/net0", "waiting");
        let n = daemon.threads("closing").len();
        assert!(n <= 9, "{n} threads for {N_LEFT} connections");
    }
    assert_ends(daemon);
}

/// It is looked at every millisecond until the rest comes, or two seconds are over. Its thread
/// waits for such a file, whether the NIC is disabled first or removed at once.
#[test]
fn port_whose_thread_is_kept_waiting_gives_its_id_to_nobody_until_it_has_ended() {
    let with = |vms: &[(&str, &str)]| {
        let vm = |(name, keys): &(&str, &str)| {
            format!(
                "  {name}: {{ nics: {{ net0: {{ network: blue, vhost-user: {{ path: \
                DIR/{name}.sock }}{keys} }} }} }}\n"
            )
        };
        let vms: String = vms.iter().map(vm).collect();
        format!(
            "cores: [CPU]\ncontrol: {{ path: DIR/control.sock }}\nnetworks: {{ blue: {{}} }}\n\
            vms:\n{vms}"
        )
    };
    let reload = |daemon: &Daemon, vms: &[(&str, &str)]| {
        crate::rig::write(&daemon.dir, &with(vms));
        daemon.ask("POST", "/v1/reload", "")
    };
    for is_disabled_first in [true, false] {
        let mut daemon = Daemon::start(&with(&[("a", ""), ("b", "")]));
        let mut b = daemon.guest("b.sock", Options::default());
        let sender = send_lingering("left", &daemon, "a.sock");
        daemon.until("some are being closed", |daemon| {
            daemon.threads("closing").len() >= 8
        });
        if is_disabled_first {
            let (status, answer) = reload(&daemon, &[("a", ", enabled: false"), ("b", "")]);
            assert_eq!(status, 200, "{answer}");
        }
        let (status, answer) = reload(&daemon, &[("b", "")]);
        assert_eq!(status, 200, "{answer}");
        // Its own name is refused with a reason, and another gets another id.
        let (status, answer) = reload(&daemon, &[("a", ""), ("b", "")]);
        assert_eq!(
            (status, &answer["code"]),
            (409, &"unable".into()),
            "{answer}"
        );
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains("a/net0 is still being removed"), "{detail}");
        let (status, answer) = reload(&daemon, &[("b", ""), ("c", "")]);
        assert_eq!(status, 200, "{answer}");
        let mut c = daemon.guest("c.sock", Options::default());
        introduce((2, &mut b), (3, &mut c));
        exchange((2, &mut b), (3, &mut c), 20);
        drop(sender);
        daemon.until("its thread has ended", |daemon| {
            reload(daemon, &[("a", ""), ("b", ""), ("c", "")]).0 == 200
        });
        let mut a = daemon.guest("a.sock", Options::default());
        introduce((2, &mut b), (1, &mut a));
        exchange((2, &mut b), (1, &mut a), 20);
        exchange((3, &mut c), (2, &mut b), 20);
        assert_ends(daemon);
    }
}

#[test]
fn files_of_half_a_message_are_not_copied_again_and_again() {
    let mut daemon = Daemon::start(&topology(&["a"], "weir"));
    let (pipe, _other) = std::io::pipe().unwrap();
    let stream = UnixStream::connect(daemon.path("a.sock")).unwrap();
    let message = Message::new(request::GET_FEATURES, &[0; 4])
        .size(8)
        .fds([pipe.as_raw_fd(); 250]);
    message.send(&stream).unwrap();
    let mut closing = std::collections::BTreeSet::new();
    daemon.until("its end is said", |daemon| {
        (0..100).for_each(|_| closing.extend(daemon.threads("closing")));
        daemon.log().contains("half a message")
    });
    // One closes the connection.
    assert!(
        closing.len() <= 1,
        "{} threads closed something",
        closing.len()
    );
}

/// Three of them with files that linger would hold all threads that answer.
#[test]
fn operator_can_send_no_file() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<u32> = release
        .split(['.', '-'])
        .map_while(|n| n.parse().ok())
        .collect();
    if version < vec![6, 16] {
        return eprintln!("NOT TESTED: this needs Linux 6.16, whose sockets can refuse files");
    }
    let daemon = Daemon::start(&topology(&["a"], "weir"));
    let (pipe, _other) = std::io::pipe().unwrap();
    for _ in 0..4 {
        let stream = UnixStream::connect(daemon.path("control.sock")).unwrap();
        let sent = Message::new(request::GET_FEATURES, &[])
            .fds([pipe.as_raw_fd()])
            .send(&stream);
        assert_eq!(
            sent.map_err(|e| e.raw_os_error()),
            Err(Some(1)),
            "it is sent"
        );
        assert!(daemon.show(&["ports"]).status.success());
    }
}

/// Watches an eventfd `n` times; whoever signals it goes through all of them.
fn watch(file: BorrowedFd<'_>, n: usize) -> Vec<OwnedFd> {
    // An epoll has each number once, so each of some copies is watched by many.
    let copies: Vec<_> = (0..500)
        .map(|_| file.try_clone_to_owned().unwrap())
        .collect();
    let epolls: Vec<_> = (0..n / copies.len())
        .map(|_| epoll::create(CreateFlags::CLOEXEC).unwrap())
        .collect();
    for epoll in &epolls {
        for copy in &copies {
            epoll::add(epoll, copy, EventData::new_u64(0), EventFlags::IN).unwrap();
        }
    }
    epolls.into_iter().chain(copies).collect()
}

#[test]
fn call_with_many_watchers_delays_its_neighbours_twice_and_no_more() {
    let mut daemon = Daemon::start(&topology(&["a", "b", "x"], "weir"));
    let [mut a, mut b, mut x] = daemon.guests(["a", "b", "x"]);
    let watching = {
        let call = x.session().call_fd(0);
        let copy = rustix::process::pidfd_getfd(
            rustix::process::pidfd_open(
                rustix::process::getpid(),
                rustix::process::PidfdFlags::empty(),
            )
            .unwrap(),
            call,
            rustix::process::PidfdGetfdFlags::empty(),
        );
        watch(std::os::fd::AsFd::as_fd(&copy.unwrap()), 50_000)
    };
    let mut long = Vec::new();
    for n in 0..60 {
        // x wants a call for each, and is given its frame before b is given the other.
        x.driver.ask_calls(0, true);
        let begin = Instant::now();
        send(&mut a, &frame(1, 3, 100, n));
        let sent = frame(1, 2, 100, 1000 + n);
        send(&mut a, &sent);
        while receive(&mut b) != sent {}
        let took = begin.elapsed();
        while x.recv(0).is_none() {}
        if took > Duration::from_millis(2) {
            long.push(took);
        }
    }
    eprintln!("{} rounds of 60 took over 2 ms: {long:?}", long.len());
    daemon.until("the operator is told", |daemon| {
        daemon.log().contains("takes too long for a polling core")
    });
    assert!(long.len() < 30, "{long:?}");
    drop(watching);
    // Its successor is called by a thread as well, and gets all.
    drop(x);
    daemon.until("its end is noticed", |daemon| {
        daemon.log().contains("x/net0: the front-end disconnected")
    });
    let mut y = daemon.guest("x.sock", Options::default());
    introduce((3, &mut y), (1, &mut a));
    exchange((1, &mut a), (3, &mut y), 50);
    assert_ends(daemon);
}
