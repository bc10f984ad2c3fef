//! Frames on their way: what one receive queue had, up to [`BURST_MAX`], until all of it is sent or
//! left where it was.
//!
//! Arrays, one per question, since each stage asks one question of all frames. The payload stays
//! where it arrived; only the first [`flowtable::HEADER_MAX`] bytes are copied, decided by, and
//! sent from the copy.
#![expect(
    clippy::cast_possible_truncation,
    reason = "lengths of headers and tags"
)]

use arrayvec::ArrayVec;
use flowtable::wire::header::{ETHERNET_LEN, TAG_LEN};
use flowtable::{Action, DropReason, HEADER_MAX, Header, PortId};

use crate::amount::{Allowance, Amount};
use crate::ring::chain::{Budget, Pieces};
use crate::shm::{Piece, damage};
use crate::virtio_net::{Offload, becomes};

pub use crate::ring::BURST_MAX;

/// Bytes in a burst; the frame that crosses it is still taken.
pub const BURST_BYTES_MAX: u32 = 256 << 10;
/// Bytes that the floods of a burst may copy.
pub const COPIED_BYTES_MAX: usize = 256 << 10;
/// Copies that the floods of a burst may make.
pub const COPIES_MAX: usize = 512;

/// One burst. Valid between a queue's peek and its consume, which happen in one call of the loop;
/// the pieces lead into memory which that queue keeps.
#[derive(Debug)]
pub struct Burst {
    pub(crate) headers: [Header; BURST_MAX],
    /// Bytes of the frame, without FCS; 0: refused, the action says why.
    pub(crate) lens: [u32; BURST_MAX],
    /// The sum of `lens`, over the frames that are there: added up where they are walked anyway.
    pub(crate) sum_bytes: u32,
    pub(crate) actions: [Action; BURST_MAX],
    /// The frame from its first byte on, as far as it lies in one piece.
    pub(crate) data: [Piece; BURST_MAX],
    /// Where in `pieces` the rest of it is: start and number. Means something only in a burst that
    /// is not plain.
    pub(crate) more: [(u16, u16); BURST_MAX],
    /// Every frame lies in one piece, as most do.
    pub(crate) is_plain: bool,
    /// Means something only for frames that are in `with_offload`.
    pub(crate) offloads: [Offload; BURST_MAX],
    /// Frames that request an offload, a bit each.
    pub(crate) with_offload: u32,
    /// Frames that were refused, a bit each.
    pub(crate) refused: u32,
    /// Frames whose outer tag was taken off, a bit each.
    pub(crate) popped: u32,
    /// What the queue needs to give the frame back.
    pub(crate) ids: [u16; BURST_MAX],
    pub(crate) pieces: Pieces,
    pub(crate) budget: Budget,
    pub(crate) n: usize,
}

impl Default for Burst {
    fn default() -> Self {
        Self {
            headers: [Header::default(); BURST_MAX],
            lens: [0; BURST_MAX],
            sum_bytes: 0,
            actions: [Action::Flood(0); BURST_MAX],
            data: [Piece::EMPTY; BURST_MAX],
            more: [(0, 0); BURST_MAX],
            is_plain: true,
            offloads: [Offload::default(); BURST_MAX],
            with_offload: 0,
            refused: 0,
            popped: 0,
            ids: [0; BURST_MAX],
            pieces: ArrayVec::new_const(),
            budget: Budget::default(),
            n: 0,
        }
    }
}

impl Burst {
    /// Empties it for the next queue.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        (
            self.n,
            self.sum_bytes,
            self.with_offload,
            self.refused,
            self.popped,
        ) = (0, 0, 0, 0, 0);
        if !self.is_plain {
            self.is_plain = true;
            self.pieces.clear();
            self.budget = Budget::default();
        }
    }

    /// Some frames may lie in several pieces from now on.
    pub(super) fn set_not_plain(&mut self) {
        if self.is_plain {
            self.is_plain = false;
            self.more = [(0, 0); BURST_MAX];
        }
    }

    /// Where in `pieces` the rest of frame `k` is.
    #[inline(always)]
    pub(crate) fn more(&self, k: usize) -> (u16, u16) {
        if self.is_plain { (0, 0) } else { self.more[k] }
    }

    /// How many frames from `k` on have the same action.
    #[inline(always)]
    pub(crate) fn n_alike(&self, k: usize) -> usize {
        let actions = &self.actions[k..self.n];
        let first = actions[0];
        actions
            .iter()
            .position(|&action| action != first)
            .unwrap_or(actions.len())
    }

    /// The one port that frame `k` goes to.
    #[cold]
    pub(crate) fn port_of(&self, k: usize) -> Option<PortId> {
        if let Action::Unicast(port) = self.actions[k] {
            Some(port)
        } else {
            None
        }
    }

    /// Frame `k` is one of so many bytes.
    #[cfg(test)]
    pub(crate) fn add_len(&mut self, k: usize, len: u32) {
        self.lens[k] = len;
        self.sum_bytes += len;
    }

    /// Decides that every frame is dropped for this reason, but for those that were refused
    /// already. They keep their lengths: their bytes count.
    #[cold]
    #[inline(never)]
    pub(crate) fn discard(&mut self, reason: DropReason) {
        for k in 0..self.n {
            if self.refused & 1 << k == 0 {
                self.actions[k] = Action::Drop(reason);
            }
        }
    }

    /// Bytes of the first `n` frames as they came, tags that were taken off included.
    #[inline(always)]
    pub(crate) fn n_bytes(&self, n: usize) -> u64 {
        let n_popped = (u64::from(self.popped) & ((1 << n) - 1)).count_ones();
        self.sum(0, n) + u64::from(n_popped * TAG_LEN)
    }

    /// Bytes of `n` frames from `k` on, which most of the time are all.
    #[inline(always)]
    fn sum(&self, k: usize, n: usize) -> u64 {
        if n != self.n {
            return self.sum_of_some(k, n);
        }
        debug_assert_eq!(
            u64::from(self.sum_bytes),
            self.sum_of_some(k, n),
            "a length was not counted"
        );
        self.sum_bytes.into()
    }

    #[cold]
    #[inline(never)]
    fn sum_of_some(&self, k: usize, n: usize) -> u64 {
        self.lens[k..k + n].iter().map(|&len| u64::from(len)).sum()
    }

    /// Takes the outer tag off every frame that goes on and has one that was decided without: of a
    /// trunk's any, for what the wire says is for that side of it only; of others one that says a
    /// priority alone. The payload stays where it is, its beginning moves.
    pub(crate) fn pop_tags(&mut self, is_trunk: bool) {
        for k in 0..self.n {
            let header = &self.headers[k];
            let is_popped = if is_trunk {
                header.is_tagged()
            } else {
                header.is_priority_tagged(self.lens[k] as usize)
            };
            if is_popped && !matches!(self.actions[k], Action::Drop(_)) {
                self.pop_tag(k);
            }
        }
    }

    fn pop_tag(&mut self, k: usize) {
        const TAG: usize = TAG_LEN as usize;
        const LAST: usize = HEADER_MAX - TAG;
        self.skip(k, TAG_LEN);
        self.lens[k] -= TAG_LEN;
        self.headers[k].0.copy_within(12 + TAG.., 12);
        let n_more = (self.lens[k] as usize).saturating_sub(LAST).min(TAG);
        if n_more > 0 {
            self.read_header_from(k, LAST, LAST + n_more);
        }
        self.sum_bytes -= TAG_LEN;
        self.offloads[k].csum_start = self.offloads[k].csum_start.saturating_sub(TAG as u16);
        self.popped |= 1 << k;
    }

    /// Writes frame `k` to where it leaves by, with this tag if one is given; gives its bytes
    /// there. `to` has room for them.
    #[inline]
    pub(crate) fn write_frame(&self, k: usize, to: Piece, tag: Option<u16>) -> u32 {
        let len = self.lens[k];
        let in_header = len.min(HEADER_MAX as u32);
        let header = &self.headers[k].0[..in_header as usize];
        let rest = match tag {
            None => {
                to.write(header);
                to.behind(in_header)
            }
            Some(vlan) => {
                let [hi, lo] = vlan.to_be_bytes();
                to.write(&header[..12]);
                to.behind(12).write(&[0x81, 0, hi, lo]);
                to.behind(12 + TAG_LEN).write(&header[12..]);
                to.behind(in_header + TAG_LEN)
            }
        };
        if len > in_header {
            self.write_rest(k, in_header, rest);
        }
        len + if tag.is_some() { TAG_LEN } else { 0 }
    }

    /// What of frame `k` lies behind its private header.
    fn write_rest(&self, k: usize, mut skip: u32, mut to: Piece) {
        let mut left = self.lens[k] - skip;
        self.for_each_piece(k, |piece| {
            let here = skip.min(piece.len());
            let (piece, n) = (piece.behind(here), left.min(piece.len() - here));
            skip -= here;
            to.write_piece(piece.first(n));
            to = to.behind(n);
            left -= n;
            left > 0
        });
    }

    /// Copies the frames to `memory`, as far as they fit, and has them lie there from now on. The
    /// caller keeps it where it is for as long as the burst is used.
    #[cold]
    pub(crate) fn move_to(&mut self, memory: &mut [u8]) {
        let mut room = Piece::of_private(memory);
        for k in 0..self.n {
            let len = self.lens[k];
            if len > room.len() {
                return;
            }
            self.write_rest(k, 0, room);
            self.data[k] = room.first(len);
            if !self.is_plain {
                self.more[k] = (0, 0);
            }
            room = room.behind(len);
        }
    }

    /// What `n` frames from `k` on count against a limit: those that ask for segmentation what they
    /// become.
    #[inline(always)]
    pub(crate) fn amount(&self, k: usize, n: usize) -> Amount {
        match self.with_offload {
            0 => Amount {
                n_frames: n as u64,
                n_bytes: self.sum(k, n),
            },
            _ => self.amount_with_offload(k, n),
        }
    }

    /// What the first `n` frames count against the limit of their sender: one that was refused has
    /// no bytes, yet was work, and counts as the shortest there is.
    #[inline(always)]
    pub(crate) fn amount_taken(&self, n: usize) -> Amount {
        let n_refused = (u64::from(self.refused) & ((1 << n) - 1)).count_ones();
        let Amount { n_frames, n_bytes } = self.amount(0, n);
        Amount {
            n_frames,
            n_bytes: n_bytes + u64::from(n_refused * ETHERNET_LEN),
        }
    }

    #[cold]
    fn amount_with_offload(&self, k: usize, n: usize) -> Amount {
        let mut amount = Amount::default();
        for k in k..k + n {
            let frame = match self.with_offload >> k & 1 {
                0 => Amount {
                    n_frames: 1,
                    n_bytes: self.lens[k].into(),
                },
                _ => becomes(self.lens[k], &self.offloads[k], &self.headers[k].0),
            };
            amount.n_frames += frame.n_frames;
            amount.n_bytes += frame.n_bytes;
        }
        amount
    }

    /// How many of the `n` frames from `k` on go until `allowance` is used up, the one that crosses
    /// it included. What a frame becomes counts, in packets as in bytes.
    #[cold]
    #[inline(never)]
    pub(crate) fn n_within(&self, k: usize, n: usize, allowance: Allowance) -> usize {
        let mut sum = Amount::default();
        let fits = |k: &usize| {
            let fits =
                sum.n_frames < allowance.n_frames as u64 && sum.n_bytes < allowance.n_bytes.into();
            let frame = self.amount(*k, 1);
            sum.n_frames += frame.n_frames;
            sum.n_bytes += frame.n_bytes;
            fits
        };
        (k..k + n).take_while(fits).count()
    }

    /// Leaves frames where they are that go beyond `allowance`. It was kept as to what the frames
    /// are; some become more.
    #[inline(always)]
    pub(crate) fn keep_within(&mut self, allowance: Allowance) {
        if self.with_offload != 0 {
            self.n = self.n_within(0, self.n, allowance);
            self.sum_bytes = self.lens[..self.n].iter().sum();
        }
    }

    /// Copies frame `k`'s header out of the memory it arrived in.
    #[inline(always)]
    pub(crate) fn read_header(&mut self, k: usize) {
        let n = (self.lens[k] as usize).min(HEADER_MAX);
        if self.data[k].len() as usize >= n {
            self.data[k].read(&mut self.headers[k].0, n);
        } else {
            self.read_header_in_parts(k, n);
        }
    }

    #[cold]
    fn read_header_in_parts(&mut self, k: usize, n: usize) {
        self.read_header_from(k, 0, n);
    }

    /// Copies bytes `from..to` of frame `k`, at most its header's and its length, out of the memory
    /// it arrived in.
    fn read_header_from(&mut self, k: usize, from: usize, to: usize) {
        let (mut skip, mut at) = (from as u32, from);
        for_each_piece(self.data[k], self.more(k), &self.pieces, |piece| {
            let before = skip.min(piece.len());
            skip -= before;
            let piece = piece.behind(before);
            let here = (piece.len() as usize).min(to - at);
            piece.read(&mut self.headers[k].0[at..], here);
            at += here;
            at < to
        });
    }

    /// Frame `k` begins `n` bytes further on, `n` being at most its length.
    fn skip(&mut self, k: usize, mut n: u32) {
        let (mut start, mut n_more) = self.more(k);
        while n > self.data[k].len() && n_more > 0 {
            n -= self.data[k].len();
            self.data[k] = self.pieces[usize::from(start)];
            (start, n_more) = (start + 1, n_more - 1);
        }
        self.data[k] = self.data[k].behind(n.min(self.data[k].len()));
        if !self.is_plain {
            self.more[k] = (start, n_more);
        }
    }

    /// Calls `visit` for each piece of frame `k`, until it says no.
    #[inline]
    pub(crate) fn for_each_piece(&self, k: usize, visit: impl FnMut(Piece) -> bool) {
        for_each_piece(self.data[k], self.more(k), &self.pieces, visit);
    }
}

fn for_each_piece(
    first: Piece,
    more: (u16, u16),
    pieces: &Pieces,
    mut visit: impl FnMut(Piece) -> bool,
) {
    let (start, n) = (usize::from(more.0), usize::from(more.1));
    // Behind one that is gone others may be too, each of which would cost a signal.
    let mut visit = |piece: Piece| {
        visit(if damage::was_met() {
            damage::zeros(piece.len())
        } else {
            piece
        })
    };
    if visit(first) {
        let _ = pieces[start..start + n].iter().all(|&piece| visit(piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_were_moved_are_what_they_were_whatever_becomes_of_where_they_lay() {
        let mut sender: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
        let as_sent = sender.clone();
        let (first, rest) = sender.split_at_mut(600);
        let (first, rest) = (Piece::of_private(first), Piece::of_private(rest));
        let mut burst = Burst {
            n: 3,
            ..Burst::default()
        };
        burst.set_not_plain();
        // In one piece; refused; in two pieces.
        for (k, len) in [(0, 200), (1, 0), (2, 800)] {
            burst.add_len(k, len);
        }
        burst.data = [Piece::EMPTY; BURST_MAX];
        (burst.data[0], burst.data[2]) = (first.first(200), first.behind(200));
        burst.pieces.push(rest);
        burst.more[2] = (0, 1);
        (0..3).for_each(|k| burst.read_header(k));
        let mut own = vec![1; 1000];
        burst.move_to(&mut own);
        sender.fill(0xee);
        let mut to = [0; 1000];
        for (k, from, len) in [(0, 0, 200), (2, 200, 800)] {
            assert_eq!(burst.write_frame(k, Piece::of_private(&mut to), None), len);
            let sent = &as_sent[from..from + len as usize];
            assert_eq!(&to[..len as usize], sent, "frame {k}");
        }
    }

    #[test]
    fn frames_beyond_the_room_there_is_stay_where_they_are() {
        let mut sender = [7_u8; 300];
        let frame = Piece::of_private(&mut sender);
        let mut burst = Burst {
            n: 2,
            ..Burst::default()
        };
        for k in 0..2 {
            burst.add_len(k, 150);
            burst.data[k] = frame.behind(150 * k as u32).first(150);
        }
        let mut own = [0_u8; 200];
        let room = own.as_ptr() as usize;
        burst.move_to(&mut own);
        assert_eq!(burst.data[0].addr(), room);
        assert_eq!(burst.data[1].addr(), frame.addr() + 150);
    }
}
