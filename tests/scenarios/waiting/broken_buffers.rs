//! Receivers whose buffers are broken.

use super::*;

/// Makes the receive ring of `B` one of chains that loop; gives how many there are.
fn make_looping(rig: &mut Rig) -> usize {
    rig.down(B);
    rig.guests[1].reset_vring(0);
    rig.up(B, 0, ANY);
    rig.step();
    let mut n = 0;
    while add_loop(rig) {
        n += 1;
    }
    n
}

fn add_loop(rig: &mut Rig) -> bool {
    let guest = &mut rig.guests[1];
    let addr = guest.scratch();
    let ring = guest.ring(0);
    while ring.n_used() > 0 {
        ring.pop();
    }
    let is_added = ring.add_raw(1, |ids| {
        vec![Desc {
            addr,
            len: 8,
            flags: NEXT | WRITE,
            next: ids[0],
        }]
    });
    ring.publish();
    is_added
}

/// Port 0, `B` with a long receive ring, `C`, and a wire on port 3.
fn looping_rig() -> (Rig, MemPort) {
    let mut rig = Rig::new(1, 4, networks(&[&[0, 1, 2, 3]]));
    for port in 0..3 {
        let rx_ring = if port == B { 1024 } else { 256 };
        rig.plug(
            0,
            ANY,
            Options {
                rx_ring,
                ..options()
            },
        );
    }
    rig.introduce(0..rig.guests.len() as u16);
    let wire = MemPort::new(10_000, false);
    rig.plug_mem(3, Some(0), &wire);
    assert_eq!(make_looping(&mut rig), 1024);
    // Down, it was forgotten.
    rig.guests[1].send(0, &frame(ALL, mac(B), 0, 60));
    rig.settle();
    rig.drain([0, C]);
    while wire.receive().is_some() {}
    (rig, wire)
}

#[test]
fn receiver_that_adds_a_broken_buffer_each_turn_holds_up_nobody() {
    let (mut rig, _wire) = looping_rig();
    for id in 0..40 {
        assert!(rig.guests[0].send(0, &frame(mac(B), mac(0), id, 60)));
    }
    assert!(rig.guests[0].send(0, &frame(mac(C), mac(0), 77, 60)));
    let begin = rig.now;
    while rig.receive_all(C).is_empty() {
        rig.step();
        add_loop(&mut rig);
        assert!(rig.now - begin < IN_TIME);
    }
    // With nothing else behind they wait, but not for ever.
    for id in 0..100 {
        assert!(rig.guests[0].send(0, &frame(mac(B), mac(0), id, 60)));
    }
    while rig.counters(0).rx_frames < 1 + 141 {
        rig.step();
        add_loop(&mut rig);
        assert!(rig.now - begin < 2_000_000_000, "{:?}", rig.counters(0));
    }
    rig.assert_counted();
}

#[test]
fn receiver_with_broken_buffers_does_not_keep_the_wire_from_others() {
    let (mut rig, wire) = looping_rig();
    for id in 0..200 {
        wire.send(&frame(mac(B), mac(9), id, 60));
    }
    wire.send(&frame(mac(C), mac(9), 7, 60));
    let mut n_turns = 0;
    while rig.receive_all(C).is_empty() {
        rig.step();
        add_loop(&mut rig);
        n_turns += 1;
        assert!(
            n_turns <= 10,
            "frames off the wire can't wait for a receiver"
        );
    }
    assert_eq!(rig.drops(3, DropReason::ReceiverFull), 200);
    rig.assert_counted();
}
