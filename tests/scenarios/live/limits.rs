//! Limits that change while frames flow.

use std::sync::Arc;

use flowtable::DropReason;
use guest::Options;
use pmd::limit::{LimitOptions, QueueOptions, VmLimits};
use pmd::port::mem::MemPort;
use rig::{
    ANY, MS, NO_LIMIT, Rig, SECOND, STEP, bits, frame, id_of, mac, networks, options, packets,
};

use super::add;

const LEN: usize = 1514;

/// What a VM may send or get, and for so long.
fn total(phases: &[(u64, LimitOptions)]) -> u64 {
    let passes = |&(time, limit): &(u64, LimitOptions)| {
        let by_bits = limit.bits_per_sec.map(|bits| bits / 8);
        let by_packets = limit.packets_per_sec.map(|packets| packets * LEN as u64);
        let per_second = by_bits.into_iter().chain(by_packets).min();
        per_second.expect("a limit") as u128 * u128::from(time) / u128::from(SECOND)
    };
    phases.iter().map(|phase| passes(phase) as u64).sum()
}

/// A guest with two queues on two cores, which sends all that it can to one that takes all.
struct Pair {
    rig: Rig,
    limits: Arc<VmLimits>,
    next: u64,
}

impl Pair {
    fn new(n_cores: usize) -> Self {
        let mut rig = Rig::new(n_cores, 2, networks(&[&[0, 1]]));
        let limits = Arc::new(VmLimits::default());
        rig.cores.limit(&[0], &limits);
        let sender = Options {
            n_queue_pairs: 2,
            ..options()
        };
        rig.plug(0, ANY, sender);
        rig.plug(0, ANY, options());
        rig.introduce(0..2);
        rig.now += 1000 * SECOND;
        Self {
            rig,
            limits,
            next: 0,
        }
    }

    fn change(&mut self, from_vm: LimitOptions, to_vm: LimitOptions) {
        let Self { rig, limits, .. } = self;
        rig.cores
            .change_limits(&[0], limits, (from_vm, to_vm), rig.now);
    }

    /// Sends for so long; gives the bytes that arrived.
    fn run(&mut self, time: u64) -> u64 {
        let before = self.rig.counters(1).tx_bytes;
        for _ in 0..time / STEP {
            for queue in 0..2 {
                let guest = &mut self.rig.guests[0];
                guest.reclaim_tx(queue);
                while guest.send(queue, &frame(mac(1), mac(0), self.next, LEN)) {
                    self.next += 1;
                }
            }
            self.rig.step();
            self.rig.drain([1]);
        }
        self.rig.counters(1).tx_bytes - before
    }
}

fn assert_near(got: u64, exact: u64, what: &str) {
    assert!(
        got.abs_diff(exact) * 100 <= exact,
        "{what}: {got} bytes instead of {exact}"
    );
}

/// A change every millisecond for a second: of rates far apart, of bursts, of packets beside bits.
#[test]
fn limit_that_changes_every_millisecond_gives_the_right_total() {
    let burst = |bytes| LimitOptions {
        burst_bytes: Some(bytes),
        ..bits(100_000_000)
    };
    // It never binds, and comes and goes.
    let beside = LimitOptions {
        bits_per_sec: Some(100_000_000),
        ..packets(100_000)
    };
    for (name, settings) in [
        (
            "rates",
            vec![bits(10_000_000), bits(1_000_000_000), bits(200_000_000)],
        ),
        (
            "bursts",
            vec![burst(20_000), burst(1_000_000), burst(5_000)],
        ),
        (
            "packets",
            vec![packets(20_000), packets(4_000), packets(90_000)],
        ),
        ("packets beside", vec![beside, bits(100_000_000)]),
        ("the same", vec![bits(100_000_000)]),
    ] {
        let mut pair = Pair::new(2);
        // What was saved up is spent first.
        pair.change(settings[0], NO_LIMIT);
        pair.run(20 * MS);
        let (mut got, mut phases) = (0, Vec::new());
        let n_ms = match name {
            _ if cfg!(miri) => 2,
            "rates" => 1000,
            _ => 300,
        };
        for n in 0..n_ms {
            let setting = settings[n % settings.len()];
            pair.change(setting, NO_LIMIT);
            got += pair.run(MS);
            phases.push((MS, setting));
        }
        if !cfg!(miri) {
            assert_near(got, total(&phases), name);
        }
        pair.rig.settle();
        assert_eq!(pair.rig.counters(0).n_dropped(), 0);
        pair.rig.assert_balanced();
    }
}

/// A queue that would have been looked at a second later is so at once.
#[test]
fn higher_rate_has_effect_within_a_millisecond() {
    for n_cores in 1..=2 {
        let mut pair = Pair::new(n_cores);
        pair.change(
            LimitOptions {
                burst_bytes: Some(1514),
                ..bits(10_000)
            },
            NO_LIMIT,
        );
        pair.run(20 * MS);
        assert_eq!(pair.run(20 * MS), 0, "a frame takes a second");
        pair.change(bits(1_000_000_000), NO_LIMIT);
        let got = pair.run(MS);
        assert!(got > 90_000, "{got} bytes in the first millisecond");
        pair.change(bits(10_000), NO_LIMIT);
        pair.run(MS);
        assert_eq!(pair.run(20 * MS), 0, "and a lower one");
        pair.change(NO_LIMIT, NO_LIMIT);
        let got = pair.run(MS);
        assert!(
            got > 1_000_000,
            "without limit {got} bytes in a millisecond"
        );
        pair.change(bits(80_000_000), NO_LIMIT);
        pair.run(10 * MS);
        assert_near(pair.run(200 * MS), 2_000_000, "a limit again");
    }
}

/// A wire and a guest that send to one VM, which is at its limit.
struct ToVm {
    rig: Rig,
    ends: [MemPort; 3],
    limits: Arc<VmLimits>,
    next: u64,
    seen: [Vec<u64>; 2],
}

fn queue(time: u64, limit: LimitOptions) -> LimitOptions {
    LimitOptions {
        queue: Some(QueueOptions {
            time,
            bytes_max: 8 << 20,
        }),
        ..limit
    }
}

impl ToVm {
    /// Port 0 is the VM's, 1 a guest, 2 a wire.
    fn new(n_cores: usize) -> Self {
        let mut rig = Rig::new(n_cores, 3, networks(&[&[0, 1, 2]]));
        let limits = Arc::new(VmLimits::default());
        rig.cores.limit(&[0], &limits);
        let ends = [true, true, false].map(|can_hold| MemPort::new(usize::MAX, can_hold));
        for (port, end) in (0..).zip(&ends) {
            add(&mut rig, rig::ingress(port, 0, ANY), end);
            end.send(&frame(rig::ALL, mac(port), 0, 60));
            rig.settle();
        }
        ends.iter().for_each(|end| while end.receive().is_some() {});
        rig.now += 1000 * SECOND;
        Self {
            rig,
            ends,
            limits,
            next: 1,
            seen: Default::default(),
        }
    }

    fn change(&mut self, to_vm: LimitOptions) {
        let Self { rig, limits, .. } = self;
        rig.cores
            .change_limits(&[0], limits, (NO_LIMIT, to_vm), rig.now);
    }

    /// Sends from the guest as much as it can, and from the wire at so many frames a step.
    fn run(&mut self, time: u64, per_step: usize) -> u64 {
        let before = self.rig.counters(0).tx_bytes;
        for _ in 0..time / STEP {
            while self.ends[1].n_waiting() < 64 {
                self.send(1);
            }
            (0..per_step).for_each(|_| self.send(2));
            self.step();
        }
        self.rig.counters(0).tx_bytes - before
    }

    fn send(&mut self, from: u16) {
        let id = u64::from(from) << 32 | self.next;
        self.next += 1;
        self.ends[usize::from(from)].send(&frame(mac(0), mac(from), id, LEN));
    }

    fn step(&mut self) {
        self.rig.step();
        while let Some(frame) = self.ends[0].receive() {
            let id = id_of(&frame);
            let of = &mut self.seen[(id >> 32) as usize - 1];
            assert!(of.last().is_none_or(|&last| last < id), "out of order");
            of.push(id);
        }
    }
}

#[test]
fn limit_on_what_a_vm_gets_changes_every_millisecond_and_gives_the_right_total() {
    let n_ms = if cfg!(miri) { 2 } else { 1000 };
    for n_cores in 1..=2 {
        let rates = [20_000_000, 400_000_000, 100_000_000];
        let settings = rates.map(|rate| queue(20 * MS, bits(rate)));
        let mut vm = ToVm::new(n_cores);
        vm.change(settings[0]);
        vm.run(20 * MS, 1);
        let (mut got, mut phases) = (0, Vec::new());
        for n in 0..n_ms {
            let setting = settings[n % 3];
            vm.change(setting);
            got += vm.run(MS, 1);
            phases.push((MS, setting));
        }
        if !cfg!(miri) {
            assert_near(got, total(&phases), "to the VM");
            assert!(vm.seen.iter().all(|of| of.len() > 1000), "both get through");
        }
        assert_eq!(vm.rig.counters(1).n_dropped(), 0, "the guest's can wait");
        vm.rig.assert_counted();
    }
}

/// A queue that comes, grows twentyfold while it is full, and goes: what is held stays in order,
/// and is lost by nothing but its limit.
#[test]
fn queue_comes_and_grows_and_goes_while_frames_are_held() {
    for n_cores in 1..=2 {
        let mut vm = ToVm::new(n_cores);
        vm.change(bits(100_000_000));
        vm.run(20 * MS, 1);
        assert_eq!(vm.rig.counters(2).held, 0, "what is over it is dropped");
        vm.change(queue(5 * MS, bits(100_000_000)));
        vm.run(20 * MS, 1);
        let few = vm.rig.counters(2).held;
        assert!((10..60).contains(&few), "{few}");
        vm.change(queue(100 * MS, bits(100_000_000)));
        vm.run(200 * MS, 1);
        let many = vm.rig.counters(2).held;
        assert!(many > 8 * few, "{many} after {few}");
        // Less again: what is held is served, and no more comes than may.
        vm.change(queue(5 * MS, bits(100_000_000)));
        vm.run(200 * MS, 1);
        assert!(vm.rig.counters(2).held < 60);
        vm.change(queue(100 * MS, bits(100_000_000)));
        vm.run(200 * MS, 1);
        // No queue: those that are held go at the rate, and nothing is added.
        vm.change(bits(100_000_000));
        let got = vm.run(50 * MS, 1);
        assert!(vm.rig.counters(2).held < many, "it becomes empty");
        assert_near(got, 50 * 12_500, "held frames go at the rate");
        vm.change(queue(100 * MS, bits(100_000_000)));
        vm.run(100 * MS, 1);
        assert!(vm.rig.counters(2).held > few);
        // No limit: they go at once, and before those that come.
        let lost = vm.rig.counters(2).n_dropped();
        vm.change(NO_LIMIT);
        vm.run(MS, 1);
        assert_eq!(vm.rig.counters(2).held, 0);
        vm.run(20 * MS, 1);
        let counters = vm.rig.counters(2);
        assert_eq!(
            counters.n_dropped(),
            lost,
            "none for a limit that is no more"
        );
        assert_eq!(
            counters.n_dropped(),
            counters.drops[DropReason::Limit.index()],
            "and none for anything else before"
        );
        let guest = vm.rig.counters(1);
        assert_eq!(
            guest.n_dropped(),
            guest.drops[DropReason::Limit.index()],
            "only while there was no queue"
        );
        vm.rig.assert_counted();
    }
}

/// What waits at a limit by which the next frame would go a second later is looked at at once.
#[test]
fn what_waits_at_a_limit_goes_within_a_millisecond_of_a_higher_one() {
    for per_step in [0, 1] {
        let mut vm = ToVm::new(2);
        let slow = LimitOptions {
            burst_bytes: Some(1514),
            ..bits(20_000)
        };
        vm.change(queue(100 * MS, slow));
        vm.run(100 * MS, per_step);
        assert_eq!(vm.run(20 * MS, per_step), 0);
        vm.change(queue(100 * MS, bits(1_000_000_000)));
        let got = vm.run(MS, per_step);
        assert!(got > 60_000, "{got} bytes, wire: {per_step}");
    }
}
