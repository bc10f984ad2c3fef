//! Guests that cut the files of their memory short and have the switch read from there, or write:
//! each part that is gone costs a signal, and mappings of which a process has not many. What a turn
//! meets is few of them, however many frames, pieces, queues and files lead there.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flowtable::{DropReason, HEADER_MAX};
use guest::Options;
use guest::options::Indirect;
use guest::ring::{Desc, INDIRECT, NEXT, WRITE};
use pmd::error::GuestFault;
use pmd::port::mem::MemPort;
use pmd::port::vhost::Features;
use pmd::port::{RxQueue, TxQueue};
use pmd::ring::QueueSpec;
use pmd::shm::{GuestMemory, RegionSpec};
use rig::{ALL, ANY, Rig, frame, mac, networks, options, regions_of};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

use crate::paging::n_faults;

/// What the signal handler replaces at once, and how far apart places are here.
const PART: u64 = 1 << 18;
const APART: u64 = 2 * PART;
/// What a turn may meet of a guest's: those of a queue's rings, and of a frame.
const MET_MAX: usize = 6;
/// Where the memory begins that will be gone.
const GONE: u64 = 1 << 40;
const NET_HEADER: u32 = 12;
const HEADER: u32 = NET_HEADER + HEADER_MAX as u32;

/// Memory that will be gone, in one file or in several, of names of their own.
struct Gone {
    name: String,
    files: Vec<File>,
    of_each: u64,
}

impl Gone {
    /// With `n_places`, in `n_files`.
    fn new(n_places: u64, n_files: u64) -> Self {
        static N: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gone-{}", N.fetch_add(1, Ordering::Relaxed));
        let of_each = (n_places / n_files + 1) * APART;
        let files = (0..n_files).map(|_| {
            let file = File::from(memfd_create(&*name, MemfdFlags::CLOEXEC).expect("a memfd"));
            file.set_len(of_each).expect("its length");
            file
        });
        let files = files.collect();
        Self {
            name,
            files,
            of_each,
        }
    }

    /// The regions of a guest with these beside its own.
    fn beside(&self, rig: &Rig, port: u16) -> Vec<RegionSpec> {
        let mut regions = regions_of(&rig.guests[usize::from(port)]).expect("it is in a file");
        regions.extend(self.regions());
        regions
    }

    fn regions(&self) -> impl Iterator<Item = RegionSpec> {
        (0..).zip(&self.files).map(|(n, file)| RegionSpec {
            guest_addr: GONE + n * self.of_each,
            user_addr: GONE + n * self.of_each,
            len: self.of_each,
            file_offset: 0,
            file: file.try_clone().expect("a file"),
        })
    }

    /// The address of a place, in the midst of a part with others around.
    fn at(&self, place: u64) -> u64 {
        let per_file = self.of_each / APART - 1;
        GONE + place / per_file * self.of_each + place % per_file * APART + PART + 4096
    }

    fn cut(&self) {
        self.files
            .iter()
            .for_each(|file| file.set_len(0).expect("its length"));
    }

    /// Parts that were met: each splits its file's mapping.
    fn n_met(&self) -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
        let name = format!("/memfd:{} ", self.name);
        maps.lines().filter(|line| line.contains(&name)).count() - self.files.len()
    }
}

/// A and B, and their neighbours C and D, on one core.
fn rig(shape: &Options) -> Rig {
    let mut rig = Rig::new(1, 4, networks(&[&[0, 1], &[2, 3]]));
    for port in 0..4 {
        rig.plug(
            port / 2,
            ANY,
            if port < 2 { shape.clone() } else { options() },
        );
    }
    for port in 0..4 {
        rig.guests[usize::from(port)].send(0, &frame(ALL, mac(port), 0, 60));
        rig.settle();
        rig.receive_all(port ^ 1);
        rig.guests[usize::from(port)].reclaim_tx(0);
    }
    rig
}

fn shape(n_queue_pairs: u16, ring: u16) -> Options {
    let (rx_ring, tx_ring) = (ring, ring);
    Options {
        n_queue_pairs,
        rx_ring,
        tx_ring,
        checked: false,
        mergeable: false,
        indirect: Indirect::Always,
        ..options()
    }
}

/// Sets a port up again with memory that will be gone.
fn set_up(rig: &mut Rig, port: u16, gone: &Gone) {
    rig.down(port);
    let memory = GuestMemory::new(gone.beside(rig, port)).expect("regions");
    rig.up_in(port, 0, ANY, &Arc::new(memory));
    rig.step();
}

/// One turn after the memory is gone, in which C's frames come to D as ever, then some more. Of
/// `of`'s memory few parts are met, and its queues are stopped.
fn turn(rig: &mut Rig, of: u16, gone: &Gone) {
    gone.cut();
    (0..8).for_each(|id| assert!(rig.guests[2].send(0, &frame(mac(3), mac(2), id, 60))));
    let begin = Instant::now();
    rig.step();
    let took = begin.elapsed();
    let n = gone.n_met();
    println!("{n} parts met in {took:?}");
    assert!((1..=MET_MAX).contains(&n), "{n} parts were met in one turn");
    let ids: Vec<u64> = rig.receive_ids(3);
    assert_eq!(ids, (0..8).collect::<Vec<_>>());
    (0..100).for_each(|_| _ = rig.step());
    assert!(
        gone.n_met() <= MET_MAX,
        "{} parts were met later",
        gone.n_met()
    );
    let stopped = rig.cores.stopped(of);
    assert!(
        stopped
            .iter()
            .any(|&(_, fault)| fault == GuestFault::MemoryGone),
        "{stopped:?}"
    );
    rig.assert_counted();
}

/// Bytes of A's own memory for the header of its frame `n`, virtio-net header included.
fn header_at(rig: &Rig, n: u64, len: usize) -> u64 {
    let at = rig.guests[0].scratch() + n * 256;
    let bytes = [
        &[0; NET_HEADER as usize][..],
        &frame(mac(1), mac(0), n, len)[..HEADER_MAX],
    ]
    .concat();
    rig.guests[0].memory().write(at, &bytes);
    at
}

/// A chain of these parts on a transmit queue of A's; not published.
fn chain(rig: &mut Rig, pair: usize, parts: &[(u64, u32)]) {
    let descs = |ids: &[u16]| {
        let next = |k: usize| ids.get(k + 1).map_or((0, 0), |&id| (NEXT, id));
        (0..)
            .zip(parts)
            .map(|(k, &(addr, len))| Desc {
                addr,
                len,
                flags: next(k).0,
                next: next(k).1,
            })
            .collect()
    };
    assert!(rig.guests[0].ring(2 * pair + 1).add_raw(parts.len(), descs));
}

/// A burst of A's of frames of 31 pieces there.
fn send_pieces(rig: &mut Rig, gone: &Gone) {
    for n in 0..32 {
        let head = (header_at(rig, n, 252), HEADER);
        let parts: Vec<_> = std::iter::once(head)
            .chain((0..31).map(|k| (gone.at(31 * n + k), 4)))
            .collect();
        chain(rig, 0, &parts);
    }
    rig.guests[0].publish(1);
}

#[test]
fn frames_of_many_pieces_that_are_gone_stop_at_the_first() {
    let (mut rig, gone) = (rig(&shape(1, 1024)), Gone::new(992, 1));
    set_up(&mut rig, 0, &gone);
    send_pieces(&mut rig, &gone);
    turn(&mut rig, 0, &gone);
}

/// A guest may have 32 of its large pages missed at a time, which are put back.
#[test]
fn large_pages_that_are_taken_away_beyond_those_that_are_put_back_stop_their_queue() {
    let (mut rig, gone) = (rig(&shape(1, 1024)), Gone::new(992, 1));
    rig.down(0);
    let memory = GuestMemory::of_large_pages(gone.beside(&rig, 0)).expect("regions");
    rig.up_in(0, 0, ANY, &Arc::new(memory));
    send_pieces(&mut rig, &gone);
    let begin = Instant::now();
    while rig.guests[0].ring(1).n_used() < 32 {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "the pages are not made"
        );
        rig.step();
    }
    while rig.guests[0].ring(1).pop().is_some() {}
    send_pieces(&mut rig, &gone);
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&gone.files[0], mode, 0, gone.of_each).expect("a hole");
    let before = n_faults();
    rig.step();
    let n = n_faults() - before;
    println!("{n} faults");
    // For each a fault that raises the signal, and one that makes the empty page.
    assert!(n <= 2 * (32 + MET_MAX as u64), "{n} faults in one turn");
    let stopped = rig.cores.stopped(0);
    (0..100).for_each(|_| _ = rig.step());
    assert!(
        rig.cores
            .stopped(0)
            .iter()
            .any(|&(_, fault)| fault == GuestFault::MemoryGone),
        "{stopped:?}"
    );
    rig.assert_counted();
}

#[test]
fn headers_of_many_pieces_that_are_gone_stop_at_the_first() {
    let (mut rig, gone) = (rig(&shape(1, 1024)), Gone::new(1024, 1));
    set_up(&mut rig, 0, &gone);
    for n in 0..7 {
        let parts: Vec<_> = (0..u64::from(HEADER))
            .map(|k| (gone.at(u64::from(HEADER) * n + k), 1))
            .collect();
        chain(&mut rig, 0, &parts);
    }
    rig.guests[0].publish(1);
    turn(&mut rig, 0, &gone);
}

#[test]
fn plain_frames_that_are_gone_stop_at_the_first_in_one_file_or_in_many() {
    for n_files in [1, 32] {
        let (mut rig, gone) = (rig(&shape(1, 256)), Gone::new(32, n_files));
        set_up(&mut rig, 0, &gone);
        (0..32).for_each(|n| chain(&mut rig, 0, &[(gone.at(n), 100)]));
        rig.guests[0].publish(1);
        turn(&mut rig, 0, &gone);
        assert_eq!(
            rig.drops(0, DropReason::Spoofed),
            0,
            "nothing is learned from what is not there"
        );
    }
}

#[test]
fn tables_that_are_gone_stop_at_the_first() {
    let (mut rig, gone) = (rig(&shape(1, 256)), Gone::new(32, 1));
    set_up(&mut rig, 0, &gone);
    for n in 0..32 {
        let table = Desc {
            addr: gone.at(n),
            len: 32,
            flags: INDIRECT,
            next: 0,
        };
        assert!(rig.guests[0].ring(1).add_raw(1, |_| vec![table]));
    }
    rig.guests[0].publish(1);
    turn(&mut rig, 0, &gone);
}

#[test]
fn queues_of_one_guest_stop_together() {
    const PAIRS: u16 = 16;
    let (mut rig, gone) = (rig(&shape(PAIRS, 64)), Gone::new(32 * u64::from(PAIRS), 1));
    set_up(&mut rig, 0, &gone);
    for pair in 0..usize::from(PAIRS) {
        (0..32).for_each(|n| chain(&mut rig, pair, &[(gone.at(32 * pair as u64 + n), 100)]));
        rig.guests[0].publish(2 * pair + 1);
    }
    turn(&mut rig, 0, &gone);
}

/// B's receive buffers are gone: as many queues, of buffers of so many pieces.
fn receiver(n_pairs: u16, n_pieces: u64, frames: impl IntoIterator<Item = Vec<u8>>) {
    const BUFFERS: u64 = 32;
    let n_places = u64::from(n_pairs) * BUFFERS * n_pieces;
    let (mut rig, gone) = (rig(&shape(n_pairs, 1024)), Gone::new(n_places, 1));
    rig.down(1);
    for pair in 0..usize::from(n_pairs) {
        rig.guests[1].reset_vring(2 * pair);
        for n in 0..BUFFERS {
            let first = (pair as u64 * BUFFERS + n) * n_pieces;
            let len = if n_pieces == 1 { 2048 } else { 64 };
            let flags = |k: u64| {
                if k + 1 < n_pieces {
                    WRITE | NEXT
                } else {
                    WRITE
                }
            };
            let desc = |(k, ids): (u64, &[u16])| Desc {
                addr: gone.at(first + k),
                len,
                flags: flags(k),
                next: ids.get(1).copied().unwrap_or(0),
            };
            let descs = |ids: &[u16]| {
                (0..n_pieces)
                    .map(|k| desc((k, &ids[k as usize..])))
                    .collect()
            };
            assert!(
                rig.guests[1]
                    .ring(2 * pair)
                    .add_raw(n_pieces as usize, descs)
            );
        }
        rig.guests[1].publish(2 * pair);
    }
    let memory = GuestMemory::new(gone.beside(&rig, 1)).expect("regions");
    rig.up_in(1, 0, ANY, &Arc::new(memory));
    rig.step();
    frames
        .into_iter()
        .for_each(|frame| assert!(rig.guests[0].send(0, &frame)));
    turn(&mut rig, 1, &gone);
}

#[test]
fn buffers_that_are_gone_stop_their_queue_at_the_first() {
    receiver(1, 1, (0..32).map(|id| frame(mac(1), mac(0), id, 1000)));
}

#[test]
fn buffers_of_many_pieces_that_are_gone_stop_their_queue_at_the_first() {
    receiver(1, 30, (0..32).map(|id| frame(mac(1), mac(0), id, 1500)));
}

#[test]
fn receive_queues_of_one_guest_stop_together() {
    receiver(
        8,
        1,
        (0..32).map(|id| frame(mac(1), mac(100 + id as u16), id, 1000)),
    );
}

/// What is gone of a sender's memory are zeros to whoever gets it: nothing of another guest's, and
/// nothing old.
#[test]
fn rest_of_a_frame_that_is_gone_arrives_as_zeros() {
    let (mut rig, gone) = (rig(&shape(1, 1024)), Gone::new(32, 1));
    set_up(&mut rig, 0, &gone);
    // B's buffers, and the switch's, have held other bytes before.
    for n in 0..8 {
        let parts: Vec<_> = std::iter::once((header_at(&rig, n, 252), HEADER))
            .chain((0..4).map(|k| (gone.at(4 * n + k), 31)))
            .collect();
        chain(&mut rig, 0, &parts);
    }
    rig.guests[0].publish(1);
    turn(&mut rig, 0, &gone);
    let frames = rig.receive_all(1);
    assert_eq!(frames.len(), 8);
    for (id, bytes) in (0..).zip(frames) {
        assert_eq!(
            bytes[..HEADER_MAX],
            frame(mac(1), mac(0), id, 252)[..HEADER_MAX]
        );
        assert!(
            bytes[HEADER_MAX..].iter().all(|&byte| byte == 0) && bytes.len() == 252,
            "frame {id}"
        );
    }
}

/// The same off this machine, where the memory that they leave by has held others' frames.
#[test]
fn frames_of_many_pieces_that_are_gone_leave_by_a_wire_as_zeros() {
    let (mut rig, gone) = (Rig::new(1, 2, networks(&[&[0, 1]])), Gone::new(992, 1));
    rig.plug(0, ANY, shape(1, 1024));
    let wire = MemPort::new(64, false);
    rig.plug_mem(1, Some(0), &wire);
    set_up(&mut rig, 0, &gone);
    send_pieces(&mut rig, &gone);
    gone.cut();
    rig.step();
    assert!(
        (1..=MET_MAX).contains(&gone.n_met()),
        "{} parts were met in one turn",
        gone.n_met()
    );
    let frames: Vec<Vec<u8>> = std::iter::from_fn(|| wire.receive()).collect();
    assert_eq!(frames.len(), 32);
    assert!(
        frames
            .iter()
            .all(|bytes| bytes[HEADER_MAX..].iter().all(|&byte| byte == 0) && bytes.len() == 252)
    );
}

/// Control goes no further either: a front-end may ask for queue after queue before it is sent
/// away, each in another part of what is gone.
#[test]
fn queues_that_are_set_up_in_memory_that_is_gone_meet_few_parts() {
    const N: u64 = 100;
    let gone = Gone::new(3 * N, 1);
    let memory = Arc::new(GuestMemory::new(gone.regions().collect()).expect("regions"));
    gone.cut();
    for n in 0..N {
        let spec = QueueSpec {
            index: u16::from(n % 2 == 1),
            size: 256,
            desc: gone.at(3 * n),
            avail: gone.at(3 * n + 1),
            used: gone.at(3 * n + 2),
            base: None,
            call: None,
            kick: None,
            err: None,
            discards: false,
        };
        let features = Features::from_bits(1 << 32);
        let built = if n % 2 == 1 {
            RxQueue::vhost(0, memory.clone(), &spec, features).map(drop)
        } else {
            TxQueue::vhost(memory.clone(), &spec, features).map(drop)
        };
        let error = built.expect_err("its memory is gone");
        assert!(
            error
                .to_string()
                .contains(GuestFault::MemoryGone.sentence()),
            "{error}"
        );
    }
    assert!(memory.is_damaged());
    assert_eq!(
        gone.n_met(),
        0,
        "the kernel tells what is gone without a signal"
    );
}
