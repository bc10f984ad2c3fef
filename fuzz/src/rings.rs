//! Two guests that write what they like into their memory, while the switch runs or between its
//! turns, beside two that must not notice. The input is a program: which guests these are, then
//! what they write, send, offer and when the switch turns.
//!
//! After every turn: each frame taken is in one counter, and no byte of a guest's memory has
//! changed but in its used rings and in what it had offered for writing. The two others exchange
//! frames that must arrive, whole and in order. At the end both offenders start over, as after a
//! reset, and must be served as anybody else.

mod observed;
mod offender;

use flowtable::SourcePolicy;
use guest::{Indirect, Layout, Options};
use rig::{ALL, ANY, Rig, frame, id_of, mac, networks};

use crate::input::Input;
use observed::{Image, Offered};
use offender::{
    offer_buffers, offer_frame, offer_heads, poke, short_or_whole, store_event, store_index,
    write_descriptor, write_table,
};

/// What one input may do.
const OPERATIONS_MAX: usize = 200;
const TURNS_MAX: usize = 8;
const SCRATCH_BYTES: u64 = 8 << 10;
/// Bytes that are compared at once.
const LINE: usize = 4096;
const OFFENDERS: [usize; 2] = [0, 1];
/// They send to each other, from addresses of their own that nobody else may use.
const CANARIES: [u16; 2] = [2, 3];

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(&mut input);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.operate(&mut input);
    }
    world.turn(1);
    world.canary();
    world.start_over();
}

struct World {
    rig: Rig,
    offered: [Offered; 2],
    /// The offenders' memory before a turn.
    before: [Image; 2],
    /// Of the next canary, from 1 on, and of the last.
    next_id: u64,
    n_rxqs: usize,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let n_cores = 1 + usize::from(input.byte() & 1);
        let mut rig = Rig::with_room(n_cores, 4, networks(&[&[0, 1, 2, 3]]), 1 << 6);
        let mut n_rxqs = 2;
        for _ in OFFENDERS {
            let options = offender(input);
            n_rxqs += usize::from(options.n_queue_pairs);
            rig.plug(0, ANY, options);
        }
        for port in CANARIES {
            rig.plug(0, SourcePolicy::Fixed(mac(port)), canary());
        }
        for port in CANARIES {
            assert!(rig.guests[usize::from(port)].send(0, &frame(ALL, mac(port), 0, 60)));
            rig.settle();
        }
        rig.drain(0..4);
        let offered = OFFENDERS.map(|g| Offered::new(&rig.guests[g]));
        let before = OFFENDERS.map(|g| Image::of(&rig.guests[g]));
        Self {
            rig,
            offered,
            before,
            next_id: 1,
            n_rxqs,
        }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        let g = usize::from(what >> 7);
        let guest = &mut self.rig.guests[g];
        let vring =
            usize::from(what >> 6 & 1) + 2 * (usize::from(what >> 5 & 1) % (guest.n_vrings() / 2));
        match what & 0x1f {
            0..=4 => self.turn(1 + usize::from(input.byte()) % TURNS_MAX),
            5..=8 => write_descriptor(guest, vring, input),
            9..=10 => write_table(guest, input),
            11..=13 => offer_heads(guest, vring, input),
            14 => store_index(guest, vring, input),
            15..=17 => poke(guest, input),
            18..=22 => offer_frame(guest, 2 * (vring / 2) + 1, input),
            23..=25 => offer_buffers(guest, 2 * (vring / 2), input),
            26 => store_event(guest, vring, input),
            27 => self.canary(),
            28 => self.restart(g, input.flag()),
            29 => drop(self.rig.receive_all(CANARIES[vring & 1])),
            _ => self.send_to(g, input),
        }
    }

    /// Turns of the switch, each looked at.
    fn turn(&mut self, n: usize) {
        for _ in 0..n {
            self.watch();
            let n_frames = self.rig.step();
            assert!(
                n_frames <= 32 * self.n_rxqs,
                "{n_frames} frames in a turn of {} queues",
                self.n_rxqs
            );
            self.check();
        }
    }

    fn watch(&mut self) {
        for g in OFFENDERS {
            self.offered[g].note(&self.rig.guests[g]);
            self.before[g].take(&self.rig.guests[g]);
        }
    }

    fn check(&mut self) {
        for g in OFFENDERS {
            // What the switch wrote may have been a descriptor, too.
            self.offered[g].note(&self.rig.guests[g]);
            self.offered[g].check(&self.rig.guests[g], &self.before[g]);
        }
        let all = [0, 1, 2, 3].map(|port| self.rig.counters(port));
        for (port, counters) in all.iter().enumerate() {
            assert!(
                counters.is_balanced(),
                "port {port} is out of balance: {counters:?}"
            );
        }
        let (forwarded, sent) = all
            .iter()
            .fold((0, 0), |(f, s), c| (f + c.forwarded, s + c.tx_frames));
        assert_eq!(forwarded, sent, "forwarded and sent differ");
    }

    /// One frame from canary to canary, whatever else waits.
    fn canary(&mut self) {
        let (from, to, id) = (CANARIES[0], CANARIES[1], self.next_id);
        self.rig.receive_all(from);
        assert!(
            self.rig.guests[usize::from(from)].send(0, &frame(mac(to), mac(from), id, 60)),
            "buffers are lost"
        );
        self.next_id += 1;
        for _ in 0..200 {
            self.turn(1);
            self.rig.receive_all(from);
            // Nobody else can send from the canary's address; what the offenders send may come
            // before it.
            let got = self
                .rig
                .receive_all(to)
                .into_iter()
                .filter(|bytes| bytes[6..12] == mac(from));
            let got: Vec<u64> = got.map(|bytes| id_of(&bytes)).collect();
            if !got.is_empty() {
                assert_eq!(got, [id], "not the canary that was sent");
                return;
            }
        }
        panic!("canary {id} was lost");
    }

    /// A frame for an offender, so that its receive buffers are looked at.
    fn send_to(&mut self, g: usize, input: &mut Input<'_>) {
        let len = 14 + usize::from(input.u16()) % 1400;
        let to = if input.flag() {
            ALL
        } else {
            mac(u16::try_from(g).expect("0 or 1"))
        };
        let from = CANARIES[1];
        self.rig.guests[usize::from(from)].send(0, &short_or_whole(to, mac(from), len));
        self.turn(1);
    }

    /// Down and up again, with rings as they are or as new.
    fn restart(&mut self, g: usize, afresh: bool) {
        let port = u16::try_from(g).expect("0 or 1");
        self.watch();
        self.rig.down(port);
        self.check();
        if afresh {
            let guest = &mut self.rig.guests[g];
            (0..guest.n_vrings()).for_each(|vring| guest.reset_vring(vring));
        }
        // Buffers of before are the guest's own again.
        self.offered[g] = Offered::new(&self.rig.guests[g]);
        self.rig.up(port, 0, ANY);
        self.turn(1);
    }

    /// Both offenders come to their senses.
    fn start_over(&mut self) {
        for g in OFFENDERS {
            self.restart(g, true);
            let guest = &mut self.rig.guests[g];
            for pair in 0..guest.n_vrings() / 2 {
                guest.post_rx(pair);
            }
        }
        let bytes = |to: u16, from: u16, id| frame(mac(to), mac(from), id, 60);
        assert!(self.rig.guests[1].send(0, &frame(ALL, mac(1), 1, 60)));
        self.rig.settle();
        (0..4).for_each(|port| drop(self.rig.receive_all(port)));
        assert!(self.rig.guests[0].send(0, &bytes(1, 0, 2)));
        assert_eq!(
            self.received_from(1, 0),
            [bytes(1, 0, 2)],
            "not served again"
        );
        assert!(self.rig.guests[1].send(0, &bytes(0, 1, 3)));
        assert_eq!(
            self.received_from(0, 1),
            [bytes(0, 1, 3)],
            "receives nothing any more"
        );
        for port in [0, 1] {
            assert!(
                self.rig.cores.stopped(port).is_empty(),
                "a queue of port {port} is stopped"
            );
        }
        self.canary();
        self.rig.assert_balanced();
    }

    /// What arrives at a port from one sender. A canary's frames may have waited for room there all
    /// the time, and come first.
    fn received_from(&mut self, port: u16, from: u16) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        for _ in 0..50 {
            self.rig.settle();
            got.extend(
                self.rig
                    .receive_all(port)
                    .into_iter()
                    .filter(|bytes| bytes[6..12] == mac(from)),
            );
        }
        got
    }
}

/// A guest of any kind, small, on the heap, where a sanitizer sees both ends of each region.
fn offender(input: &mut Input<'_>) -> Options {
    let bits = input.byte();
    let has = |bit: u8| bits >> bit & 1 != 0;
    let mergeable = has(2);
    Options {
        n_queue_pairs: 1 + u16::from(has(0)),
        version_1: has(1),
        mergeable,
        event_idx: has(3),
        indirect: if has(4) {
            Indirect::Always
        } else {
            Indirect::Off
        },
        rx_ring: input.one_of(&[16, 1, 2, 4, 8]),
        tx_ring: input.one_of(&[16, 1, 2, 4, 8]),
        rx_shape: if mergeable {
            vec![input.one_of(&[1600, 80, 200])]
        } else {
            vec![1600]
        },
        tx_frame_bytes: 256,
        checked: false,
        scratch_bytes: SCRATCH_BYTES,
        layout: Layout {
            region_bytes: has(5).then_some(4096),
            hole_bytes: if has(6) && has(5) { 4096 } else { 0 },
            ..Layout::default()
        },
        ..Options::default()
    }
}

fn canary() -> Options {
    Options {
        rx_ring: 16,
        tx_ring: 16,
        rx_shape: vec![400],
        tx_frame_bytes: 1500,
        scratch_bytes: 0,
        ..Options::default()
    }
}
