//! Floods: no copy is lost for a lock that is let go in time, and what they may copy is bounded.

use flowtable::DropReason;
use guest::Options;
use pmd::flood_budget::{COPIES_PER_SEC, COPIES_SAVED};
use pmd::port::mem::MemPort;
use rig::{ALL, ANY, NO_LIMIT, Rig, bits, frame, id_of, mac, networks, options};

/// Ports in memory: on core 0 one that sends, and one that holds it up; a wire on core 1 that
/// floods.
const BUSY: u16 = 0;
const WIRE: u16 = 1;
const STOP: u16 = 2;
/// A guest on core 1 that floods, and one that all send to.
const FLOODER: u16 = 3;
const B: u16 = 4;
const LAST: u16 = 5;

struct Two {
    rig: Rig,
    busy: MemPort,
    wire: MemPort,
    stop: MemPort,
}

/// Two cores, and `B` before and `LAST` behind it in the network's list.
fn two() -> Two {
    let mut rig = Rig::new(2, 6, networks(&[&[BUSY, WIRE, STOP, FLOODER, B, LAST]]));
    let [busy, wire, stop] = [true, false, true].map(|can_hold| MemPort::new(100_000, can_hold));
    // Rigs number their guests from 0; these come behind the ports in memory.
    for (port, ends) in [(BUSY, &busy), (WIRE, &wire), (STOP, &stop)] {
        rig.plug_mem(port, Some(0), ends);
        rig.guests
            .push(guest::GuestDriver::new(options()).expect("memory"));
    }
    rig.plug_all(3, &options());
    for (port, ends) in [(BUSY, &busy), (STOP, &stop)] {
        ends.send(&frame(ALL, mac(port), 0, 60));
    }
    wire.send(&frame(ALL, mac(WIRE), 0, 60));
    rig.settle();
    rig.introduce([FLOODER, B, LAST]);
    Two {
        rig,
        busy,
        wire,
        stop,
    }
}

impl Two {
    /// Core 0 is held up with `B`'s queue locked, while core 1 makes `n_turns`.
    fn lock_b_for(&mut self, n_turns: u64) {
        self.busy.send(&frame(mac(B), mac(BUSY), 99, 60));
        self.busy.send(&frame(mac(STOP), mac(BUSY), 99, 60));
        let held = self.stop.hold_up();
        let (before, stop) = (self.stop.n_asked(), self.stop.clone());
        self.rig
            .step_beside(0, move || stop.n_asked() > before, n_turns, || drop(held));
    }

    fn drops(&self, port: u16, reason: DropReason) -> u64 {
        self.rig.drops(port, reason)
    }

    /// What a guest got of floods, which is all but what core 0's port sent.
    fn floods_at(&mut self, port: u16) -> Vec<u64> {
        let got = self.rig.receive_all(port);
        got.iter()
            .filter(|bytes| bytes[..6] == ALL)
            .map(|bytes| id_of(bytes))
            .collect()
    }
}

#[test]
fn flood_waits_for_a_member_that_another_core_is_sending_to_and_serves_each_once() {
    for n_turns in [1, 2, 5, 9] {
        let mut two = two();
        let ids: Vec<u64> = (0..40).collect();
        for &id in &ids {
            two.rig.guests[usize::from(FLOODER)].send(0, &frame(ALL, mac(FLOODER), id, 60));
        }
        two.lock_b_for(n_turns);
        two.rig.settle();
        for port in [B, LAST] {
            assert_eq!(two.floods_at(port), ids, "{n_turns} turns, port {port}");
        }
        assert_eq!(two.rig.counters(FLOODER).n_dropped(), 0);
        two.rig.assert_counted();
    }
}

#[test]
fn flood_off_a_wire_waits_for_a_lock_as_a_guests_does() {
    let mut two = two();
    let ids: Vec<u64> = (0..40).collect();
    ids.iter()
        .for_each(|&id| two.wire.send(&frame(ALL, mac(WIRE), id, 60)));
    two.lock_b_for(9);
    two.rig.settle();
    for port in [FLOODER, B, LAST] {
        assert_eq!(two.floods_at(port), ids, "port {port}");
    }
    assert_eq!(two.rig.counters(WIRE).n_dropped(), 0);
    two.rig.assert_counted();
}

#[test]
fn copy_whose_lock_is_held_by_a_core_that_does_not_run_is_dropped_by_that_name_and_the_rest_goes_on()
 {
    let mut two = two();
    let ids: Vec<u64> = (0..40).collect();
    for &id in &ids {
        two.rig.guests[usize::from(FLOODER)].send(0, &frame(ALL, mac(FLOODER), id, 60));
        two.wire.send(&frame(ALL, mac(WIRE), id, 60));
    }
    two.lock_b_for(2000);
    two.rig.settle();
    let got: Vec<u64> = two.floods_at(LAST);
    assert_eq!(got.len(), 80, "others of the network get all");
    for port in [FLOODER, WIRE] {
        let locked = two.drops(port, DropReason::ReceiverLocked);
        assert!(
            locked > 0 && locked == two.rig.counters(port).n_dropped(),
            "{:?}",
            two.rig.counters(port)
        );
    }
    two.rig.assert_counted();
}

#[test]
fn unicast_off_a_wire_to_a_queue_that_is_locked_for_long_is_dropped_by_that_name() {
    let mut two = two();
    (0..10).for_each(|id| two.wire.send(&frame(mac(B), mac(WIRE), id, 60)));
    two.lock_b_for(50);
    two.rig.settle();
    assert_eq!(
        two.drops(WIRE, DropReason::ReceiverLocked),
        two.rig.counters(WIRE).n_dropped()
    );
    assert_eq!(
        two.rig.receive_all(B).len() as u64 + two.drops(WIRE, DropReason::ReceiverLocked),
        10 + 1
    );
    two.rig.assert_counted();
}

#[test]
fn cores_that_flood_and_send_to_the_same_guests_at_once_lose_no_copy() {
    let mut rig = Rig::new(2, 6, networks(&[&[0, 1, 2, 3, 4, 5]]));
    (0..6).for_each(|_| {
        _ = rig.plug(
            0,
            ANY,
            Options {
                rx_ring: 1024,
                ..options()
            },
        )
    });
    rig.introduce(0..6);
    // Neighbours are on different cores: 0 and 1 flood, 2 and 3 send to 4 and 5 as fast as they
    // can.
    let (mut sent, mut got) = ([0u64; 2], [[0u64; 2]; 6]);
    for _ in 0..3_000 {
        for (from, sent) in sent.iter_mut().enumerate() {
            if rig.guests[from].send(0, &frame(ALL, mac(from as u16), *sent, 60)) {
                *sent += 1;
            }
        }
        for from in 2..4u16 {
            while rig.guests[usize::from(from)].send(0, &frame(mac(from + 2), mac(from), 7, 600)) {}
        }
        rig.step_together(&[0, 1]);
        count(&mut rig, &mut got);
    }
    for _ in 0..1000 {
        rig.step();
        count(&mut rig, &mut got);
    }
    assert!(sent[0] > 1_000 && sent[1] > 1_000, "{sent:?}");
    for (port, got) in got.iter().enumerate() {
        for from in 0..2 {
            assert_eq!(
                got[from],
                if port == from { 0 } else { sent[from] },
                "from {from} to {port}"
            );
        }
        assert_eq!(
            rig.counters(port as u16).n_dropped(),
            0,
            "{:?}",
            rig.counters(port as u16)
        );
    }
    rig.assert_balanced();
}

/// Counts the floods that arrive, which come in order.
fn count(rig: &mut Rig, got: &mut [[u64; 2]; 6]) {
    for (port, got) in got.iter_mut().enumerate() {
        for bytes in rig
            .receive_all(port as u16)
            .iter()
            .filter(|bytes| bytes[..6] == ALL)
        {
            let from = usize::from(bytes[11]);
            assert_eq!(id_of(bytes), got[from], "from {from} to {port}");
            got[from] += 1;
        }
    }
}

/// A guest on port 0, and `n` ports in memory that take all.
pub(crate) fn wide(n: u16, can_hold: bool) -> (Rig, Vec<MemPort>) {
    let members: Vec<u16> = (0..=n).collect();
    let mut rig = Rig::with_room(1, members.len(), networks(&[&members]), 1 << 13);
    rig.plug(0, ANY, options());
    let ends: Vec<MemPort> = (0..n).map(|_| MemPort::new(1 << 20, can_hold)).collect();
    for (port, ends) in (1..).zip(&ends) {
        rig.plug_mem(port, Some(0), ends);
    }
    (rig, ends)
}

#[test]
fn turn_makes_no_more_copies_than_a_burst_may_however_many_members_there_are() {
    let (mut rig, ends) = wide(1200, true);
    (0..5).for_each(|id| assert!(rig.guests[0].send(0, &frame(ALL, mac(0), id, 60))));
    let mut before = 0;
    for _ in 0..20 {
        rig.step();
        let made = rig.counters(0).forwarded;
        assert!(made - before <= 512, "{} copies in a turn", made - before);
        assert!(rig.counters(0).is_balanced());
        before = made;
    }
    for ends in &ends {
        let got: Vec<u64> = std::iter::from_fn(|| ends.receive())
            .map(|bytes| id_of(&bytes))
            .collect();
        assert_eq!(got, [0, 1, 2, 3, 4], "each member gets each flood once");
    }
    assert_eq!(
        (rig.counters(0).rx_frames, rig.counters(0).copies),
        (5, 5 * 1199)
    );
    rig.assert_balanced();
}

#[test]
fn guest_that_floods_makes_the_copies_that_its_port_may_and_loses_nothing() {
    const N: u16 = 200;
    for limit in [None, Some(1_000_000_000)] {
        let (mut rig, ends) = wide(N, true);
        rig.limit(&[0], limit.map_or(NO_LIMIT, bits), NO_LIMIT);
        let (time, begin) = (300_000_000, rig.now);
        while rig.now < begin + time {
            while rig.guests[0].send(0, &frame(ALL, mac(0), 1, 60)) {}
            rig.step();
            rig.guests[0].reclaim_tx(0);
            ends.iter()
                .for_each(|ends| while ends.receive().is_some() {});
        }
        let counters = rig.counters(0);
        let may = COPIES_SAVED + COPIES_PER_SEC * time / 1_000_000_000;
        assert!(
            counters.copies * 100 > may * 95,
            "{} of {may}",
            counters.copies
        );
        assert!(
            counters.copies <= may + 512 + u64::from(N),
            "{} of {may}",
            counters.copies
        );
        assert_eq!(counters.n_dropped(), 0, "it waits in the guest's ring");
    }
}

#[test]
fn wire_that_floods_more_than_it_may_loses_the_rest_by_name_and_holds_up_nobody() {
    const N: u16 = 200;
    let (mut rig, ends) = wide(N, false);
    rig.guests[0].send(0, &frame(ALL, mac(0), 0, 60));
    rig.settle();
    let (time, begin, mut n_floods) = (100_000_000, rig.now, 0u64);
    while rig.now < begin + time {
        for _ in 0..2 {
            ends[0].send(&frame(ALL, mac(1), 1, 60));
            n_floods += 1;
        }
        ends[0].send(&frame(mac(0), mac(1), 5, 60));
        rig.step();
        let got = rig.receive_all(0);
        assert_eq!(
            got.iter().filter(|bytes| bytes[..6] == mac(0)).count(),
            1,
            "a frame behind floods"
        );
        ends.iter()
            .for_each(|ends| while ends.receive().is_some() {});
    }
    let counters = rig.counters(1);
    let dropped = counters.drops[DropReason::FloodLimit.index()];
    assert_eq!(dropped, counters.n_dropped());
    let may = COPIES_SAVED + COPIES_PER_SEC * time / 1_000_000_000;
    assert!(
        dropped > 0 && dropped < n_floods && counters.copies <= may + 2 * u64::from(N),
        "{counters:?}"
    );
    assert_eq!(ends[0].n_waiting(), 0);
    rig.assert_counted();
}
