//! The driver against a naive device, and the checks against a device that makes mistakes.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::device::NaiveDevice;
use crate::options::{Backing, Layout};

fn small() -> Options {
    Options {
        rx_ring: 8,
        tx_ring: 8,
        rx_shape: vec![300],
        tx_frame_bytes: 400,
        ..Options::default()
    }
}

fn frame(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from((i * 7 + seed * 13) % 256).unwrap())
        .collect()
}

fn pair_of(options: Options) -> (GuestDriver, NaiveDevice) {
    let driver = GuestDriver::new(options).unwrap();
    let device = NaiveDevice::new(&driver);
    (driver, device)
}

/// Sends `lens` both ways, several laps of the ring.
fn exchange(options: Options, lens: &[usize]) {
    let (mut driver, mut device) = pair_of(options);
    for (seed, &len) in lens
        .iter()
        .cycle()
        .take(if cfg!(miri) { 12 } else { 5 * lens.len() + 70 })
        .enumerate()
    {
        let pair = seed % usize::from(driver.options().n_queue_pairs);
        driver.post_rx(pair);
        let sent = frame(seed, len);
        assert!(driver.send(pair, &sent), "no room for frame {seed}");
        let got = device.receive(pair).unwrap();
        assert_eq!(got, sent);
        assert!(device.deliver(pair, &got), "no buffers for frame {seed}");
        assert_eq!(driver.recv(pair).unwrap(), sent);
        assert_eq!(driver.recv(pair), None);
    }
    driver.assert_intact();
}

#[test]
fn frames_survive_every_shape() {
    let lens = [60, 64, 14, 300, 288, 289, 400];
    let linux = Options {
        line_offset: 0,
        indirect: Indirect::Always,
        tx_header_apart: true,
        fifo: false,
        ..small()
    };
    for options in [
        small(),
        linux,
        Options {
            tx_parts: 5,
            indirect: Indirect::Alternate,
            ..small()
        },
        Options {
            rx_shape: vec![12, 100, 1, 200],
            tx_parts: 3,
            tx_header_apart: true,
            ..small()
        },
        Options {
            rx_shape: vec![7, 20],
            rx_ring: 32,
            ..small()
        },
        Options {
            version_1: false,
            mergeable: false,
            rx_shape: vec![500],
            ..small()
        },
        Options {
            mergeable: false,
            rx_shape: vec![500],
            in_order: true,
            event_idx: true,
            ..small()
        },
        Options {
            n_queue_pairs: 3,
            ..small()
        },
        Options {
            rx_ring: 2,
            tx_ring: 1,
            ..small()
        },
    ] {
        exchange(options, &lens);
    }
}

#[test]
fn buffers_cross_regions_and_avoid_holes() {
    let layout = |region_bytes, hole_bytes| Layout {
        region_bytes: Some(region_bytes),
        hole_bytes,
        ..Layout::default()
    };
    exchange(
        Options {
            layout: layout(4096, 0),
            rx_shape: vec![900],
            ..small()
        },
        &[60, 400],
    );
    exchange(
        Options {
            layout: layout(4096, 8192),
            rx_shape: vec![900],
            ..small()
        },
        &[60, 400],
    );
    let (driver, _) = pair_of(Options {
        layout: layout(4096, 0),
        ..small()
    });
    let specs: Vec<_> = driver.memory().regions().iter().map(|r| r.spec()).collect();
    assert!(specs.len() > 2);
    assert!(
        specs
            .windows(2)
            .all(|w| w[0].gpa + w[0].len == w[1].gpa && w[0].uva > w[1].uva + w[1].len)
    );
}

#[test]
#[cfg_attr(miri, ignore)]
fn largest_ring_in_a_memfd() {
    let layout = Layout {
        backing: Backing::Memfd,
        ..Layout::default()
    };
    let options = Options {
        rx_ring: 32768,
        tx_ring: 32768,
        checked: false,
        layout,
        ..small()
    };
    let (mut driver, mut device) = pair_of(options);
    assert_eq!(driver.post_rx(0), 32768);
    for i in 0..70000 {
        assert!(driver.send(0, &frame(i, 60)));
        assert_eq!(device.receive(0).unwrap(), frame(i, 60));
    }
}

#[test]
fn in_order_batch_has_one_used_entry() {
    let (mut driver, mut device) = pair_of(Options {
        in_order: true,
        ..small()
    });
    for round in 0..5 {
        (0..5).for_each(|i| assert!(driver.send(0, &frame(i + round, 60))));
        let heads: Vec<u16> = (0..5).map(|_| device.take(1).unwrap().0).collect();
        device.put_used(1, heads[4], 0);
        device.rings[1].next_used = device.rings[1].next_used.wrapping_add(4);
        device.publish(1);
        assert_eq!(driver.reclaim_tx(0), 5);
    }
}

#[test]
fn kick_and_call_follow_the_event_index() {
    for event_idx in [false, true] {
        let (mut driver, mut device) = pair_of(Options {
            event_idx,
            ..small()
        });
        assert!(!driver.kick_due(1), "nothing was published");
        assert!(!device.ask_kicks(1, true));
        assert!(driver.send(0, &[0; 60]) && driver.kick_due(1));
        device.receive(0).unwrap();
        device.ask_kicks(1, false);
        assert!(driver.send(0, &[0; 60]) && !driver.kick_due(1));
        assert!(device.ask_kicks(1, true), "the frame was overlooked");

        driver.reclaim_tx(0);
        assert!(!driver.ask_calls(1, true));
        device.receive(0).unwrap();
        assert!(driver.call_due(1) && !driver.call_due(1));
        assert!(device.call_due(1));
        assert!(driver.ask_calls(1, false), "a chain waits");
        driver.reclaim_tx(0);
        driver.ask_calls(1, false);
        assert!(driver.send(0, &[0; 60]));
        device.receive(0).unwrap();
        assert!(!device.call_due(1) && !driver.call_due(1));
    }
}

#[test]
fn full_ring_refuses_until_reclaimed() {
    let (mut driver, mut device) = pair_of(small());
    for i in 0..8 {
        assert!(driver.send(0, &frame(i, 60)));
    }
    assert!(!driver.send(0, &[0; 60]));
    device.receive(0).unwrap();
    assert!(
        driver.send(0, &[0; 60]),
        "send takes used chains back by itself"
    );
    assert!(!driver.send(0, &[0; 401]), "longer than tx_frame_bytes");
}

#[test]
fn refused_receive_buffer_is_counted() {
    let (mut driver, mut device) = pair_of(small());
    driver.post_rx(0);
    let (head, _) = device.take(0).unwrap();
    device.put_used(0, head, 0);
    device.deliver(0, &[1; 60]);
    assert_eq!(driver.recv(0).unwrap(), [1; 60]);
    assert_eq!(
        (driver.counters().rx_refused, driver.counters().rx_done),
        (1, 2)
    );
}

#[test]
fn reset_frees_everything() {
    let (mut driver, mut device) = pair_of(small());
    driver.post_rx(0);
    (0..3).for_each(|i| assert!(driver.send(0, &frame(i, 60))));
    device.receive(0).unwrap();
    (0..2).for_each(|v| driver.reset_vring(v));
    driver.assert_intact();
    assert_eq!(driver.post_rx(0), 8);
    assert_eq!((driver.vring_base(0), driver.vring_base(1)), (0, 0));
}

#[test]
#[should_panic(expected = "isn't in flight: returned twice?")]
fn chain_returned_twice_is_found() {
    let (mut driver, mut device) = pair_of(small());
    driver.post_rx(0);
    let (head, _) = device.take(0).unwrap();
    let _ = device.take(0).unwrap();
    (0..2).for_each(|_| device.put_used(0, head, 0));
    device.publish(0);
    driver.recv(0);
}

#[test]
#[should_panic(expected = "but the device has 1 chains")]
fn used_index_too_far_is_found() {
    let (mut driver, mut device) = pair_of(small());
    assert!(driver.send(0, &[0; 60]));
    device.rings[1].next_used = 2;
    device.publish(1);
    driver.reclaim_tx(0);
}

#[test]
#[should_panic(expected = "which is older")]
fn chain_out_of_order_is_found() {
    let (mut driver, mut device) = pair_of(small());
    (0..2).for_each(|_| assert!(driver.send(0, &[0; 60])));
    let heads = [device.take(1).unwrap().0, device.take(1).unwrap().0];
    device.put_used(1, heads[1], 0);
    device.publish(1);
    driver.reclaim_tx(0);
}

#[test]
#[should_panic(expected = "was written to")]
fn written_transmit_buffer_is_found() {
    let (mut driver, mut device) = pair_of(small());
    assert!(driver.send(0, &[0; 60]));
    let (head, parts) = device.take(1).unwrap();
    driver.memory().write(parts[0].gpa + 20, &[9]);
    device.put_used(1, head, 0);
    device.publish(1);
    driver.reclaim_tx(0);
}

fn deliver_then_write(at: i64) {
    let (mut driver, mut device) = pair_of(small());
    driver.post_rx(0);
    let gpa = device.take(0).unwrap().1[0].gpa;
    device.rings[0].next_avail = 0;
    device.deliver(0, &[1; 60]);
    driver.memory().write(gpa.strict_add_signed(at), &[0xee]);
    driver.recv(0);
}

#[test]
#[should_panic(expected = "receive buffer 0: byte")]
fn write_past_the_used_length_is_found() {
    deliver_then_write(72);
}

#[test]
#[should_panic(expected = "receive buffer 0: byte")]
fn write_before_the_buffer_is_found() {
    deliver_then_write(-1);
}

#[test]
#[should_panic(expected = "only 1 are in the used ring")]
fn num_buffers_beyond_the_used_ring_is_found() {
    let (mut driver, mut device) = pair_of(small());
    driver.post_rx(0);
    let gpa = device.take(0).unwrap().1[0].gpa;
    device.rings[0].next_avail = 0;
    device.deliver(0, &[1; 60]);
    driver.memory().write(gpa + 10, &[2, 0]);
    driver.recv(0);
}

#[test]
#[should_panic(expected = "descriptor 0 was changed")]
fn changed_descriptor_is_found() {
    let (mut driver, _) = pair_of(small());
    assert!(driver.send(0, &[0; 60]));
    let at = driver.vring_gpa(1).desc;
    driver.memory().write(at, &[1]);
    driver.assert_intact();
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Post(usize),
    DeviceTakes(usize),
    DeviceDelivers(usize),
    Recv(usize),
    Reclaim,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (14usize..400).prop_map(Step::Send),
        (0usize..9).prop_map(Step::Post),
        (0usize..9).prop_map(Step::DeviceTakes),
        (14usize..700).prop_map(Step::DeviceDelivers),
        (0usize..9).prop_map(Step::Recv),
        Just(Step::Reclaim),
    ]
}

fn shape() -> impl Strategy<Value = Options> {
    let rings = (0u32..5, 0u32..5).prop_map(|(r, t)| (1u16 << r, 1u16 << t));
    let indirect = prop_oneof![
        Just(Indirect::Off),
        Just(Indirect::Always),
        Just(Indirect::Alternate)
    ];
    let bits = any::<[bool; 6]>();
    (
        rings,
        indirect,
        bits,
        1usize..4,
        prop::collection::vec(1u32..200, 1..4),
        any::<u16>(),
    )
        .prop_map(
            |(
                (rx_ring, tx_ring),
                indirect,
                [version_1, mergeable, event_idx, in_order, fifo, apart],
                tx_parts,
                mut rx_shape,
                _,
            )| {
                rx_shape[0] += 12;
                let layout = Layout {
                    region_bytes: Some(4096),
                    ..Layout::default()
                };
                Options {
                    rx_ring,
                    tx_ring,
                    indirect,
                    version_1,
                    mergeable,
                    event_idx,
                    in_order,
                    fifo,
                    tx_header_apart: apart,
                    tx_parts,
                    rx_shape,
                    layout,
                    ..small()
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 200 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever both sides do, frames come out as they went in, in order, from any starting index.
    #[test]
    fn driver_and_device_agree_with_two_queues(
        options in shape(),
        start: u16,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (mut driver, mut device) = pair_of(options);
        for v in 0..2 {
            driver.ring(v).start_at(start);
            let ring = &mut device.rings[v];
            (ring.next_avail, ring.next_used, ring.signalled) = (start, start, start);
        }
        let (mut to_device, mut to_driver) = (VecDeque::new(), VecDeque::new());
        for (seed, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send(len) => {
                    if driver.send(0, &frame(seed, len)) {
                        to_device.push_back(frame(seed, len));
                    }
                }
                Step::Post(most) => { driver.post_rx_up_to(0, most); }
                Step::DeviceTakes(most) => for _ in 0..most {
                    let got = device.receive(0);
                    prop_assert_eq!(&got, &to_device.pop_front());
                    if got.is_none() { break }
                },
                Step::DeviceDelivers(len) => {
                    if device.deliver(0, &frame(seed, len)) {
                        to_driver.push_back(frame(seed, len));
                    }
                }
                Step::Recv(most) => for _ in 0..most {
                    let got = driver.recv(0);
                    prop_assert_eq!(&got, &to_driver.pop_front());
                    if got.is_none() { break }
                },
                Step::Reclaim => { driver.reclaim_tx(0); }
            }
            for v in 0..2 {
                prop_assert_eq!(device.call_due(v), driver.call_due(v));
            }
        }
        driver.assert_intact();
    }
}
