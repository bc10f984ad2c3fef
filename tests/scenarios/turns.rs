//! Turns that a sender reserves at a receiver: others wait for it as long as it has use for them,
//! not longer.

use guest::GuestDriver;
use pmd::port::mem::MemPort;
use rig::{ALL, ANY, Rig, frame, id_of, mac, networks, options, rewrite, send_raw};

const LINK_LOCAL: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 14];

/// On core 0 a port in memory that sends, one that all send to, and one that holds up who sends
/// there; on core 1 a guest that misbehaves, and one that does nothing.
const BUSY: u16 = 0;
const BAD: u16 = 1;
const B: u16 = 2;
const STOP: u16 = 4;

#[test]
fn turn_at_a_lock_is_given_back_by_a_guest_that_has_rewritten_its_frame() {
    let mut rig = Rig::new(2, 5, networks(&[&[0, 1, 2, 3, 4]]));
    let [busy, stop] = [(); 2].map(|()| MemPort::new(100_000, true));
    for port in 0..5 {
        if let Some(ends) = [(BUSY, &busy), (STOP, &stop)]
            .iter()
            .find_map(|(at, ends)| (*at == port).then_some(ends))
        {
            rig.plug_mem(port, Some(0), ends);
            rig.guests
                .push(GuestDriver::new(options()).expect("memory"));
            ends.send(&frame(ALL, mac(port), 0, 60));
        } else {
            rig.plug(0, ANY, options());
            rig.guests[usize::from(port)].send(0, &frame(ALL, mac(port), 0, 60));
        }
        rig.settle();
    }
    rig.receive_all(B);
    let n_dropped = rig.counters(BUSY).n_dropped();
    for round in 0..50 {
        // A flood that finds the queue taken reserves the next turn there at once.
        send_raw(
            &mut rig.guests[usize::from(BAD)],
            &frame(ALL, mac(BAD), 1, 60),
        );
        busy.send(&frame(mac(B), mac(BUSY), 2, 60));
        busy.send(&frame(mac(STOP), mac(BUSY), 2, 60));
        let held = stop.hold_up();
        let (before, ends) = (stop.n_asked(), stop.clone());
        rig.step_beside(0, move || ends.n_asked() > before, 3, || drop(held));
        rewrite(
            &rig.guests[usize::from(BAD)],
            &frame(LINK_LOCAL, mac(BAD), 1, 60),
        );
        rig.step_together(&[1]);
        rig.guests[usize::from(BAD)].reclaim_tx(0);
        busy.send(&frame(mac(B), mac(BUSY), 1_000 + round, 60));
        rig.step_together(&[0]);
        let got = rig.receive_all(B);
        assert!(
            got.iter().any(|bytes| id_of(bytes) == 1_000 + round),
            "round {round}: it waits for nobody"
        );
    }
    assert_eq!(rig.counters(BUSY).n_dropped(), n_dropped);
    rig.assert_counted();
}

#[test]
fn turn_at_a_receiver_without_room_is_given_back_by_a_guest_that_has_no_frame_for_it_any_more() {
    for has_rest in [false, true] {
        let mut rig = Rig::new(1, 4, networks(&[&[0, 1, 2, 3]]));
        rig.plug_rx_rings([256, 8, 256, 256]);
        rig.introduce(0..4);
        for round in 0..50 {
            // All is full but for what 3 has to send.
            (0..8).for_each(|_| assert!(rig.guests[2].send(0, &frame(mac(1), mac(2), 1, 60))));
            rig.settle();
            send_raw(&mut rig.guests[0], &frame(mac(1), mac(0), 2, 60));
            (0..2).for_each(|_| _ = rig.step());
            let rest = if has_rest { mac(3) } else { LINK_LOCAL };
            rewrite(&rig.guests[0], &frame(rest, mac(0), 2, 60));
            assert!(rig.guests[3].send(0, &frame(mac(1), mac(3), 1_000 + round, 60)));
            rig.guests[0].send(0, &frame(rest, mac(0), 3, 60));
            (0..2).for_each(|_| _ = rig.step());
            rig.receive_all(1);
            (0..2).for_each(|_| _ = rig.step());
            let got = rig.receive_all(1);
            assert!(
                got.iter().any(|bytes| id_of(bytes) == 1_000 + round),
                "round {round}: it waits for nobody"
            );
            rig.drain([0, 2, 3]);
        }
        rig.assert_counted();
    }
}

#[test]
fn turn_at_a_receiver_without_room_is_given_back_by_a_guest_whose_frame_is_for_another_such_one_now()
 {
    let mut rig = Rig::new(1, 5, networks(&[&[0, 1, 2, 3, 4]]));
    rig.plug_rx_rings([256, 8, 256, 256, 8]);
    rig.introduce(0..5);
    for round in 0..50 {
        for to in [1, 4] {
            (0..8).for_each(|_| assert!(rig.guests[2].send(0, &frame(mac(to), mac(2), 1, 60))));
        }
        rig.settle();
        send_raw(&mut rig.guests[0], &frame(mac(1), mac(0), 2, 60));
        (0..2).for_each(|_| _ = rig.step());
        rewrite(&rig.guests[0], &frame(mac(4), mac(0), 2, 60));
        // The ring is read again for it.
        rig.guests[0].send(0, &frame(mac(4), mac(0), 3, 60));
        (0..2).for_each(|_| _ = rig.step());
        assert!(rig.guests[3].send(0, &frame(mac(1), mac(3), 1_000 + round, 60)));
        rig.step();
        rig.receive_all(1);
        (0..2).for_each(|_| _ = rig.step());
        let got = rig.receive_all(1);
        assert!(
            got.iter().any(|bytes| id_of(bytes) == 1_000 + round),
            "round {round}: it waits for nobody"
        );
        for _ in 0..4 {
            rig.drain(0..5);
            rig.settle();
        }
        rig.drain(0..5);
        (0..5).for_each(|port| _ = rig.guests[port].reclaim_tx(0));
    }
    rig.assert_counted();
}
