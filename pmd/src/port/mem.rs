//! A port in plain memory: frames in a queue on either side. For tests, and as a wire that can't be
//! held back.
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of frames in a test"
)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use flowtable::DropReason;
use flowtable::wire::header::{ETHERNET_LEN, TAG_LEN};

use crate::amount::Allowance;
use crate::burst::{BURST_MAX, Burst, BurstWriter};
use crate::lock::lock;
use crate::port::room::Room;
use crate::shm::Piece;

/// Both directions of a port in memory, for whoever plays the other end.
#[derive(Clone, Debug)]
pub struct MemPort {
    to_switch: Arc<Mutex<VecDeque<Vec<u8>>>>,
    from_switch: Arc<Mutex<VecDeque<Vec<u8>>>>,
    capacity: usize,
    can_hold: bool,
    /// Times that the switch wanted to leave something.
    n_asked: Arc<AtomicUsize>,
}

type Frames = VecDeque<Vec<u8>>;

impl MemPort {
    /// `capacity`: frames that the switch may leave there before they are fetched. `can_hold`:
    /// whether frames to the switch may wait, as in a guest's ring, or not, as on a wire.
    pub fn new(capacity: usize, can_hold: bool) -> Self {
        Self {
            to_switch: Arc::default(),
            from_switch: Arc::default(),
            capacity,
            can_hold,
            n_asked: Arc::default(),
        }
    }

    /// Offers a frame to the switch.
    pub fn send(&self, frame: &[u8]) {
        lock(&self.to_switch).push_back(frame.to_vec());
    }

    /// Holds up whoever leaves frames here, in the midst of its burst, until what this gives is
    /// dropped.
    pub fn hold_up(&self) -> impl Sized {
        lock(&self.from_switch)
    }

    /// How often the switch has wanted to leave frames here, those that are held up included.
    pub fn n_asked(&self) -> usize {
        self.n_asked.load(Ordering::SeqCst)
    }

    /// Frames that the switch has not taken yet.
    pub fn n_waiting(&self) -> usize {
        lock(&self.to_switch).len()
    }

    /// The oldest frame that the switch left here.
    pub fn receive(&self) -> Option<Vec<u8>> {
        lock(&self.from_switch).pop_front()
    }
}

/// The switch's receiving half. Frames it has looked at stay in `burst` until they are consumed.
#[derive(Debug)]
pub(crate) struct MemRx {
    frames: Arc<Mutex<Frames>>,
    burst: VecDeque<Vec<u8>>,
    can_hold: bool,
    position: u16,
}

impl MemRx {
    pub(crate) fn new(ends: &MemPort) -> Self {
        Self {
            frames: ends.to_switch.clone(),
            burst: VecDeque::new(),
            can_hold: ends.can_hold,
            position: 0,
        }
    }

    pub(crate) fn can_hold(&self) -> bool {
        self.can_hold
    }

    pub(crate) fn has_more(&self) -> bool {
        !self.burst.is_empty() || !lock(&self.frames).is_empty()
    }

    pub(crate) fn peek(&mut self, burst: &mut Burst, allowance: Allowance) -> usize {
        let mut waiting = lock(&self.frames);
        while self.burst.len() < BURST_MAX
            && let Some(frame) = waiting.pop_front()
        {
            self.burst.push_back(frame);
        }
        let mut writer = BurstWriter::new(burst);
        let mut n_bytes: u32 = 0;
        for (k, frame) in self.burst.iter_mut().enumerate().take(allowance.n_frames) {
            if n_bytes >= allowance.n_bytes {
                break;
            }
            let piece = Piece::of_private(frame);
            writer.put(k, piece, piece.len());
            n_bytes = n_bytes.saturating_add(piece.len());
            if piece.len() < ETHERNET_LEN {
                writer.refuse(k, DropReason::Runt);
            } else {
                writer.read_header(k);
            }
        }
        writer.finish()
    }

    pub(crate) fn position(&self) -> u16 {
        self.position
    }

    pub(crate) fn n_waiting(&self) -> u16 {
        (self.burst.len() + lock(&self.frames).len()).min(1 << 15) as u16
    }

    pub(crate) fn peek_ahead(&mut self, from: u16, n: usize, burst: &mut Burst) {
        let mut writer = BurstWriter::new(burst);
        let mut waiting = lock(&self.frames);
        let frames = self
            .burst
            .iter_mut()
            .chain(waiting.iter_mut())
            .skip(from.into());
        for (k, frame) in frames.enumerate().take(n.min(BURST_MAX)) {
            let piece = Piece::of_private(frame);
            let len = if piece.len() < ETHERNET_LEN {
                0
            } else {
                piece.len()
            };
            writer.put(k, piece, len);
            writer.read_header(k);
        }
        writer.finish();
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.burst.drain(..n);
        self.position = self.position.wrapping_add(n as u16);
    }
}

/// The switch's sending half.
#[derive(Debug)]
pub(crate) struct MemTx {
    frames: Arc<Mutex<Frames>>,
    capacity: usize,
    n_reserved: usize,
    n_used: u32,
    n_asked: Arc<AtomicUsize>,
}

impl MemTx {
    pub(crate) fn new(ends: &MemPort) -> Self {
        Self {
            frames: ends.from_switch.clone(),
            capacity: ends.capacity,
            n_reserved: 0,
            n_used: 0,
            n_asked: ends.n_asked.clone(),
        }
    }

    /// Frames that were given room so far.
    pub(crate) fn n_used(&self) -> u32 {
        self.n_used
    }

    pub(crate) fn has_room(&self) -> bool {
        lock(&self.frames).len() + self.n_reserved < self.capacity
    }

    pub(crate) fn reserve(&mut self, n: usize) -> (usize, Room) {
        self.n_asked.fetch_add(1, Ordering::SeqCst);
        let n_free = self
            .capacity
            .saturating_sub(lock(&self.frames).len() + self.n_reserved);
        self.n_reserved += n.min(n_free);
        self.n_used = self.n_used.wrapping_add(n.min(n_free) as u32);
        (
            n.min(n_free),
            if n > n_free {
                Room::Full
            } else {
                Room::Reserved
            },
        )
    }

    pub(crate) fn commit(&mut self, burst: &Burst, mask: u32, tag: Option<u16>) -> u64 {
        let mut n_bytes = 0;
        for k in (0..BURST_MAX).filter(|k| mask >> k & 1 != 0) {
            let mut frame = vec![0; (burst.lens[k] + TAG_LEN) as usize];
            let len = burst.write_frame(k, Piece::of_private(&mut frame), tag);
            frame.truncate(len as usize);
            n_bytes += u64::from(len);
            lock(&self.frames).push_back(frame);
        }
        self.n_reserved = 0;
        n_bytes
    }
}
