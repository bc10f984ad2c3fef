//! Who talks through the switch: hosts in namespaces, and software guests that answer.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use guest::stack::{Event, Host, Mac};
use guest::{Guest, Options};

use crate::rig::{Daemon, PATIENCE};
use crate::space::Spaces;

/// The address of a guest or host with this number.
pub(crate) fn ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

/// A veth from a namespace into that of the switch: `h0` there, `to-ROLE` here; with an address.
pub(crate) fn host(spaces: &Spaces, role: &str, number: u8, n_queues: u16) {
    spaces.veth((role, "h0"), ("sw", &format!("to-{role}")), n_queues);
    spaces.ip(role, &format!("addr add {}/24 dev h0", ip(number)));
}

/// A guest that answers ARP and ping, in a thread, until it is let go.
pub(crate) struct Answering {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Guest>>,
}

impl Answering {
    pub(crate) fn start(daemon: &Daemon, socket: &str, number: u8) -> Self {
        let (mut guest, stop) = (
            daemon.guest(socket, Options::default()),
            Arc::new(AtomicBool::new(false)),
        );
        let mut host = Host::new(Mac([2, 0, 0, 0, 0, number]), ip(number));
        let is_told = stop.clone();
        let serve = move || {
            while !is_told.load(Ordering::Acquire) {
                guest.wait(Duration::from_millis(20));
                while let Some(frame) = guest.recv(0) {
                    if let Event::Answer(answer) = host.handle(&frame) {
                        guest.send(0, &answer);
                    }
                    guest.driver.reclaim_tx(0);
                }
            }
            guest
        };
        Self {
            stop,
            thread: Some(std::thread::spawn(serve)),
        }
    }

    /// The guest, which no longer answers.
    pub(crate) fn guest(mut self) -> Guest {
        self.stop.store(true, Ordering::Release);
        self.thread
            .take()
            .expect("it is there until now")
            .join()
            .unwrap()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Pings of a guest that a host answers, one after another; all must be answered.
pub(crate) fn ping_from(guest: &mut Guest, number: u8, to: u8, count: u16) {
    let mut host = Host::new(Mac([2, 0, 0, 0, 0, number]), ip(number));
    let begin = Instant::now();
    while host.neighbour(ip(to)).is_none() {
        guest.send(0, &host.arp_request(ip(to)));
        guest.wait(Duration::from_millis(50));
        while let Some(frame) = guest.recv(0) {
            host.handle(&frame);
        }
        guest.driver.reclaim_tx(0);
        assert!(begin.elapsed() < PATIENCE, "nobody answers");
    }
    for seq in 0..count {
        guest.send(
            0,
            &host
                .ping(ip(to), 7, seq, &[seq.to_le_bytes()[0]; 900])
                .unwrap(),
        );
        let mut is_answered = false;
        let begin = Instant::now();
        while !is_answered {
            guest.wait(Duration::from_millis(50));
            while let Some(frame) = guest.recv(0) {
                match host.handle(&frame) {
                    Event::Pong(from, 7, n) => is_answered |= (from, n) == (ip(to), seq),
                    Event::Answer(answer) => _ = guest.send(0, &answer),
                    _ => {}
                }
            }
            assert!(begin.elapsed() < PATIENCE, "ping {seq} is lost");
        }
        guest.driver.reclaim_tx(0);
    }
}

/// Pings from a namespace: none may be lost.
pub(crate) fn ping(spaces: &Spaces, role: &str, to: u8, count: u32) {
    // Port and address are learned by the first.
    spaces.run(role, &format!("ping -q -c 1 -w 60 {}", ip(to)));
    let said = spaces.run(
        role,
        &format!("ping -q -c {count} -i 0.002 -s 1400 -w 60 {}", ip(to)),
    );
    assert!(
        said.contains(&format!(
            "{count} packets transmitted, {count} received, 0% packet loss"
        )),
        "{said}"
    );
}

/// TCP from one namespace to another for so long; bits a second as received.
pub(crate) fn tcp(
    spaces: &Spaces,
    from: &str,
    (to, number): (&str, u8),
    seconds: u32,
    options: &str,
) -> f64 {
    let mut server = spaces.spawn(to, "iperf3 -s -1 --forceflush");
    server.until_says("listening");
    let said = spaces.run(
        from,
        &format!("iperf3 -J -c {} -t {seconds} {options}", ip(number)),
    );
    server.ended();
    let report: serde_json::Value =
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    let rate = report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .unwrap_or(0.0);
    eprintln!(
        "{from} to {to} {options}: {:.2} Gbit/s, {} sent again",
        rate / 1e9,
        report["end"]["sum_sent"]["retransmits"]
    );
    rate
}

/// Nobody in this namespace has received anything with a wrong checksum.
pub(crate) fn assert_checksums(spaces: &Spaces, role: &str) {
    let snmp = spaces.run(role, "cat /proc/net/snmp");
    for protocol in ["Icmp:", "Tcp:", "Udp:"] {
        let mut lines = snmp
            .lines()
            .filter(|line| line.starts_with(protocol))
            .map(str::split_whitespace);
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let wrong = names
            .zip(values)
            .find(|(name, _)| *name == "InCsumErrors")
            .unwrap();
        assert_eq!(wrong.1, "0", "{protocol} in {role}");
    }
}
