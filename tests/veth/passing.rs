//! What has to pass between two namespaces, with the offloads that the kernel sets.
#![forbid(unsafe_code)]

use pmd::port::afxdp::{self, XskMode, XskOptions};
use pmd::port::tap::open_tap;
use pmd::port::{RxQueue, TxQueue};
use pmd::sys::bpf::Attach;

use crate::world::{Manner, NATIVE, Switch, World, can_run, open};

/// Ping, TCP and UDP between station 1 in `a` and station 2 in `b`, both ways and by both kinds of
/// address; no checksum is bad.
fn everything_passes(world: &World) {
    for (from, to, n) in [("a", "b", 2), ("b", "a", 1)] {
        for address in [format!("10.99.0.{n}"), format!("fd99::{n}")] {
            assert_eq!(
                world.ping(from, &address, 20),
                20,
                "from {from} to {address}"
            );
            let mbit = world.tcp(from, &address, (to, "-n 40M"));
            eprintln!("TCP from {from} to {address}: {mbit} Mbit/s");
            // Datagrams that fill a frame, and odd ones.
            world.tcp(from, &address, (to, "-u -b 20M -l 1001 -n 1M"));
        }
    }
    for ns in ["a", "b"] {
        assert_eq!(
            world.counter("InCsumErrors", ns),
            0,
            "bad checksums in {ns}"
        );
        assert!(
            world.counter("InDatagrams", ns) > 1000 && world.counter("InSegs", ns) > 1000,
            "nothing was counted"
        );
    }
}

fn pass_between(manner: Manner, n_cores: usize) {
    let world = World::new(manner.n_queues);
    if manner.attach == Attach::Skb {
        // What a program behind the driver can't see through: frames that are to be cut later.
        for ns in ["a", "b"] {
            world.run("ethtool -K eth0 tso off gso off", ns);
        }
    }
    let switch = Switch::new(n_cores);
    let devices = [
        switch.plug(&world, 0, "up-a", manner),
        switch.plug(&world, 1, "up-b", manner),
    ];
    everything_passes(&world);
    for device in &devices {
        for watch in &device.watches {
            let lost = watch.statistics().expect("an open socket");
            assert_eq!(
                (lost.rx_invalid_descs, lost.tx_invalid_descs),
                (0, 0),
                "{lost:?}"
            );
            // Where the core got no time, the kernel found no memory for what came meanwhile.
            // Nothing else may be lost.
            assert_eq!(lost.rx_dropped, lost.rx_fill_ring_empty, "{lost:?}");
            eprintln!("{manner:?}: the kernel lost {}", lost.rx_dropped);
        }
    }
    for port in 0..2 {
        drop(switch.down(port));
    }
    assert!(
        devices
            .iter()
            .flat_map(|device| &device.watches)
            .all(|watch| watch.statistics().is_err())
    );
    switch.assert_balanced();
    let all = [0, 1].map(|port| switch.cores.counters(port));
    assert!(
        all.iter().all(|counters| counters.rx_frames > 1000),
        "{all:?}"
    );
    eprintln!(
        "{manner:?}: {} frames dropped of {}",
        all[0].n_dropped() + all[1].n_dropped(),
        all[0].rx_frames + all[1].rx_frames
    );
}

#[test]
fn ping_tcp_and_udp_pass_in_native_mode_with_all_offloads_on() {
    let Some(_turn) = can_run("ping_tcp_and_udp_pass_in_native_mode_with_all_offloads_on") else {
        return;
    };
    pass_between(NATIVE, 1);
}

#[test]
fn ping_tcp_and_udp_pass_in_skb_mode() {
    let Some(_turn) = can_run("ping_tcp_and_udp_pass_in_skb_mode") else {
        return;
    };
    pass_between(
        Manner {
            attach: Attach::Skb,
            ..NATIVE
        },
        1,
    );
}

#[test]
fn two_queues_on_two_cores_pass_it_all_with_few_frames_too() {
    let Some(_turn) = can_run("two_queues_on_two_cores_pass_it_all_with_few_frames_too") else {
        return;
    };
    pass_between(
        Manner {
            n_queues: 2,
            ring: 256,
            ..NATIVE
        },
        2,
    );
}

#[test]
fn core_that_sleeps_is_woken_by_the_wire() {
    let Some(_turn) = can_run("core_that_sleeps_is_woken_by_the_wire") else {
        return;
    };
    let world = World::new(1);
    let switch = Switch::new(1);
    let _devices = [
        switch.plug(&world, 0, "up-a", NATIVE),
        switch.plug(&world, 1, "up-b", NATIVE),
    ];
    assert_eq!(world.ping("a", "10.99.0.2", 3), 3);
    let before = switch.cores.core_counters()[0];
    assert_eq!(world.ping("a", "10.99.0.2", 20), 20);
    let after = switch.cores.core_counters()[0];
    // An echo each 20 ms, which leaves time for a nap between request and answer, and for a long
    // one behind it.
    assert!(after.sleeps - before.sleeps >= 20, "{before:?} {after:?}");
    let cpu_ms = (after.cpu_ns - before.cpu_ns) / 1_000_000;
    assert!(cpu_ms < 100, "{cpu_ms} ms of CPU in 400 ms");
}

#[test]
fn device_that_goes_down_and_up_again_passes_frames_as_before() {
    let Some(_turn) = can_run("device_that_goes_down_and_up_again_passes_frames_as_before") else {
        return;
    };
    let world = World::new(1);
    let switch = Switch::new(1);
    let _devices = [
        switch.plug(&world, 0, "up-a", NATIVE),
        switch.plug(&world, 1, "up-b", NATIVE),
    ];
    for device in ["up-a", "up-b"] {
        assert_eq!(world.ping("a", "10.99.0.2", 3), 3);
        world.run(&format!("ip link set {device} down"), "sw");
        let flood = world.start("ping -q -f -c 3000 -W 0.1 10.99.0.2", "a");
        assert_eq!(world.ping("b", "10.99.0.1", 3), 0);
        drop(flood);
        world.run(&format!("ip link set {device} up"), "sw");
        // Addresses that could not be resolved are asked for again after a while.
        world.run("ip neigh flush all", "a");
        world.run("ip neigh flush all", "b");
        assert_eq!(world.ping("a", "10.99.0.2", 3), 3);
    }
    for port in 0..2 {
        drop(switch.down(port));
    }
    switch.assert_balanced();
}

#[test]
fn port_that_goes_leaves_the_device_to_the_kernel_and_comes_back_at_once() {
    let Some(_turn) =
        can_run("port_that_goes_leaves_the_device_to_the_kernel_and_comes_back_at_once")
    else {
        return;
    };
    let world = World::new(1);
    let switch = Switch::new(1);
    let _b = switch.plug(&world, 1, "up-b", NATIVE);
    for _ in 0..3 {
        let a = switch.plug(&world, 0, "up-a", NATIVE);
        assert!(world.run("ip -d link show up-a", "sw").contains("xdp"));
        assert_eq!(world.ping("a", "10.99.0.2", 5), 5);
        drop(switch.down(0));
        drop(a);
        assert!(
            !world.run("ip -d link show up-a", "sw").contains("xdp"),
            "the program is gone"
        );
        // The kernel has the device again.
        world.run("ip addr add 10.99.1.1/24 dev up-a", "sw");
        world.run("ip addr replace 10.99.1.2/24 dev eth0", "a");
        assert_eq!(world.ping("a", "10.99.1.1", 3), 3);
        world.run("ip addr flush dev up-a", "sw");
    }
}

#[test]
fn what_cannot_be_opened_says_why_and_what_to_do() {
    let Some(_turn) = can_run("what_cannot_be_opened_says_why_and_what_to_do") else {
        return;
    };
    let world = World::new(1);
    let says = |device: &str, manner: Manner, words: &str| {
        let error = world
            .inside("sw", || open(device, manner).map(|_| ()))
            .expect_err(words)
            .to_string();
        assert!(error.contains(words), "{error}");
    };
    says("nothing", NATIVE, "no such device");
    says(
        "up-a",
        Manner {
            n_queues: 2,
            ..NATIVE
        },
        "no such queue",
    );
    says(
        "up-a",
        Manner {
            ring: 1000,
            ..NATIVE
        },
        "a power of two",
    );
    says("lo", NATIVE, "mode: skb works with any driver");
    let held = world
        .inside("sw", || open("up-a", NATIVE))
        .expect("it is free");
    says(
        "up-a",
        NATIVE,
        "another process has an AF_XDP socket on this queue",
    );
    drop(held);
    world.run("ip link set eth0 mtu 9000", "b");
    world.run("ip link set up-b mtu 9000", "sw");
    says("up-b", NATIVE, "3,498 is the most");
    let options = XskOptions {
        device: "up-a".into(),
        queue: 0,
        mode: XskMode::ZeroCopy,
        attach: Attach::Native,
        is_veth: true,
        n_rx: 128,
        n_tx: 128,
    };
    let error = world
        .inside("sw", || afxdp::open(&options).map(|_| ()))
        .expect_err("a veth copies")
        .to_string();
    assert!(
        error.contains("without a copy") && error.contains("mode: copy works with any"),
        "{error}"
    );
    assert!(
        open_tap("a-name-that-is-too-long")
            .unwrap_err()
            .to_string()
            .contains("15 bytes")
    );
}

#[test]
fn tap_and_afxdp_port_pass_it_all_between_them() {
    let Some(_turn) = can_run("tap_and_afxdp_port_pass_it_all_between_them") else {
        return;
    };
    let world = World::new(1);
    // `a` has a tap in place of its veth.
    world.run("ip link del up-a", "sw");
    let (rx, tx) = world
        .inside("a", || open_tap("eth0"))
        .unwrap_or_else(|error| panic!("{error}"));
    world.address("a", "eth0", 1);
    let switch = Switch::new(1);
    switch.up(0, vec![RxQueue::tap(0, rx)], vec![TxQueue::tap(tx)]);
    let _b = switch.plug(&world, 1, "up-b", NATIVE);
    everything_passes(&world);
    for port in 0..2 {
        drop(switch.down(port));
    }
    switch.assert_balanced();
}
