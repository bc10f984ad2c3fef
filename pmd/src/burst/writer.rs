//! How a queue fills a burst, frame after frame.
#![expect(clippy::cast_possible_truncation, reason = "numbers of pieces")]

use flowtable::{Action, DropReason};

use super::frames::Burst;
use crate::ring::chain::{Budget, Pieces};
use crate::shm::{Piece, damage};
use crate::virtio_net::Offload;

/// Fills a burst. What was put is in the burst once the writer has finished; the number of frames
/// and the sum of their bytes are kept here until then.
#[derive(Debug)]
pub(crate) struct BurstWriter<'b> {
    burst: &'b mut Burst,
    n: usize,
    n_bytes: u32,
}

impl<'b> BurstWriter<'b> {
    /// Empties the burst.
    #[inline(always)]
    pub(crate) fn new(burst: &'b mut Burst) -> Self {
        burst.clear();
        Self {
            burst,
            n: 0,
            n_bytes: 0,
        }
    }

    /// Bytes of the frames so far, of refused ones none.
    #[inline(always)]
    pub(crate) fn n_bytes(&self) -> u32 {
        self.n_bytes
    }

    /// Frame `k`, the next one, has `len` bytes and lies in one piece, of which `len` may leave out
    /// the beginning: see [`Burst::begin_at`].
    #[inline(always)]
    pub(crate) fn put(&mut self, k: usize, piece: Piece, len: u32) {
        (self.burst.data[k], self.burst.lens[k]) = (piece, len);
        self.count(k, len);
    }

    /// Frame `k`, the next one, has `len` bytes and lies in the pieces that `parts` tells of, most
    /// often one. False: there is no room for them, and nothing is changed.
    pub(crate) fn put_parts(
        &mut self,
        k: usize,
        len: u32,
        parts: impl FnOnce(&mut dyn FnMut(Piece)),
    ) -> bool {
        let burst = &mut *self.burst;
        let (start, mut first, mut has_room) = (burst.pieces.len(), None, true);
        parts(&mut |piece| match first {
            None => first = Some(piece),
            Some(_) => has_room &= burst.pieces.try_push(piece).is_ok(),
        });
        if !has_room {
            burst.pieces.truncate(start);
            return false;
        }
        if burst.pieces.len() > start {
            burst.set_not_plain();
            burst.more[k] = burst.pieces_from(start);
        }
        self.put(k, first.unwrap_or(Piece::EMPTY), len);
        true
    }

    /// Frame `k`, the next one, is where it was placed by [`Burst::place_chain`].
    #[inline(always)]
    pub(crate) fn put_placed(&mut self, k: usize) {
        self.count(k, self.burst.lens[k]);
    }

    /// What is filled.
    #[inline(always)]
    pub(crate) fn burst(&mut self) -> &mut Burst {
        self.burst
    }

    /// Refuses frame `k`, which was put before.
    pub(crate) fn refuse(&mut self, k: usize, reason: DropReason) {
        self.n_bytes -= self.burst.lens[k];
        self.burst.note_refused(k, reason);
    }

    /// What the queue needs to give frame `k` back.
    #[inline(always)]
    pub(crate) fn set_id(&mut self, k: usize, id: u16) {
        self.burst.ids[k] = id;
    }

    /// Copies the header of frame `k`, which was put before, out of the memory it arrived in.
    pub(crate) fn read_header(&mut self, k: usize) {
        self.burst.read_header(k);
    }

    /// Frame `k` requests an offload.
    pub(crate) fn set_offload(&mut self, k: usize, offload: Offload) {
        self.burst.set_offload(k, offload);
    }

    /// What was put is in the burst; gives the number of frames.
    #[inline(always)]
    pub(crate) fn finish(self) -> usize {
        (self.burst.n, self.burst.sum_bytes) = (self.n, self.n_bytes);
        self.n
    }

    #[inline(always)]
    fn count(&mut self, k: usize, len: u32) {
        self.n = k + 1;
        self.n_bytes += len;
    }
}

impl Burst {
    /// Frame `k` is to lie in the pieces that `walk` appends, which gives its bytes; see
    /// [`Burst::take_front`] for a header before it. If that fails it has no bytes. It is put by
    /// [`BurstWriter::put_placed`].
    ///
    /// # Errors
    /// Those of `walk`.
    pub(crate) fn place_chain<E>(
        &mut self,
        k: usize,
        walk: impl FnOnce(&mut Pieces, &mut Budget) -> Result<u32, E>,
    ) -> Result<u32, E> {
        self.set_not_plain();
        let start = self.pieces.len();
        (self.data[k], self.lens[k], self.more[k]) = (Piece::EMPTY, 0, (0, 0));
        let len = walk(&mut self.pieces, &mut self.budget)?;
        if len > 0 {
            (self.lens[k], self.more[k]) = (len, self.pieces_from(start));
        }
        Ok(len)
    }

    /// Whether no pieces and no descriptors were used yet beyond one a frame.
    pub(crate) fn is_untouched(&self) -> bool {
        self.pieces.is_empty() && self.budget.is_whole()
    }

    /// Frame `k` begins at `place`, which is behind the beginning of the piece that it was put
    /// with, by what its length leaves out.
    #[inline(always)]
    pub(crate) fn begin_at(&mut self, k: usize, place: Piece) {
        self.data[k] = place;
    }

    /// Copies what stands before frame `k` in its pieces into `header`, all of it, and lets the
    /// frame begin behind. False: some of that memory is gone, and the frame is to be refused.
    pub(crate) fn take_front(&mut self, k: usize, header: &mut [u8]) -> bool {
        let (start, n) = self.more[k];
        let (mut start, end) = (usize::from(start), usize::from(start + n));
        let mut at = 0;
        while at < header.len() && start < end && !damage::was_met() {
            let piece = self.pieces[start];
            let n = (piece.len() as usize).min(header.len() - at);
            piece.read(&mut header[at..], n);
            at += n;
            self.pieces[start] = piece.behind(n as u32);
            if n == piece.len() as usize {
                start += 1;
            }
        }
        if damage::was_met() {
            return false;
        }
        self.data[k] = self.pieces[start];
        self.more[k] = ((start + 1) as u16, (end - start - 1) as u16);
        true
    }

    /// Whether frame `k` lies in pieces that [`Burst::place_chain`] found.
    pub(crate) fn is_chain(&self, k: usize) -> bool {
        self.lens[k] > 0 && self.more(k).1 > 0
    }

    /// Frame `k` requests an offload.
    pub(crate) fn set_offload(&mut self, k: usize, offload: Offload) {
        self.offloads[k] = offload;
        self.with_offload |= 1 << k;
    }

    /// The offload that frame `k` requests, if any.
    pub(crate) fn offload(&self, k: usize) -> Option<Offload> {
        (self.with_offload >> k & 1 != 0).then_some(self.offloads[k])
    }

    /// The next queue may have no more descriptors read than that.
    pub(crate) fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// Refuses frame `k`, whose length is in the sum.
    pub(crate) fn refuse(&mut self, k: usize, reason: DropReason) {
        self.sum_bytes -= self.lens[k];
        self.note_refused(k, reason);
    }

    /// Refuses frame `k`, which was placed and is not put yet.
    pub(crate) fn note_refused(&mut self, k: usize, reason: DropReason) {
        self.lens[k] = 0;
        self.actions[k] = Action::Drop(reason);
        self.refused |= 1 << k;
    }

    /// Where the pieces from `start` on are, for `more`.
    fn pieces_from(&self, start: usize) -> (u16, u16) {
        (start as u16, (self.pieces.len() - start) as u16)
    }
}
