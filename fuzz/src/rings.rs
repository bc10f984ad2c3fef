//! Two guests that write what they like into their memory, while the switch runs or between its
//! turns, beside two that must not notice. The input is a program: which guests these are, then
//! what they write, send, offer and when the switch turns.
//!
//! After every turn: each frame taken is in one counter, and no byte of a guest's memory has
//! changed but in its used rings and in what it had offered for writing. The two others exchange
//! frames that must arrive, whole and in order. At the end both offenders start over, as after a
//! reset, and must be served as anybody else.

use crate::input::Input;
use flowtable::SourcePolicy;
use guest::ring::{Desc, INDIRECT, NEXT, WRITE};
use guest::{GuestDriver, Indirect, Layout, Options};
use rig::{ALL, ANY, Rig, frame, id_of, mac, networks};
use std::collections::BTreeSet;

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
                self.rig.fleet.stopped(port).is_empty(),
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

/// A frame that can be checked, or one too short for that.
fn short_or_whole(to: [u8; 6], from: [u8; 6], len: usize) -> Vec<u8> {
    let mut bytes = frame(to, from, 9, len.max(22));
    bytes.truncate(len);
    bytes
}

// What an offender does. Addresses are made so that they often lead somewhere.

fn address(guest: &GuestDriver, input: &mut Input<'_>) -> u64 {
    let kind = input.byte();
    let at = u64::from(input.u16());
    let regions = guest.memory().regions();
    let region = regions[usize::from(kind >> 4) % regions.len()].spec();
    match kind & 15 {
        0..=5 => guest.scratch() + at % SCRATCH_BYTES,
        6..=7 => region.gpa + at % region.len,
        8 => (region.gpa + region.len).wrapping_sub(at % 64),
        9 => region.gpa.wrapping_sub(at % 64),
        10..=12 => {
            let ring = guest.vring_gpa(usize::from(kind >> 4) % guest.n_vrings());
            let part = [ring.desc, ring.avail, ring.used][usize::from(kind & 15) - 10];
            part + at % 256
        }
        13 => u64::MAX - at,
        14 => at,
        _ => input.u64(),
    }
}

fn length(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        n @ 0..=127 => u32::from(n),
        n @ 128..=191 => u32::from(n) * 16 - 2000,
        n @ 192..=223 => u32::from(n - 192) * 16,
        224..=239 => u32::from(input.u16()),
        240 => 65_536 + 12,
        241 => 9018 + 12,
        242 => 1 << 20,
        243 => u32::MAX,
        _ => input.u32(),
    }
}

fn descriptor(guest: &GuestDriver, input: &mut Input<'_>) -> Desc {
    let flags = input.one_of(&[
        0,
        WRITE,
        NEXT,
        NEXT | WRITE,
        INDIRECT,
        INDIRECT | WRITE,
        INDIRECT | NEXT,
        0xffff,
        8,
    ]);
    let (addr, len, next) = (
        address(guest, input),
        length(input),
        u16::from(input.byte()),
    );
    Desc {
        addr,
        len,
        flags,
        next: if next > 0xf0 { next << 8 } else { next },
    }
}

fn write_descriptor(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let id = u64::from(u16::from(input.byte()) % guest.vring_size(vring));
    let bytes = descriptor(guest, input).to_bytes();
    guest
        .memory()
        .write(guest.vring_gpa(vring).desc + 16 * id, &bytes);
}

/// Up to eight entries somewhere in the scratch memory.
fn write_table(guest: &GuestDriver, input: &mut Input<'_>) {
    let at = u64::from(input.byte()) * 16;
    for entry in 0..1 + u64::from(input.byte()) % 8 {
        let bytes = descriptor(guest, input).to_bytes();
        guest.memory().write(
            guest.scratch() + (at + 16 * entry) % (SCRATCH_BYTES - 16),
            &bytes,
        );
    }
}

/// Up to eight heads, right or wrong, and the index behind them.
fn offer_heads(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    for _ in 0..1 + input.byte() % 8 {
        let head = input.byte();
        offer(
            guest,
            vring,
            if head == 0xff {
                input.u16()
            } else {
                u16::from(head) % guest.vring_size(vring)
            },
        );
    }
}

fn offer(guest: &GuestDriver, vring: usize, head: u16) {
    let (avail, size) = (guest.vring_gpa(vring).avail, guest.vring_size(vring));
    let idx = guest.memory().load_u16(avail + 2);
    guest
        .memory()
        .store_u16(avail + 4 + 2 * u64::from(idx % size), head);
    guest.memory().store_u16(avail + 2, idx.wrapping_add(1));
}

fn store_index(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let ring = guest.vring_gpa(vring);
    let at = if input.flag() { ring.avail } else { ring.used };
    guest.memory().store_u16(at + 2, input.u16());
}

fn store_event(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let (ring, size) = (guest.vring_gpa(vring), u64::from(guest.vring_size(vring)));
    let at = [
        ring.avail,
        ring.avail + 4 + 2 * size,
        ring.used,
        ring.used + 4 + 8 * size,
    ];
    guest.memory().store_u16(input.one_of(&at), input.u16());
}

/// Any bytes anywhere.
fn poke(guest: &GuestDriver, input: &mut Input<'_>) {
    let regions = guest.memory().regions();
    let region = regions[usize::from(input.byte()) % regions.len()].spec();
    let at = u64::from(input.u16()) % region.len;
    let n = (1 + u64::from(input.byte()) % 16).min(region.len - at);
    guest.memory().write(
        region.gpa + at,
        input.take(usize::try_from(n).expect("small")),
    );
}

/// A frame that is switched, in one or two descriptors.
fn offer_frame(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let station = |n: u8| {
        if n & 0x80 != 0 {
            ALL
        } else {
            mac(u16::from(n & 15))
        }
    };
    let (dst, src, len) = (
        station(input.byte()),
        station(input.byte() & 0x7f),
        14 + u64::from(input.u16()) % 1400,
    );
    let at = guest.scratch() + u64::from(input.byte()) * 16;
    let header = vec![0; guest.options().header_bytes()];
    let bytes = [
        header,
        short_or_whole(dst, src, usize::try_from(len).expect("small")),
    ]
    .concat();
    guest.memory().write(at, &bytes);
    let size = guest.vring_size(vring);
    let (head, cut) = (u16::from(input.byte()) % size, u64::from(input.byte()));
    let desc = |id: u16, entry: Desc| {
        guest.memory().write(
            guest.vring_gpa(vring).desc + 16 * u64::from(id),
            &entry.to_bytes(),
        );
    };
    let whole = u32::try_from(bytes.len()).expect("small");
    if cut & 1 == 0 || size == 1 {
        desc(
            head,
            Desc {
                addr: at,
                len: whole,
                flags: 0,
                next: 0,
            },
        );
    } else {
        let next = (head + 1) % size;
        let first = u32::try_from(cut).expect("a byte").min(whole);
        desc(
            head,
            Desc {
                addr: at,
                len: first,
                flags: NEXT,
                next,
            },
        );
        desc(
            next,
            Desc {
                addr: at + u64::from(first),
                len: whole - first,
                flags: 0,
                next: 0,
            },
        );
    }
    offer(guest, vring, head);
}

/// Up to eight receive buffers of one descriptor, one behind another.
fn offer_buffers(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let (mut at, len) = (address(guest, input), length(input));
    let first = u16::from(input.byte());
    for i in 0..1 + u16::from(input.byte()) % 8 {
        let id = first.wrapping_add(i) % guest.vring_size(vring);
        let entry = Desc {
            addr: at,
            len,
            flags: WRITE,
            next: 0,
        };
        guest.memory().write(
            guest.vring_gpa(vring).desc + 16 * u64::from(id),
            &entry.to_bytes(),
        );
        offer(guest, vring, id);
        at = at.wrapping_add(u64::from(len));
    }
}

/// What a guest has offered for writing since its port came up. More than it has: every writable
/// descriptor counts, in whatever chain it is.
#[derive(Debug)]
struct Offered {
    /// First byte and the one behind the last.
    ranges: BTreeSet<(u64, u64)>,
    /// Where its descriptors are.
    tables: BTreeSet<(u64, u64)>,
    used: Vec<(u64, u64)>,
    /// Each receive ring's descriptors as last seen, if none of them leads to a table.
    seen: Vec<Vec<u8>>,
}

impl Offered {
    fn new(guest: &GuestDriver) -> Self {
        let used_of = |vring| {
            let at = guest.vring_gpa(vring).used;
            (at, at + 6 + 8 * u64::from(guest.vring_size(vring)))
        };
        let used = (0..guest.n_vrings()).map(used_of).collect();
        let seen = vec![Vec::new(); guest.n_vrings()];
        Self {
            ranges: BTreeSet::new(),
            tables: BTreeSet::new(),
            used,
            seen,
        }
    }

    /// Looks at the descriptors as they are now.
    fn note(&mut self, guest: &GuestDriver) {
        for vring in (0..guest.n_vrings()).step_by(2) {
            let (at, size) = (
                guest.vring_gpa(vring).desc,
                u64::from(guest.vring_size(vring)),
            );
            let bytes = guest
                .memory()
                .read_vec(at, usize::try_from(16 * size).expect("small"));
            if self.seen[vring] == bytes {
                continue;
            }
            self.tables.insert((at, at + 16 * size));
            let descs_here = descs(&bytes);
            let has_tables = descs_here.iter().any(|desc| desc.flags & INDIRECT != 0);
            self.seen[vring] = if has_tables { Vec::new() } else { bytes };
            for desc in descs_here {
                if desc.flags & INDIRECT == 0 {
                    self.note_one(desc);
                    continue;
                }
                let n = u64::from(desc.len / 16).min(size);
                if n > 0 && guest.memory().contains(desc.addr, 16 * n) {
                    self.tables.insert((desc.addr, desc.addr + 16 * n));
                    let bytes = guest
                        .memory()
                        .read_vec(desc.addr, usize::try_from(16 * n).expect("small"));
                    descs(&bytes)
                        .into_iter()
                        .for_each(|desc| self.note_one(desc));
                }
            }
        }
    }

    fn note_one(&mut self, desc: Desc) {
        if desc.flags & WRITE != 0 && desc.len > 0 {
            self.ranges
                .insert((desc.addr, desc.addr.saturating_add(u64::from(desc.len))));
        }
    }

    /// Panics if a byte changed that it had not offered. A guest that offers its own descriptors
    /// gets other ones in the middle of a turn, by its own fault: nothing is known about its memory
    /// then.
    fn check(&self, guest: &GuestDriver, before: &Image) {
        let written: Vec<(u64, u64)> = self.ranges.iter().chain(&self.used).copied().collect();
        let meets = |&(a, b): &(u64, u64)| written.iter().any(|&(c, d)| a < d && c < b);
        if self.tables.iter().any(meets) {
            return;
        }
        before.for_each_change(guest, |gpa| {
            let is_offered = written
                .iter()
                .any(|&(from, end)| (from..end).contains(&gpa));
            assert!(
                is_offered,
                "byte {gpa:#x} was written to, which nobody offered: {self:x?}"
            );
        });
    }
}

fn descs(bytes: &[u8]) -> Vec<Desc> {
    let desc = |bytes: &[u8]| {
        let word = u128::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        let part =
            |shift: u32| u64::try_from(word >> shift & u128::from(u64::MAX)).expect("masked");
        let short = |shift: u32| u16::try_from(part(shift) & 0xffff).expect("masked");
        let len = u32::try_from(part(64) & 0xffff_ffff).expect("masked");
        Desc {
            addr: part(0),
            len,
            flags: short(96),
            next: short(112),
        }
    };
    bytes.chunks_exact(16).map(desc).collect()
}

/// All bytes of a guest's memory, by region.
struct Image(Vec<(u64, Vec<u8>)>);

impl Image {
    fn of(guest: &GuestDriver) -> Self {
        let of = |region: &guest::memory::Region| {
            let spec = region.spec();
            (
                spec.gpa,
                vec![0; usize::try_from(spec.len).expect("a region")],
            )
        };
        Self(guest.memory().regions().iter().map(of).collect())
    }

    fn take(&mut self, guest: &GuestDriver) {
        self.0
            .iter_mut()
            .for_each(|(gpa, bytes)| guest.memory().read(*gpa, bytes));
    }

    /// Calls `changed` for the address of each byte that is not as it was.
    fn for_each_change(&self, guest: &GuestDriver, mut changed: impl FnMut(u64)) {
        let mut now = [0; LINE];
        for (gpa, bytes) in &self.0 {
            for (first, was) in (*gpa..).step_by(LINE).zip(bytes.chunks(LINE)) {
                let now = &mut now[..was.len()];
                guest.memory().read(first, now);
                if now != was {
                    (first..)
                        .zip(was.iter().zip(&*now))
                        .filter(|(_, (was, now))| was != now)
                        .for_each(|(gpa, _)| changed(gpa));
                }
            }
        }
    }
}
