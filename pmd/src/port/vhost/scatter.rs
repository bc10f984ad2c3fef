//! Frames in several pieces, or into several: whatever is not one buffer to one buffer.
#![expect(clippy::cast_possible_truncation, reason = "lengths of 64 KiB at most")]

use arrayvec::ArrayVec;
use flowtable::HEADER_MAX;

use super::tx::VhostTx;
use crate::burst::Burst;
use crate::ring::{PIECES_MAX, SplitRing};
use crate::shm::{Piece, damage};
use crate::virtio_net::HEADER_LEN;

/// Bytes to be sent: out of private memory, or straight out of a guest's.
#[derive(Clone, Copy)]
enum Chunk<'a> {
    Private(&'a [u8]),
    Guest(Piece),
}

/// What a frame consists of on its way out: virtio-net header, private header, then the pieces
/// behind it.
struct Gather<'a> {
    chunks: ArrayVec<Chunk<'a>, { PIECES_MAX + 3 }>,
    at: usize,
}

impl<'a> Gather<'a> {
    fn new(net_header: &'a [u8], burst: &'a Burst, k: usize) -> Self {
        let in_header = burst.lens[k].min(HEADER_MAX as u32);
        let mut gather = Self {
            chunks: ArrayVec::new(),
            at: 0,
        };
        gather.chunks.push(Chunk::Private(net_header));
        gather
            .chunks
            .push(Chunk::Private(&burst.headers[k].0[..in_header as usize]));
        let mut skip = in_header;
        burst.for_each_piece(k, |piece| {
            let here = skip.min(piece.len());
            skip -= here;
            if here < piece.len() {
                gather.chunks.push(Chunk::Guest(piece.behind(here)));
            }
            true
        });
        gather
    }

    /// Fills `to`, memory of `ring`'s guest, from the front of what is left, as far as that goes;
    /// what can't be read counts as zeros, and where nothing can be written, nothing is.
    fn fill(&mut self, mut to: Piece, ring: &SplitRing) {
        while to.len() > 0 && self.at < self.chunks.len() {
            let is_gone = damage::was_met();
            if is_gone && ring.is_damaged() {
                return;
            }
            let chunk = &mut self.chunks[self.at];
            let (n, is_used_up) = match chunk {
                Chunk::Private(bytes) => {
                    let (now, later) = bytes.split_at(bytes.len().min(to.len() as usize));
                    to.write(now);
                    *bytes = later;
                    (now.len() as u32, later.is_empty())
                }
                Chunk::Guest(piece) => {
                    let n = piece.len().min(to.len());
                    to.write_piece(if is_gone {
                        damage::zeros(n)
                    } else {
                        piece.first(n)
                    });
                    *piece = piece.behind(n);
                    (n, piece.len() == 0)
                }
            };
            to = to.behind(n);
            self.at += usize::from(is_used_up);
        }
    }
}

impl VhostTx {
    /// Puts frame `k` into the buffers from `at` on, the broken ones before them given back empty;
    /// gives the place behind.
    #[inline(never)]
    pub(super) fn put_parts(&mut self, burst: &Burst, k: usize, mut at: u16) -> u16 {
        while self.room(self.slot(at)) == 0 {
            let slot = self.slot(at);
            self.stash.written[slot] = 0;
            at += 1;
        }
        let mut left = burst.lens[k] + self.header_len;
        let n_buffers = self.n_buffers(at, left);
        let mut net_header = [0u8; HEADER_LEN as usize];
        if let Some(offload) = burst.offload(k) {
            net_header[..10].copy_from_slice(&offload.to_bytes());
        }
        net_header[10..].copy_from_slice(&n_buffers.to_le_bytes());
        let mut gather = Gather::new(&net_header[..self.header_len as usize], burst, k);
        for at in at..at + n_buffers {
            let slot = self.slot(at);
            let here = self.room(slot).min(left);
            self.fill_buffer(slot, here, &mut gather);
            self.stash.written[slot] = here;
            left -= here;
        }
        at + n_buffers
    }

    /// How many buffers from `at` on hold `n_bytes`; as many were set aside.
    fn n_buffers(&self, at: u16, n_bytes: u32) -> u16 {
        let (mut n, mut room) = (0, 0);
        while room < n_bytes {
            room = self.room(self.slot(at + n)).saturating_add(room);
            n += 1;
        }
        n
    }

    fn fill_buffer(&self, slot: usize, n_bytes: u32, gather: &mut Gather<'_>) {
        let whole = self.stash.pieces[slot];
        if whole.len() > 0 {
            return gather.fill(whole.first(n_bytes), &self.ring);
        }
        let mut left = n_bytes;
        let (start, n) = self.stash.more[slot];
        for piece in &self.stash.chains[usize::from(start)..usize::from(start) + usize::from(n)] {
            let here = piece.len().min(left);
            gather.fill(piece.first(here), &self.ring);
            left -= here;
        }
    }
}
