//! Many VMs with a limit each, flooded off the wire, and one more that must not notice. Seconds:
//! `WEIR_SECONDS`, as in `rates`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest::{Guest, Options};

use crate::hosts::host;
use crate::packet::Packets;
use crate::rates::{ATTEMPTS, Ahead, seconds, undisturbed};
use crate::rig::{Daemon, folder, frame};
use crate::space::spaces;

const N_LIMITED: u8 = 64;
/// Stations' numbers: the sender on the wire, those with a limit behind it, and the one that has
/// none.
const WIRE: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = FIRST + N_LIMITED;

/// What came to the VMs, read by the thread that sends.
struct Tenants {
    limited: Vec<Guest>,
    other: Guest,
    turn: usize,
    n_limited: u64,
    /// Numbers of frames to the one without a limit, in the order in which they came.
    came: Vec<u64>,
}

impl Tenants {
    fn read_some(&mut self) {
        self.turn = (self.turn + 1) % self.limited.len();
        let guest = &mut self.limited[self.turn];
        while guest.recv(0).is_some() {
            self.n_limited += 1;
        }
        while let Some(frame) = self.other.recv(0) {
            self.came
                .push(u64::from_be_bytes(frame[14..22].try_into().unwrap()));
        }
    }

    /// Reads until nothing has come to the one without a limit for a while.
    fn settle(&mut self) {
        let (mut n, mut last) = (self.came.len(), Instant::now());
        while last.elapsed() < Duration::from_millis(200) {
            (0..N_LIMITED).for_each(|_| self.read_some());
            if self.came.len() != n {
                (n, last) = (self.came.len(), Instant::now());
            }
        }
    }

    /// Sends frames of 60 bytes (64 with their checksum) to all in turn, at most so many a second.
    /// How many went to the VMs with a limit and how many, numbered from 0, to the other.
    fn flood(&mut self, packets: &Packets, time: Duration, pps: f64) -> (u64, u64) {
        const AT_ONCE: u8 = 5;
        let mut frames: Vec<_> = (FIRST..=LAST).map(|to| frame(WIRE, to, 60, 0)).collect();
        let (begin, step) = (
            Instant::now(),
            Duration::from_secs_f64(f64::from(AT_ONCE) / pps),
        );
        let (mut due, mut to, mut n_flood, mut number) = (begin, 0, 0, 0u64);
        self.came.clear();
        while begin.elapsed() < time {
            self.read_some();
            let now = Instant::now();
            if now < due {
                continue;
            }
            due = now + step;
            for _ in 0..AT_ONCE {
                let is_other = to == frames.len() - 1;
                if is_other {
                    frames[to][14..22].copy_from_slice(&number.to_be_bytes());
                }
                if packets.try_send(&frames[to]) {
                    *(if is_other { &mut number } else { &mut n_flood }) += 1;
                }
                to = (to + 1) % frames.len();
            }
        }
        self.settle();
        (n_flood, number)
    }
}

fn topology() -> String {
    let mut text =
        "cores: [CPU]\ncontrol: { path: DIR/control.sock }\nuplinks: { wire: { device: to-a, ring: \
        16384 } }\n\
                    networks: { blue: { uplink: wire } }\nvms:\n"
            .to_owned();
    for number in FIRST..=LAST {
        let limit = if number < LAST {
            "limit: { to-vm: { rate: 500kbit } }, "
        } else {
            ""
        };
        let nic = format!(
            "mac: \"02:00:00:00:00:{number:02x}\", vhost-user: {{ path: DIR/{number}.sock }}"
        );
        writeln!(
            text,
            "  v{number}: {{ {limit}nics: {{ n: {{ network: blue, {nic} }} }} }}"
        )
        .unwrap();
    }
    text
}

#[test]
fn sixty_four_limited_vms_flooded_off_the_wire_cost_another_no_frame() {
    let Some(spaces) = spaces(&["sw", "a"]) else {
        return;
    };
    host(&spaces, "a", WIRE, 1);
    let mut daemon = Daemon::start_by(Arc::new(folder()), &topology(), undisturbed(&spaces));
    daemon.until_state("wire", "up");
    // Long enough for what this thread may be kept from running.
    let options = Options {
        rx_ring: 1024,
        checked: false,
        ..Options::default()
    };
    let open = |number: u8| daemon.guest(&format!("{number}.sock"), options.clone());
    let (limited, other) = ((FIRST..LAST).map(open).collect(), open(LAST));
    daemon.until_state(&format!("v{LAST}/n"), "up");
    let mut tenants = Tenants {
        limited,
        other,
        turn: 0,
        n_limited: 0,
        came: Vec::new(),
    };
    let a = Packets::open(&spaces, "a", "h0");
    let _ahead = Ahead::go();

    let taken = |daemon: &Daemon| {
        daemon.port("wire")["counters"]["rx_frames"]
            .as_u64()
            .unwrap()
    };
    let (before, time) = (taken(&daemon), Duration::from_secs(1));
    tenants.flood(&a, time, f64::INFINITY);
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let flat_out = (taken(&daemon) - before) as f64 / time.as_secs_f64();
    let mut tries = Vec::new();
    for _ in 0..ATTEMPTS {
        let missed = |daemon: &Daemon| {
            daemon.port(&format!("v{LAST}/n"))["counters"]["missed_frames"]
                .as_u64()
                .unwrap()
        };
        let limited = |daemon: &Daemon| daemon.dropped("wire", "limit");
        let (before, limited_before, n_before) =
            (missed(&daemon), limited(&daemon), tenants.n_limited);
        let (n_flood, n_sent) =
            tenants.flood(&a, Duration::from_secs(seconds().into()), flat_out / 2.0);
        let n_came = tenants.came.len() as u64;
        assert!(tenants.came.is_sorted_by(|a, b| a < b), "overtaken");
        let (n_missed, n_limited) = (missed(&daemon) - before, limited(&daemon) - limited_before);
        eprintln!(
            "flat out {flat_out:.0} frames a second; in {} s {n_flood} to {N_LIMITED} VMs with a \
            limit, of which {} came and \
             {n_limited} were dropped; {n_sent} to another, of which {} were lost, {n_missed} of \
             them by the switch; {}",
            seconds(),
            tenants.n_limited - n_before,
            n_sent - n_came,
            daemon.json(&["uplinks"])[0]["device"]["lost"]
        );
        assert_eq!(n_missed, 0, "by the switch");
        // Else it was no flood.
        assert!(n_limited > n_flood / 2, "{n_limited} of {n_flood}");
        tries.push((n_sent, n_came));
        // What the wire lost because a CPU was taken away proves nothing.
        if n_came == n_sent {
            break;
        }
    }
    assert!(
        tries
            .last()
            .is_some_and(|(n_sent, n_came)| *n_sent > 0 && n_sent == n_came),
        "(sent, came): {tries:?}"
    );
    daemon.until("all frames are accounted for", |daemon| {
        let counters = &daemon.port("wire")["counters"];
        let get = |name: &str| counters[name].as_u64().unwrap();
        get("rx_frames") + get("copied_frames") == get("forwarded_frames") + get("dropped_frames")
    });
}
