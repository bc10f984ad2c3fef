//! A VM goes while others send to it at full rate, and another one gets its id: nothing of the one
//! reaches the other, or is said of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use guest::{Guest, Options};

use crate::rig::{Daemon, PATIENCE, frame, weir};
use crate::world::{MAIN, Outcome, World, vm};

/// How often.
const ROUNDS: u32 = 100;
/// Frames of others that each must get while it is there.
const N_GOT: usize = 64;

/// Two networks, each with somebody who sends without end to whoever comes and goes, and to
/// somebody who stays.
const SENDERS: [Sender; 2] = [
    Sender {
        network: "blue",
        names: ["a", "b"],
        stations: [1, 2],
        guest: 0x50,
    },
    Sender {
        network: "red",
        names: ["r", "s"],
        stations: [3, 4],
        guest: 0x51,
    },
];

#[derive(Clone, Copy)]
struct Sender {
    network: &'static str,
    names: [&'static str; 2],
    stations: [u8; 2],
    /// Station of whoever comes and goes in this network.
    guest: u8,
}

/// The two senders and those who stay, driven by one thread.
struct Senders {
    stop: Arc<AtomicBool>,
    /// Frames that came to those who stay, in each network.
    n_got: Arc<[AtomicU64; 2]>,
    thread: Option<JoinHandle<()>>,
}

impl Senders {
    fn start(daemon: &Daemon) -> Self {
        let open = |name: &str| daemon.guest(&format!("{name}.sock"), Options::default());
        let mut guests = SENDERS.map(|sender| sender.names.map(open));
        let stop = Arc::new(AtomicBool::new(false));
        let n_got: Arc<[AtomicU64; 2]> = Arc::default();
        let (is_told, counts) = (stop.clone(), n_got.clone());
        let thread = std::thread::spawn(move || {
            let mut n = 0;
            while !is_told.load(Ordering::Acquire) {
                for ((sender, guests), count) in SENDERS.iter().zip(&mut guests).zip(&*counts) {
                    sender.turn(guests, n);
                    for guest in guests {
                        let n_got = take_all(guest, sender).len() as u64;
                        count.fetch_add(n_got, Ordering::Release);
                    }
                }
                n += 1;
            }
        });
        Self {
            stop,
            n_got,
            thread: Some(thread),
        }
    }

    /// Those who stay get frames all along.
    fn until_more(&self) {
        let n_got = || [0, 1].map(|n| self.n_got[n].load(Ordering::Acquire));
        let (before, begin) = (n_got(), Instant::now());
        while n_got()
            .iter()
            .zip(before)
            .any(|(now, before)| *now < before + 10)
        {
            assert!(begin.elapsed() < PATIENCE, "nothing comes any more");
            let thread = self.thread.as_ref();
            assert!(thread.is_some_and(|thread| !thread.is_finished()));
            std::thread::yield_now();
        }
    }

    fn end(mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Sender {
    /// As many frames as go, by turns to whoever comes and goes and to who stays; from time to time
    /// one the other way, so that the switch doesn't forget who that is.
    fn turn(&self, [from, to]: &mut [Guest; 2], n: u64) {
        let [here, there] = self.stations;
        from.driver.reclaim_tx(0);
        for n in 0..32 {
            let target = if n % 2 == 0 { self.guest } else { there };
            if !from.send(0, &frame(here, target, 200, n)) {
                break;
            }
        }
        if n.is_multiple_of(64) {
            to.driver.reclaim_tx(0);
            to.send(0, &frame(there, here, 60, n));
        }
    }

    /// Stations whose frames may be seen in this network.
    fn may_send(&self) -> BTreeSet<u8> {
        let [from, to] = self.stations;
        [from, to, self.guest].into()
    }
}

/// Takes all that has come to a guest in this network; whom it is from is checked.
fn take_all(guest: &mut Guest, network: &Sender) -> Vec<u8> {
    let may_send = network.may_send();
    let mut from = Vec::new();
    while let Some(frame) = guest.recv(0) {
        assert_eq!(frame[6..11], [2, 0, 0, 0, 0], "{frame:?}");
        assert!(
            may_send.contains(&frame[11]),
            "a frame of station {:#x} in network {}",
            frame[11],
            network.network
        );
        from.push(frame[11]);
    }
    from
}

/// What is said of a VM that has just been added is nothing.
fn assert_is_new(daemon: &Daemon, name: &str) {
    let port = daemon.port(name);
    let counters = port["counters"].as_object().unwrap();
    assert!(counters.values().all(|n| n == 0), "{name}: {counters:?}");
    assert_eq!(port["drops"].as_array().unwrap().len(), 0, "{name}: {port}");
    assert_eq!(port["addresses"]["known"], 0, "{name}: {port}");
    let macs = daemon.json(&["macs"]);
    let is_its = |row: &serde_json::Value| row["port"] == name;
    assert!(!macs.as_array().unwrap().iter().any(is_its), "{macs}");
}

/// There is room for one more port than those that stay, so each that comes has the id of the one
/// that went.
#[test]
fn nothing_for_a_vm_that_has_gone_reaches_the_one_with_its_id() {
    let main = format!("ports: 5\n{MAIN}");
    let stay = SENDERS.iter().flat_map(|sender| {
        let of = |name| (name, vm(sender.network, name, ""));
        sender.names.map(of)
    });
    let mut world = World::start_by(weir(), &main, &stay.collect::<Vec<_>>());
    let senders = Senders::start(&world.daemon);
    senders.until_more();
    let mut former: Option<Guest> = None;
    for round in 0..ROUNDS {
        // The other network, each second time; a limit, so that frames wait for it, each third.
        let sender = &SENDERS[(round / 2 % 2) as usize];
        let limit = "limit: { to-vm: { rate: 10mbit } },";
        let limit = if round % 3 == 0 { limit } else { "" };
        let name = format!("x{round}");
        world.write(&name, &vm(sender.network, &name, limit));
        assert_eq!(world.reload(), Outcome::InForce);
        assert_is_new(&world.daemon, &format!("{name}/net0"));
        let options = Options::default();
        let mut guest = world.daemon.guest(&format!("{name}.sock"), options);
        world.daemon.until_state(&format!("{name}/net0"), "up");
        if let Some(former) = &mut former {
            // It doesn't know that it has gone, and goes on.
            let network = &SENDERS[((round - 1) / 2 % 2) as usize];
            while former.send(0, &frame(network.guest, network.stations[0], 60, 1)) {}
        }
        let [station, _] = sender.stations;
        let (begin, mut n_got) = (Instant::now(), 0);
        while n_got < N_GOT {
            guest.driver.reclaim_tx(0);
            guest.send(0, &frame(sender.guest, station, 100, u64::from(round)));
            n_got += take_all(&mut guest, sender).len();
            assert!(begin.elapsed() < PATIENCE, "nothing comes to {name}");
            std::thread::yield_now();
        }
        world.erase(&name);
        // Its ring is full of frames that nobody has taken.
        while guest.send(0, &frame(sender.guest, station, 100, 2)) {}
        assert_eq!(world.reload(), Outcome::InForce);
        senders.until_more();
        former = Some(guest);
    }
    senders.end();
    for sender in SENDERS {
        for name in sender.names {
            let port = world.daemon.port(&format!("{name}/net0"));
            assert_eq!(port["connection"]["connections"], 1, "{name}");
        }
    }
}
