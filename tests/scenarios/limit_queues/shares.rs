//! What a wire has of a VM's rate and of its room, beside guests that send there all they can.

use super::*;

const WIRE: u16 = 0;
const VM: u16 = 1;
const OTHER: u16 = 2;
const RATE: u64 = 100_000_000;

/// Guests whose frames to a VM at its limit stand before frames for another, so that they are
/// queued; as many and as short as they can. The wire's frames come in bursts, below its share of
/// the rate and of the room.
#[test]
fn wire_loses_nothing_of_its_share_to_guests_that_fill_a_vms_queue() {
    for (n_cores, n_guests, len) in [(1, 1, 22), (2, 1, 60), (1, 8, 1514), (2, 8, 22)] {
        let mut ports = vec![(false, NO_LIMIT), (false, bits(RATE)), (true, NO_LIMIT)];
        ports.extend((0..n_guests).map(|_| (true, NO_LIMIT)));
        let mut world = World::new(n_cores, &ports);
        let share = RATE / 8 / (n_guests + 1);
        // Nine tenths of the rate, each time half of what may wait in 20 ms.
        let burst = (share / 50 / 2 / 1514).max(1);
        let gap = burst * 1514 * SECOND / (share * 9 / 10);
        let (mut sent, mut got, mut bytes, mut most) = (0, 0, 0, 0);
        let start = world.rig.now;
        while world.rig.now < start + 200 * MS {
            let since = world.rig.now - start;
            // Several times what may pass, at the least.
            let is_turn = |guest: u16| since / STEP % (n_guests * 2) == u64::from(guest - 3) * 2;
            for guest in (3..3 + n_guests as u16).filter(|&guest| is_turn(guest)) {
                while world.ports[usize::from(guest)].n_waiting() < 32 {
                    world.send_many(guest, VM, len, 15);
                    world.send(guest, OTHER, 60);
                }
            }
            // They are there first.
            if since > 50 * MS && since / gap > (since - STEP) / gap {
                world.send_many(WIRE, VM, 1514, burst as usize);
                sent += burst;
            }
            world.rig.step();
            for (_, took, frame) in world.receive(VM) {
                let is_the_wires = frame[6..12] == mac(WIRE);
                got += u64::from(is_the_wires);
                most = most.max(if is_the_wires { took } else { 0 });
                bytes += if since > 100 * MS {
                    frame.len() as u64
                } else {
                    0
                };
            }
            world.receive(OTHER);
        }
        let case = format!("{n_cores} cores, {n_guests} guests, {len} bytes");
        assert_eq!(
            world.drops(WIRE, DropReason::Limit),
            0,
            "{case}: of {sent} frames off the wire"
        );
        assert!(
            sent >= 8 && most <= 50 * MS,
            "{case}: {sent} sent, one took {most} ns"
        );
        assert!(
            got + world.rig.counters(WIRE).held == sent && got >= sent - 2 * burst,
            "{case}: {got} of {sent}"
        );
        // What it leaves is the guests'.
        let exact = RATE / 8 / 10;
        assert!(bytes >= exact * 99 / 100, "{case}: {bytes}, not {exact}");
        for guest in 3..3 + n_guests as u16 {
            assert!(
                world.drops(guest, DropReason::Limit) > 0 || world.rig.counters(guest).queued == 0,
                "{case}"
            );
        }
        // They send no more.
        while world.rig.step() > 0 || world.ports.iter().any(|port| port.n_waiting() > 0) {
            world.drain();
        }
        world.rig.now += SECOND;
        world.drain();
        world.assert_at_rest();
    }
}
