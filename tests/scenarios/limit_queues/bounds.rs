//! What is held is bounded, and takes nothing from others.

use super::*;

#[test]
fn sixty_four_limited_vms_flooded_with_short_frames_cost_another_nothing() {
    let mut ports = vec![(false, NO_LIMIT)];
    ports.extend((0..64).map(|_| (false, bits(1_000_000))));
    // The last is limited too, and gets less than it may.
    ports.push((false, bits(100_000_000)));
    for n_cores in [1, 2] {
        let mut world = World::new(n_cores, &ports);
        let (mut n_sent, mut n_got) = (0, 0);
        for step in 0..20_000u64 {
            for at in 0..8 {
                let to = 1 + ((step * 8 + at) % 64) as u16;
                world.send(0, to, 64);
            }
            // 40 Mbit/s, in bursts.
            if step % 1000 < 2 {
                world.send_many(0, 65, 1514, 16);
                n_sent += 16;
            }
            world.rig.step();
            (1..65).for_each(|port| drop(world.receive(port)));
            n_got += world.receive(65).len();
        }
        world.rig.settle();
        n_got += world.receive(65).len();
        assert_eq!((n_got, world.rig.counters(65).missed), (n_sent, 0));
        assert!(world.drops(0, DropReason::Limit) > 50_000);
        world.assert_at_rest();
    }
}

/// What is held for a VM is not in the device's memory.
#[test]
fn fill_ring_is_as_full_while_a_vm_is_held_as_when_none_is() {
    const N_RX: u32 = 64;
    let mut world = World::new(
        1,
        &[
            (false, NO_LIMIT),
            (false, bits(10_000_000)),
            (false, NO_LIMIT),
        ],
    );
    world.rig.down(0);
    let peer = world.rig.plug_device(0, Some(0), false, [N_RX, 64]);
    let mut most_held = 0;
    for id in 0..3_000 {
        for _ in 0..4 {
            assert!(
                peer.deliver(&frame(mac(1), mac(0), id, 1514)),
                "the ring has no frame"
            );
        }
        world.rig.step();
        assert_eq!(peer.n_fill(), N_RX as usize);
        most_held = most_held.max(world.rig.counters(0).held);
        world.drain();
    }
    assert!(most_held >= 16, "{most_held}");
    assert_eq!(peer.n_lost(), 0);
    world.assert_at_rest();
}

#[test]
fn port_that_goes_down_leaves_nothing_behind_whichever_side_it_is() {
    for goes_down in [0, 1] {
        let mut world = World::new(
            2,
            &[
                (false, NO_LIMIT),
                (false, bits(10_000_000)),
                (true, NO_LIMIT),
            ],
        );
        for _ in 0..55 {
            world.send(0, 1, 1514);
        }
        world.rig.step();
        world.rig.step();
        let (before, n_got) = (world.rig.counters(0).held, world.receive(1).len());
        assert!(before >= 8 && n_got >= 40, "{before} and {n_got}");
        world.rig.down(goes_down);
        assert_eq!(world.drops(0, DropReason::PortDown), before);
        // Whoever has the port now gets nothing of it.
        let end = MemPort::new(usize::MAX, false);
        world.rig.plug_mem(goes_down, Some(0), &end);
        world.rig.now += SECOND;
        world.assert_at_rest();
        assert!(end.receive().is_none() && world.receive(1).is_empty());
        assert_eq!(world.rig.counters(0).held, 0);
    }
}

#[test]
fn receiver_that_takes_nothing_keeps_nothing_for_long() {
    let mut world = World::new(
        1,
        &[
            (false, NO_LIMIT),
            (false, NO_LIMIT),
            (false, bits(100_000_000)),
        ],
    );
    // One with room for a hundred frames.
    let end = MemPort::new(100, false);
    world.rig.down(2);
    world.rig.plug_mem(2, Some(0), &end);
    end.send(&frame(mac(0), mac(2), 0, 60));
    world.rig.settle();
    for step in 0..10_000u64 {
        if step % 10 == 0 {
            world.send(0, 2, 1514);
        }
        world.rig.step();
        // Once it is full, a frame that waited behind it is gone within a moment.
        let held = world.rig.counters(0).held;
        assert!(held <= 170, "{held} frames are held");
    }
    world.assert_at_rest();
    let counters = world.rig.counters(0);
    assert_eq!(
        counters.drops[DropReason::ReceiverFull.index()]
            + counters.drops[DropReason::Limit.index()]
            + 100,
        1_000
    );
    // It goes on.
    let got = std::iter::from_fn(|| end.receive()).count();
    assert_eq!(got, 100);
    let id = world.send(0, 2, 1514);
    world.rig.settle();
    assert_eq!(end.receive().map(|bytes| id_of(&bytes)), Some(id));
}

/// Requests and answers of all kinds are floods: they reach a VM that is sent as much as it may
/// get.
#[test]
fn flood_passes_ahead_at_a_saturated_vm_a_thousand_times_a_second_at_most() {
    for (rate, n_floods_a_second, len) in [
        (2_000_000, 200, 60),
        (100_000_000, 900, 60),
        (100_000_000, 20_000, 60),
        (2_000_000, 1_000, 1514),
    ] {
        let mut world = World::new(
            1,
            &[(false, NO_LIMIT), (false, bits(rate)), (true, NO_LIMIT)],
        );
        let (mut n_unicast, mut n_flood, mut most_took, mut n_sent, mut owed) =
            (0u64, 0u64, 0, 0, 0u64);
        let mut floods = HashMap::new();
        for step in 0..150_000u64 {
            let counts = step >= 50_000;
            if world.ports[0].n_waiting() < 64 {
                world.send_many(0, 1, 1514, 4);
            }
            owed += n_floods_a_second * STEP;
            if owed >= SECOND {
                owed -= SECOND;
                let id = 1_000_000_000 + step;
                floods.insert(id, world.rig.now);
                world.ports[2].send(&frame(ALL, mac(2), id, len));
                n_sent += u64::from(counts);
            }
            world.rig.step();
            for (id, _, bytes) in world.receive(1) {
                match floods.get(&id) {
                    Some(at) if counts => {
                        (n_flood, most_took) = (n_flood + 1, most_took.max(world.rig.now - at))
                    }
                    Some(_) => {}
                    None => n_unicast += if counts { bytes.len() as u64 } else { 0 },
                }
            }
            world.drain_but(1);
        }
        if n_floods_a_second < 1_000 {
            assert_eq!(
                (n_flood, most_took <= 2 * STEP),
                (n_sent, true),
                "{rate}: all pass, at once ({most_took} ns)"
            );
        }
        assert!(
            n_flood <= 1_000,
            "{rate}: {n_flood} floods passed in a second"
        );
        // What they take is paid, and they leave three quarters to the rest.
        let exact = rate as f64 / 8.0;
        let all = (n_unicast + n_flood * len as u64) as f64;
        assert!(
            (all - exact).abs() <= 0.01 * exact + 20.0 * 1514.0,
            "{rate}: {all}, not {exact}"
        );
        assert!(
            n_unicast as f64 >= 0.7 * exact,
            "{rate}: floods left {n_unicast}"
        );
        assert!(n_floods_a_second < 1_000 || world.drops(2, DropReason::Limit) > 0);
        world.drain();
        world.assert_at_rest();
    }
}
