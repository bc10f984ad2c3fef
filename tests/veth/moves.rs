//! Cores that come and go while frames leave by a device of two queues.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use guest::{GuestDriver, Options};
use pmd::sys::EventFd;

use crate::world::{Manner, NATIVE, Switch, World, can_run};

const TWO_QUEUES: Manner = Manner {
    n_queues: 2,
    ..NATIVE
};
/// Long enough for the slowest machine; a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rounds of one core, two, and one again.
const ROUNDS: usize = 50;
/// Flows of the guest, by either queue in turn, and datagrams of each that may be on their way.
const FLOWS: usize = 4;
const WINDOW: u64 = 32;

/// Lets cores go one, two, one, each of two numbers in turn; queues are spread meanwhile. So many
/// frames are taken between two changes.
fn change_cores(switch: &Switch, n_between: u64) {
    let n_taken = || {
        [0, 1]
            .map(|port| switch.cores.counters(port).rx_frames)
            .iter()
            .sum::<u64>()
    };
    let wait = |begun: Instant, until: u64| {
        while n_taken() < until {
            assert!(begun.elapsed() < PATIENCE, "nothing moves any more");
            std::thread::yield_now();
        }
    };
    let mut threads = Vec::new();
    for _ in 0..ROUNDS {
        let core = switch.cores.add_core().expect("eventfds");
        let id = core.id();
        threads.push(switch.start(core));
        switch.cores.spread();
        wait(Instant::now(), n_taken() + n_between);
        let queues = switch.cores.queues();
        let n_there = queues.iter().filter(|queue| queue.core == id).count();
        assert_eq!(n_there, queues.len() / 2, "{queues:?}");
        switch.cores.remove_core(1 - id).expect("it may go");
        wait(Instant::now(), n_taken() + n_between);
    }
    // The last one runs on.
    let last = threads.pop();
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("a core that ended"));
    drop(last);
}

/// A guest with two queue pairs, and what it kicks.
fn plug_guest(switch: &Switch) -> (GuestDriver, Vec<Arc<EventFd>>) {
    let options = Options {
        n_queue_pairs: 2,
        event_idx: true,
        ..rig::options()
    };
    let mut guest = GuestDriver::new(options).expect("memory");
    (0..2).for_each(|pair| _ = guest.post_rx(pair));
    let memory = Arc::new(rig::memory_of(&guest));
    let mut kicks = Vec::new();
    let up = rig::port_with(&memory, &guest, rig::ingress(0, 0, rig::ANY), |queue| {
        let kick = Arc::new(EventFd::new().expect("an eventfd"));
        kicks.push(kick.clone());
        queue.kick = Some(kick);
    });
    switch.cores.up(up);
    (guest, kicks)
}

/// Datagram `number` of a flow, from station 9 to station 1.
fn datagram(flow: usize, number: u64) -> Vec<u8> {
    let payload = [(flow as u64).to_be_bytes(), number.to_be_bytes()].concat();
    let mut ip = vec![
        0x45,
        0,
        0,
        28 + payload.len() as u8,
        0,
        0,
        0,
        0,
        64,
        17,
        0,
        0,
    ];
    ip.extend([10, 99, 0, 9, 10, 99, 0, 1]);
    let words = ip
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let [port, len] = [1000 + flow as u16, 8 + payload.len() as u16].map(u16::to_be_bytes);
    let udp = [&port[..], &9999u16.to_be_bytes(), &len, &[0; 2]].concat();
    let ethernet = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]].concat();
    [&ethernet[..], &[8, 0], &ip, &udp, &payload].concat()
}

#[test]
fn numbered_datagrams_of_a_guest_arrive_whole_and_in_order_while_cores_come_and_go() {
    let name = "numbered_datagrams_of_a_guest_arrive_whole_and_in_order_while_cores_come_and_go";
    let Some(_turn) = can_run(name) else {
        return;
    };
    let world = World::new(2);
    let switch = Switch::new(1);
    let (mut guest, kicks) = plug_guest(&switch);
    let _device = switch.plug(&world, 1, "up-a", TWO_QUEUES);
    let socket = world
        .inside("a", || UdpSocket::bind("10.99.0.1:9999"))
        .expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    // Station 1 asks for an address, and is known by that.
    let begun = Instant::now();
    while guest.recv(0).is_none() && guest.recv(1).is_none() {
        let _ = socket.send_to(&[0], "10.99.0.9:1");
        assert!(begun.elapsed() < PATIENCE, "station 1 says nothing");
        std::thread::yield_now();
    }
    let (mut n_sent, mut n_got) = ([0; FLOWS], [0; FLOWS]);
    let mut work = |may_send: bool| {
        for flow in 0..FLOWS {
            let pair = flow % 2;
            guest.reclaim_tx(pair);
            while may_send
                && n_sent[flow] < n_got[flow] + WINDOW
                && guest.send(pair, &datagram(flow, n_sent[flow]))
            {
                n_sent[flow] += 1;
            }
            if guest.kick_due(2 * pair + 1) {
                kicks[2 * pair + 1].signal();
            }
            while guest.recv(pair).is_some() {}
            guest.post_rx(pair);
        }
        let mut bytes = [0; 64];
        while let Ok(16) = socket.recv(&mut bytes) {
            let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
            let (flow, number) = (number(0) as usize, number(8));
            assert_eq!(number, n_got[flow], "of flow {flow}");
            n_got[flow] += 1;
        }
        n_got == n_sent
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            change_cores(&switch, 1000);
            is_over.store(true, Ordering::Release);
        });
        while !is_over.load(Ordering::Acquire) && !changes.is_finished() {
            work(true);
        }
    });
    let begun = Instant::now();
    while !work(false) {
        assert!(begun.elapsed() < PATIENCE, "the last don't come");
        std::thread::yield_now();
    }
    eprintln!("{n_sent:?} datagrams while cores came and went {ROUNDS} times");
    assert!(n_sent.iter().sum::<u64>() > 90_000, "{n_sent:?}");
    let counters = switch.cores.counters(0);
    assert_eq!(counters.n_dropped(), 0, "{counters:?}");
    (0..2).for_each(|port| drop(switch.down(port)));
    switch.assert_balanced();
}

#[test]
fn tcp_between_devices_of_two_queues_goes_on_while_cores_come_and_go() {
    let name = "tcp_between_devices_of_two_queues_goes_on_while_cores_come_and_go";
    let Some(_turn) = can_run(name) else {
        return;
    };
    let world = World::new(2);
    let switch = Switch::new(1);
    let devices = [
        switch.plug(&world, 0, "up-a", TWO_QUEUES),
        switch.plug(&world, 1, "up-b", TWO_QUEUES),
    ];
    assert_eq!(world.ping("a", "10.99.0.2", 3), 3);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| change_cores(&switch, 0));
        while !changes.is_finished() {
            let mbit = world.tcp("a", "10.99.0.2", ("b", "-P 4 -n 40M"));
            eprintln!("TCP while cores come and go: {mbit} Mbit/s");
        }
    });
    assert_eq!(world.ping("b", "10.99.0.1", 10), 10);
    for watch in devices.iter().flat_map(|device| &device.watches) {
        let lost = watch.statistics().expect("an open socket");
        assert_eq!(
            (lost.rx_invalid_descs, lost.tx_invalid_descs),
            (0, 0),
            "{lost:?}"
        );
    }
    (0..2).for_each(|port| drop(switch.down(port)));
    switch.assert_balanced();
}
