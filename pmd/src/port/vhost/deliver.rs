//! Frames of a burst into the buffers that were set aside for them.
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in the stash, and lengths of 64 KiB at most"
)]

use flowtable::HEADER_MAX;

use super::stash::STASH;
use super::tx::VhostTx;
use crate::burst::{BURST_MAX, Burst};
use crate::error::GuestFault;
use crate::ring::PIECES_MAX;
use crate::ring::chain::Budget;
use crate::shm::{Piece, damage};
use crate::virtio_net::write_net_header;

impl VhostTx {
    /// Copies the frames of `mask`, lowest first, into the buffers that were set aside for them in
    /// the same order, and shows them. Gives their bytes, without FCS.
    #[inline]
    pub(crate) fn commit(&mut self, burst: &Burst, mask: u32) -> u64 {
        if self.ring.is_damaged() {
            return self.commit_nowhere(burst, mask);
        }
        if burst.with_offload & mask != 0 || !burst.is_plain {
            self.commit_some_plain(burst, mask)
        } else {
            self.commit_as::<true>(burst, mask)
        }
    }

    #[cold]
    #[inline(never)]
    fn commit_some_plain(&mut self, burst: &Burst, mask: u32) -> u64 {
        self.commit_as::<false>(burst, mask)
    }

    /// The guest's memory has gone since room was reserved: the frames are taken to be there, where
    /// nobody sees them.
    #[cold]
    #[inline(never)]
    fn commit_nowhere(&mut self, burst: &Burst, mask: u32) -> u64 {
        if self.stopped.is_none() {
            self.stop(GuestFault::MemoryGone);
        }
        (0..BURST_MAX)
            .filter(|k| mask >> k & 1 != 0)
            .map(|k| u64::from(burst.lens[k]))
            .sum()
    }

    /// `PLAIN`: every frame is in one piece and requests no offload, which goes into virtio-net
    /// headers.
    #[inline(always)]
    fn commit_as<const PLAIN: bool>(&mut self, burst: &Burst, mask: u32) -> u64 {
        let (mut at, mut n_bytes, mut rest) = (0, 0, mask);
        let header_len = self.header_len;
        while rest != 0 {
            let k = rest.trailing_zeros() as usize % BURST_MAX;
            rest &= rest - 1;
            let (slot, len) = (self.slot(at), burst.lens[k]);
            n_bytes += u64::from(len);
            let place = self.stash.pieces[slot];
            // One piece to read from, one to write to.
            let is_plain = PLAIN || burst.more(k).1 == 0 && burst.with_offload & 1 << k == 0;
            let needed = len + header_len;
            if place.len() >= needed && is_plain && !damage::was_met() {
                put_plain(burst, k, place.first(needed), header_len);
                self.stash.written[slot] = needed;
                at += 1;
            } else {
                at = self.put_parts(burst, k, at);
            }
        }
        self.publish(at);
        if damage::was_met() {
            self.is_gone();
        }
        n_bytes
    }

    /// Writes the used entries of the first `n` buffers, which may go round the end of the stash.
    #[inline(always)]
    fn put_used(&mut self, n: u16) {
        let start = self.slot(0);
        let here = usize::from(n).min(STASH - start);
        let stash = &self.stash;
        self.ring.put_used_run(
            0,
            &stash.ids[start..start + here],
            &stash.written[start..start + here],
        );
        let later = usize::from(n) - here;
        if later > 0 {
            self.ring
                .put_used_run(here as u16, &stash.ids[..later], &stash.written[..later]);
        }
    }

    #[inline(always)]
    fn publish(&mut self, mut n: u16) {
        // What was taken and not filled can only be broken.
        while n < self.stash.n_taken {
            let slot = self.slot(n);
            self.stash.written[slot] = 0;
            n += 1;
        }
        if n > 0 {
            self.put_used(n);
            self.n_counted = self.n_counted.saturating_sub(n);
            self.stash.n_taken = 0;
            self.stash.n_ready -= n;
            self.ring.publish(n);
            self.ring.call_if_wanted();
        }
        if !self.stash.chains.is_empty() || self.stash.is_crowded {
            self.tidy();
        }
        (self.stash.n_told, self.stash.most) = (0, STASH as u16);
        self.stash.budget = Budget::default();
    }

    /// Pieces of buffers that are gone stay in `chains` until all of them can go. Before they crowd
    /// out new ones, what was read ahead is forgotten, and read again when it is needed: nothing
    /// rests on it yet.
    #[cold]
    fn tidy(&mut self) {
        let stash = &mut self.stash;
        if stash.is_crowded || stash.chains.len() > PIECES_MAX / 2 {
            stash.n_ready = 0;
        }
        if stash.n_ready == 0 {
            stash.chains.clear();
        }
        (stash.is_crowded, stash.is_early) = (false, false);
    }
}

/// A frame that requests no offload into `place`, as long as it and its virtio-net header.
#[inline(always)]
fn put_plain(burst: &Burst, k: usize, place: Piece, header_len: u32) {
    let len = burst.lens[k];
    write_net_header(place, header_len, 1);
    let data = place.behind(header_len);
    let in_header = len.min(HEADER_MAX as u32);
    data.write(&burst.headers[k].0[..in_header as usize]);
    if len > in_header {
        data.behind(in_header)
            .write_piece(burst.data[k].first(len).behind(in_header));
    }
}
