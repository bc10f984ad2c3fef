//! Buffers of a guest's receive virtqueue that were read ahead of the frames for them.
#![expect(clippy::cast_possible_truncation, reason = "places in the stash")]

use crate::ring::chain::{Budget, Pieces};
use crate::shm::Piece;

/// Buffers that are looked at ahead of the frames that go into them.
pub(super) const STASH: usize = 256;

/// Receive buffers of a guest: read, checked, and waiting in ring order. Each is at its ring
/// position modulo [`STASH`], so that what isn't used by one burst stays where it is for the next.
#[derive(Debug)]
pub(super) struct Stash {
    /// A buffer in one piece, as most are; [`Piece::EMPTY`] when it is a chain, or broken.
    pub(super) pieces: [Piece; STASH],
    /// Bytes of a buffer that is no such piece; 0: broken, to be given back empty.
    pub(super) room: [u32; STASH],
    /// Bytes that were written into it.
    pub(super) written: [u32; STASH],
    pub(super) ids: [u16; STASH],
    /// Where in `chains` a buffer of several pieces is: start and number.
    pub(super) more: [(u16, u16); STASH],
    pub(super) chains: Pieces,
    /// Descriptors that may still be read before the next commit.
    pub(super) budget: Budget,
    /// Buffers that may be looked at ahead now.
    pub(super) most: u16,
    /// Of those that were read, how many were told of.
    pub(super) n_told: usize,
    /// `chains` or `budget` had no room for a buffer: those that are not promised are forgotten and
    /// read again later.
    pub(super) is_crowded: bool,
    /// A buffer would take more descriptors than what the burst may still read: another burst may.
    pub(super) is_early: bool,
    /// Buffers read.
    pub(super) n_ready: u16,
    /// Of them, promised to frames.
    pub(super) n_taken: u16,
}

impl Stash {
    pub(super) fn new() -> Self {
        Self {
            pieces: [Piece::EMPTY; STASH],
            room: [0; STASH],
            written: [0; STASH],
            ids: [0; STASH],
            more: [(0, 0); STASH],
            chains: Pieces::new(),
            budget: Budget::default(),
            most: STASH as u16,
            n_told: 0,
            is_crowded: false,
            is_early: false,
            n_ready: 0,
            n_taken: 0,
        }
    }
}
