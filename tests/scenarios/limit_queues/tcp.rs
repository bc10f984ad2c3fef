//! A sender as TCP is: slow start, CUBIC's growth, seven tenths of the window after a loss, and
//! silence until a time-out when nothing comes back. It sends in bursts, as segmentation does.

use std::collections::BTreeMap;

use super::*;

const MSS: u64 = 1448;
const LEN: usize = 1514;
/// The shortest time-out of Linux.
const RTO: u64 = 200 * MS;

struct Tcp {
    from: u16,
    to: u16,
    rtt: u64,
    window_max: f64,
    window: f64,
    threshold: f64,
    /// CUBIC: the window at the last loss, and when that was.
    window_lost: f64,
    lost_at: u64,
    /// A loss of what was sent before is part of the last one.
    recover: u64,
    /// By id: when it was sent.
    out: BTreeMap<u64, u64>,
    /// Acknowledgements on their way: when each is there.
    acks: Vec<(u64, u64)>,
    heard_at: u64,
    n_delivered: u64,
}

impl Tcp {
    fn new(from: u16, to: u16, rtt: u64, window_max: f64) -> Self {
        let (window, threshold, window_lost) = (10.0, f64::MAX, 0.0);
        let (out, acks) = (BTreeMap::new(), Vec::new());
        Self {
            from,
            to,
            rtt,
            window_max,
            window,
            threshold,
            window_lost,
            lost_at: 0,
            recover: 0,
            out,
            acks,
            heard_at: 0,
            n_delivered: 0,
        }
    }

    fn turn(&mut self, world: &mut World, got: &[u64]) {
        let now = world.rig.now;
        for &id in got {
            self.n_delivered += 1;
            self.acks.push((now + self.rtt, id));
        }
        let n_due = self.acks.iter().take_while(|ack| ack.0 <= now).count();
        for (_, id) in self.acks.drain(..n_due).collect::<Vec<_>>() {
            self.heard(id, now);
        }
        if self.out.is_empty() {
            self.heard_at = now;
        } else if now - self.heard_at > RTO {
            self.out.clear();
            self.shrink(now);
            (self.window, self.heard_at) = (1.0, now);
        }
        // A ring has so many places.
        while (self.out.len() as f64) < self.window.min(self.window_max)
            && world.ports[usize::from(self.from)].n_waiting() < 256
        {
            let id = world.send(self.from, self.to, LEN);
            self.out.insert(id, now);
        }
    }

    fn heard(&mut self, id: u64, now: u64) {
        if self.out.remove(&id).is_none() {
            return;
        }
        self.heard_at = now;
        // Three behind it have come: it is lost, and is sent again as another.
        let lost: Vec<u64> = self
            .out
            .range(..id.saturating_sub(3 * 4))
            .map(|(&id, _)| id)
            .collect();
        if lost.iter().any(|&id| id > self.recover) {
            self.recover = *self.out.keys().next_back().unwrap_or(&id);
            self.shrink(now);
            self.window = self.threshold;
        }
        self.out.retain(|id, _| !lost.contains(id));
        if self.window < self.threshold {
            self.window += 1.0;
        } else {
            let (t, k) = (
                (now - self.lost_at) as f64 / 1e9,
                (self.window_lost * 0.3 / 0.4).cbrt(),
            );
            let cubic = 0.4 * (t - k).powi(3) + self.window_lost;
            self.window += ((cubic - self.window) / self.window).clamp(0.5 / self.window, 0.5);
        }
    }

    fn shrink(&mut self, now: u64) {
        (self.window_lost, self.lost_at) = (self.window, now);
        self.threshold = (self.window * 0.7).max(2.0);
    }
}

/// One stream from port 0 to port 1; the part of the limit that it gets of what it could.
fn part(can_hold: bool, limit: LimitOptions, rtt: u64) -> f64 {
    let mut world = World::new(1, &[(can_hold, NO_LIMIT), (true, limit)]);
    let mut tcp = Tcp::new(0, 1, rtt, 4_000.0);
    let mut got = Vec::new();
    let (warm_up, time) = (3 * SECOND, 5 * SECOND);
    let mut before = 0;
    for step in 0..(warm_up + time) / STEP {
        if step == warm_up / STEP {
            before = tcp.n_delivered;
        }
        tcp.turn(&mut world, &got);
        world.rig.step();
        got = world.receive(1).into_iter().map(|got| got.0).collect();
    }
    let goodput = ((tcp.n_delivered - before) * MSS * 8) as f64 / 5.0;
    world.rig.assert_counted();
    goodput / (limit.bits_per_sec.unwrap() as f64 * MSS as f64 / LEN as f64)
}

#[test]
fn stream_gets_what_the_limit_leaves_to_it_where_dropping_starved_it() {
    for rate in [2_000_000, 50_000_000, 100_000_000, 200_000_000] {
        for rtt in [100_000, 20 * MS] {
            let held = part(false, bits(rate), rtt);
            assert!(held >= 0.95, "{rate}, {rtt} ns: {held:.3} of the limit");
        }
    }
    let ring = part(true, bits(100_000_000), 100_000);
    assert!(ring >= 0.95, "from a ring: {ring:.3} of the limit");
    let policed = part(
        false,
        LimitOptions {
            queue: None,
            ..bits(100_000_000)
        },
        100_000,
    );
    assert!(
        policed < 0.6,
        "{policed:.3} of the limit without a queue: this sender is not like TCP"
    );
}

/// One ring sends to a VM with a limit and to one without.
#[test]
fn limited_receiver_and_another_share_a_sender() {
    const TIME: u64 = 4 * SECOND;
    let run = |to_both: bool| {
        let mut world = World::new(
            1,
            &[
                (true, NO_LIMIT),
                (true, bits(100_000_000)),
                (true, NO_LIMIT),
            ],
        );
        // 100 frames each half a millisecond: 2.4 Gbit/s.
        let mut streams = [
            Tcp::new(0, 1, 500_000, 1_000.0),
            Tcp::new(0, 2, 500_000, 100.0),
        ];
        let mut got = [Vec::new(), Vec::new()];
        for _ in 0..TIME / STEP {
            for (at, stream) in streams
                .iter_mut()
                .enumerate()
                .filter(|(at, _)| to_both || *at == 1)
            {
                stream.turn(&mut world, &got[at]);
            }
            world.rig.step();
            got = [1, 2].map(|port| world.receive(port).into_iter().map(|got| got.0).collect());
        }
        world.rig.assert_counted();
        streams.map(|stream| (stream.n_delivered * LEN as u64 * 8) as f64 / 4.0)
    };
    let [_, alone] = run(false);
    let [limited, other] = run(true);
    assert!(limited >= 80e6, "the limited one gets {limited}");
    assert!(other >= 0.9 * alone, "the other gets {other} of {alone}");
}
