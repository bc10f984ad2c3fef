//! Rings without bookkeeping, for load: descriptor `i` is avail slot `i` is buffer `i`, written
//! once. A burst is offered by raising `avail.idx`; what came back is what `used.idx` says. That is
//! exact as long as the device returns chains in ring order, which is checked at the last chain of
//! each burst, and the ring gives up with a panic if it doesn't.

use std::sync::atomic::{AtomicU16, Ordering, fence};

use crate::driver::RawQueue;
use crate::flows::Flows;
use crate::memory::{GuestMemory, to_usize};
use crate::numbers::{self, Numbers};
use crate::ring::{Desc, NO_NOTIFY, WRITE, crossed};

/// What both directions share.
#[derive(Debug)]
struct Lean {
    queue: RawQueue,
    avail_idx: *mut u16,
    used: *mut u8,
    mask: u16,
    offered: u16,
    returned: u16,
    kicked: u16,
}

/// A transmit ring whose buffers hold frames for good.
#[derive(Debug)]
pub struct LeanTx {
    lean: Lean,
    frames: Vec<*mut u8>,
    flows: Flows,
    rewrite: bool,
}

/// A receive ring whose buffers go back as soon as they come.
#[derive(Debug)]
pub struct LeanRx {
    lean: Lean,
    buffers: Vec<*const u8>,
    /// Bytes received, headers included, if they are counted.
    pub n_bytes: u64,
    count_bytes: bool,
    touch: bool,
    touched: u64,
    /// What numbered frames have come, and the bytes before a frame.
    numbers: Option<(Numbers, usize)>,
}

impl LeanTx {
    /// Writes frames of `flows` into all buffers, behind headers of zeros.
    pub fn new(queue: RawQueue, header_bytes: usize, mut flows: Flows) -> Self {
        let frame = flows.template().to_vec();
        assert!(
            (header_bytes + frame.len()) as u64 <= queue.buffer_bytes,
            "a frame of {} bytes",
            frame.len()
        );
        let len = u32::try_from(header_bytes + frame.len()).expect("a frame");
        let n = u64::from(queue.size);
        let frames: Vec<*mut u8> = queue
            .buffers
            .iter()
            .map(|&gpa| {
                queue.memory.write(gpa, &vec![0; header_bytes]);
                queue.memory.write(gpa + header_bytes as u64, &frame);
                queue
                    .memory
                    .host(gpa + header_bytes as u64, frame.len() as u64)
            })
            .collect();
        let rewrite = flows.n() > 1 && !n.is_multiple_of(flows.n());
        let tx = Self {
            lean: Lean::new(queue, len, 0),
            frames,
            flows: flows.clone(),
            rewrite,
        };
        for slot in 0..tx.frames.len() {
            tx.write_headers(slot, &mut flows);
        }
        tx
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.lean.queue.size
    }

    /// Frames that could be offered.
    pub fn room(&self) -> u16 {
        self.lean.room()
    }

    /// Looks how many chains came back since the last time.
    #[inline]
    pub fn poll(&mut self) -> u16 {
        self.lean.poll().1
    }

    /// Offers the next `n` frames; `n <= room()`.
    #[inline]
    pub fn offer(&mut self, n: u16) {
        if self.rewrite {
            let mut flows = std::mem::take(&mut self.flows);
            for i in 0..n {
                self.write_headers(
                    usize::from(self.lean.offered.wrapping_add(i) & self.lean.mask),
                    &mut flows,
                );
            }
            self.flows = flows;
        }
        self.lean.offer(n);
    }

    /// Whether the device wants a kick for what was offered.
    #[inline]
    pub fn kick_due(&mut self) -> bool {
        self.lean.kick_due()
    }

    #[inline]
    fn write_headers(&self, slot: usize, flows: &mut Flows) {
        let frame = self.frames[slot];
        let (at, word) = flows.next_word();
        assert!(at <= Flows::MOST_OFFSET);
        // SAFETY: frames are at least 60 bytes long and `at + 16 <= 60`; the pointer is into memory
        // that `queue` keeps.
        unsafe { frame.add(at).cast::<u128>().write_unaligned(word) }
    }
}

impl LeanRx {
    /// Offers all buffers. `count_bytes`: read the used lengths. `touch`: read a word of each
    /// frame, as a guest would.
    pub fn new(queue: RawQueue, len: u32, count_bytes: bool, touch: bool) -> Self {
        assert!(u64::from(len) <= queue.buffer_bytes);
        let buffers = queue
            .buffers
            .iter()
            .map(|&gpa| queue.memory.host(gpa, u64::from(len)).cast_const())
            .collect();
        let mut lean = Lean::new(queue, len, WRITE);
        lean.offer(lean.queue.size);
        Self {
            lean,
            buffers,
            n_bytes: 0,
            count_bytes,
            touch,
            touched: 0,
            numbers: None,
        }
    }

    /// Checks the numbers of frames, which begin `header_bytes` behind the start of a buffer, from
    /// now on.
    pub fn check_numbers(&mut self, numbers: Numbers, header_bytes: usize) {
        self.numbers = Some((numbers, header_bytes));
    }

    /// What numbered frames have come, if that is checked.
    pub fn numbers(&self) -> Option<Numbers> {
        self.numbers.map(|(numbers, _)| numbers)
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.lean.queue.size
    }

    /// Buffers that could be offered again.
    pub fn room(&self) -> u16 {
        self.lean.room()
    }

    /// Looks how many frames came since the last time.
    #[inline]
    pub fn poll(&mut self) -> u16 {
        let (first, n) = self.lean.poll();
        if n > 0 && (self.count_bytes || self.touch || self.numbers.is_some()) {
            self.look(first, n);
        }
        n
    }

    /// Offers `n` buffers again; `n <= room()`.
    #[inline]
    pub fn offer(&mut self, n: u16) {
        self.lean.offer(n);
    }

    /// Whether the device wants a kick for what was offered.
    #[inline]
    pub fn kick_due(&mut self) -> bool {
        self.lean.kick_due()
    }

    /// What the last turn's frames looked like, folded into one word, so that reading them isn't
    /// optimised away.
    pub fn touched(&self) -> u64 {
        self.touched
    }

    fn look(&mut self, first: u16, n: u16) {
        for i in 0..n {
            let slot = first.wrapping_add(i) & self.lean.mask;
            let len = self.lean.used_entry(slot).1;
            self.n_bytes += u64::from(len);
            if let Some((numbers, header_bytes)) = &mut self.numbers {
                let buffer = self.buffers[usize::from(slot)];
                if (len as usize) < *header_bytes + numbers::FRAME_LEAST {
                    numbers.take_short();
                } else {
                    // SAFETY: the frame begins at most 12 bytes into the buffer, and the device
                    // wrote that much of it: it is longer than 80 bytes, and mapped as long as
                    // `queue` lives.
                    let word = unsafe {
                        buffer
                            .add(*header_bytes + numbers::AT)
                            .cast::<u128>()
                            .read_unaligned()
                    };
                    numbers.take(u128::from_le(word));
                }
            }
            if self.touch {
                // SAFETY: buffers are longer than 80 bytes, and mapped as long as `queue` lives.
                self.touched ^= unsafe {
                    self.buffers[usize::from(slot)]
                        .add(16)
                        .cast::<u64>()
                        .read_unaligned()
                };
            }
        }
    }
}

impl Lean {
    fn new(queue: RawQueue, len: u32, flags: u16) -> Self {
        assert!(
            len > 80 || flags & WRITE == 0,
            "receive buffers of {len} bytes"
        );
        let memory: &GuestMemory = &queue.memory;
        let slots = 0..queue.size;
        for (slot, &addr) in slots.zip(&queue.buffers) {
            let desc = Desc {
                addr,
                len,
                flags,
                next: 0,
            };
            memory.write(queue.at.desc + 16 * u64::from(slot), &desc.to_bytes());
            memory.store_u16(queue.at.avail + 4 + 2 * u64::from(slot), slot);
        }
        memory.store_u16(queue.at.avail, NO_NOTIFY);
        let used_bytes = 4 + 8 * u64::from(queue.size) + 2;
        let avail_idx = memory.host(queue.at.avail + 2, 2).cast();
        let used = memory.host(queue.at.used, used_bytes);
        let mask = queue.size - 1;
        Self {
            queue,
            avail_idx,
            used,
            mask,
            offered: 0,
            returned: 0,
            kicked: 0,
        }
    }

    /// How many came back, and from which index on.
    #[inline]
    fn poll(&mut self) -> (u16, u16) {
        // SAFETY: `used` points to the used ring, whose index is two bytes at 2, aligned; mapped as
        // long as `queue` lives. Acquire pairs with the device's release of used.idx.
        let idx = u16::from_le(
            unsafe { AtomicU16::from_ptr(self.used.add(2).cast()) }.load(Ordering::Acquire),
        );
        let (first, n) = (self.returned, idx.wrapping_sub(self.returned));
        if n > 0 {
            self.check(idx, n);
            self.returned = idx;
        }
        (first, n)
    }

    #[inline]
    fn check(&self, idx: u16, n: u16) {
        let flying = self.offered.wrapping_sub(self.returned);
        let slot = idx.wrapping_sub(1) & self.mask;
        let id = self.used_entry(slot).0;
        assert!(
            n <= flying,
            "used.idx {idx}: {n} chains came back, {flying} are in flight"
        );
        assert!(
            id == u32::from(slot),
            "used entry {slot} has id {id}: chains don't come back in ring order"
        );
    }

    #[inline]
    fn used_entry(&self, slot: u16) -> (u32, u32) {
        // SAFETY: `slot <= mask`, so the entry lies in the used ring; aligned to 4 by its offset.
        unsafe {
            let entry = self.used.add(4 + 8 * usize::from(slot)).cast::<u32>();
            (
                u32::from_le(entry.read_volatile()),
                u32::from_le(entry.add(1).read_volatile()),
            )
        }
    }

    #[inline]
    fn room(&self) -> u16 {
        self.queue.size - self.offered.wrapping_sub(self.returned)
    }

    #[inline]
    fn offer(&mut self, n: u16) {
        debug_assert!(n <= self.room());
        self.offered = self.offered.wrapping_add(n);
        // SAFETY: `avail_idx` is two aligned bytes in memory that `queue` keeps. Release pairs with
        // the device's acquire of avail.idx: headers written before are seen.
        unsafe { AtomicU16::from_ptr(self.avail_idx) }
            .store(self.offered.to_le(), Ordering::Release);
        if self.queue.event_idx {
            // As far from being called as can be.
            let gpa = self.queue.at.avail + 4 + 2 * u64::from(self.queue.size);
            self.queue
                .memory
                .store_u16(gpa, self.returned.wrapping_sub(1));
        }
    }

    #[inline]
    fn kick_due(&mut self) -> bool {
        // Between avail.idx and the device's wish: pairs with the device's fence between its wish
        // and reading avail.idx.
        fence(Ordering::SeqCst);
        let (old, new) = (self.kicked, self.offered);
        self.kicked = new;
        let at = if self.queue.event_idx {
            4 + 8 * usize::from(self.queue.size)
        } else {
            0
        };
        // SAFETY: flags and avail_event are aligned words of the used ring.
        let word = u16::from_le(
            unsafe { AtomicU16::from_ptr(self.used.add(at).cast()) }.load(Ordering::Relaxed),
        );
        if self.queue.event_idx {
            crossed(word, new, old)
        } else {
            new != old && word & NO_NOTIFY == 0
        }
    }
}

/// Bytes of a receive buffer that a lean ring offers of each buffer.
pub fn rx_len(queue: &RawQueue, shape: &[u32]) -> u32 {
    let most = u32::try_from(to_usize(queue.buffer_bytes)).unwrap_or(u32::MAX);
    shape.iter().sum::<u32>().min(most)
}
