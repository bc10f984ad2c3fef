//! A pool of equal buffers and their checks. Each buffer is a stretch of guest memory with room for
//! its parts and for guard bytes round every part.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::memory::{GuestMemory, to_usize};

/// Bytes between parts, and before the first and after the last.
pub(crate) const GUARD_BYTES: u64 = 64;

/// Buffers of one virtqueue.
#[derive(Debug)]
pub(crate) struct Pool {
    memory: Arc<GuestMemory>,
    at: Vec<u64>,
    stride: u64,
    free: VecDeque<u32>,
    fifo: bool,
    /// What a buffer that the device may only read looked like.
    sealed: Vec<Vec<u8>>,
    /// The pattern of untouched bytes, from which each buffer takes a stretch.
    pattern: Vec<u8>,
}

/// The pattern's period: a prime, so that shifted copies differ.
const PERIOD: u64 = 251;

impl Pool {
    pub(crate) fn new(memory: Arc<GuestMemory>, at: Vec<u64>, stride: u64, fifo: bool) -> Self {
        let n = u32::try_from(at.len()).expect("at most 32768 buffers a ring");
        let pattern = (0..stride + PERIOD)
            .map(|i| u8::try_from(i % PERIOD).expect("below 251") ^ 0xa5)
            .collect();
        Self {
            memory,
            sealed: vec![Vec::new(); at.len()],
            at,
            stride,
            free: (0..n).collect(),
            fifo,
            pattern,
        }
    }

    /// A free buffer, which is then taken.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.fifo {
            self.free.pop_front()
        } else {
            self.free.pop_back()
        }
    }

    pub(crate) fn give(&mut self, buffer: u32) {
        self.free.push_back(buffer);
    }

    /// Gives a buffer back that was taken and not used.
    pub(crate) fn untake(&mut self, buffer: u32) {
        if self.fifo {
            self.free.push_front(buffer)
        } else {
            self.free.push_back(buffer)
        }
    }

    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }

    /// Where the buffer begins, its leading guard included.
    pub(crate) fn gpa(&self, buffer: u32) -> u64 {
        self.at[buffer as usize]
    }

    pub(crate) fn stride(&self) -> u64 {
        self.stride
    }

    /// Remembers what a buffer for reading holds.
    pub(crate) fn seal(&mut self, buffer: u32) {
        let mut bytes = std::mem::take(&mut self.sealed[buffer as usize]);
        bytes.resize(to_usize(self.stride), 0);
        self.memory.read(self.gpa(buffer), &mut bytes);
        self.sealed[buffer as usize] = bytes;
    }

    /// Panics if a buffer for reading, or a guard of its, has changed since `seal`.
    pub(crate) fn assert_sealed(&self, buffer: u32) {
        let same = self.sealed[buffer as usize]
            == self
                .memory
                .read_vec(self.gpa(buffer), to_usize(self.stride));
        assert!(
            same,
            "transmit buffer {buffer} at gpa {:#x} was written to",
            self.gpa(buffer)
        );
    }

    /// Fills a buffer with the pattern of untouched bytes.
    pub(crate) fn prefill(&self, buffer: u32) {
        self.memory.write(self.gpa(buffer), self.pattern(buffer));
    }

    /// The same for all buffers.
    pub(crate) fn prefill_all(&self) {
        (0u32..)
            .zip(&self.at)
            .for_each(|(buffer, _)| self.prefill(buffer));
    }

    /// Panics unless all bytes but those in `written` (gpa, length) are as `prefill` left them.
    pub(crate) fn assert_outside(&self, buffer: u32, written: &[(u64, u64)]) {
        let (gpa, want) = (self.gpa(buffer), self.pattern(buffer));
        let mut have = self.memory.read_vec(gpa, want.len());
        for &(at, len) in written {
            let used = to_usize(at - gpa)..to_usize(at - gpa + len);
            have[used.clone()].copy_from_slice(&want[used]);
        }
        if have != want {
            let i = (0..want.len())
                .find(|&i| want[i] != have[i])
                .expect("they differ");
            let (w, h, n) = (want[i], have[i], want.len());
            panic!(
                "receive buffer {buffer}: byte {i} of {n} is {h:#x}, not {w:#x}; written: \
                {written:x?}"
            );
        }
    }

    fn pattern(&self, buffer: u32) -> &[u8] {
        let from = to_usize(u64::from(buffer) * 17 % PERIOD);
        &self.pattern[from..from + to_usize(self.stride)]
    }
}
