//! Frames one behind the other in chunks: each a record of what is known of it, then its bytes.
//!
//! Records are at multiples of their own size, of which a chunk is one too, so none is torn; a
//! frame's bytes may go on in the next chunk. What is taken off at the head gives its chunks back
//! as it leaves them.
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in a chunk, and lengths of frames"
)]

use flowtable::HEADER_MAX;

use crate::amount::Allowance;
use crate::burst::{BURST_MAX, Burst, BurstWriter};
use crate::limit::chunks::{CHARGED, CHUNK_BYTES, Chain, Chunks, ROOM};
use crate::shm::Piece;
use crate::time::Nanos;
use crate::virtio_net::Offload;

/// Bytes of a record, and what the place of each is a multiple of.
const RECORD_BYTES: usize = 32;

/// What is known of a frame besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    len: u32,
    /// When it was put here.
    at: Nanos,
    offload: Option<Offload>,
}

impl Record {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.to_le_bytes());
        if let Some(offload) = self.offload {
            bytes[4] = 1;
            bytes[16..26].copy_from_slice(&offload.to_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let offload = (bytes[4] == 1).then(|| Offload::parse(word(16), word(24) as u16));
        Self {
            len: word(0) as u32,
            at: word(8),
            offload,
        }
    }

    /// Bytes that it and its frame take up.
    fn size(len: u32) -> usize {
        RECORD_BYTES + (len as usize).next_multiple_of(RECORD_BYTES)
    }
}

/// A place in the chunks of a queue. The end of a chunk means the beginning of the next.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    chunk: u32,
    at: usize,
}

impl Place {
    /// Goes on by `n` bytes; tells of each part of a chunk on the way. It ends in the chunk of the
    /// last byte.
    fn advance(
        &mut self,
        chunks: &Chunks,
        mut n: usize,
        mut part: impl FnMut(Piece),
        mut left: impl FnMut(u32),
    ) {
        while n > 0 {
            if self.at == CHUNK_BYTES {
                let next = chunks.next(self.chunk);
                left(self.chunk);
                *self = Self { chunk: next, at: 0 };
            }
            let here = n.min(CHUNK_BYTES - self.at);
            part(chunks.piece(self.chunk, self.at, here));
            self.at += here;
            n -= here;
        }
    }

    fn write(&mut self, chunks: &Chunks, mut bytes: &[u8]) {
        let n = bytes.len();
        let write = |part: Piece| {
            let (now, later) = bytes.split_at(part.len() as usize);
            part.write(now);
            bytes = later;
        };
        self.advance(chunks, n, write, |_| {});
    }

    fn write_piece(&mut self, chunks: &Chunks, mut piece: Piece) {
        let n = piece.len() as usize;
        let write = |part: Piece| {
            part.write_piece(piece.first(part.len()));
            piece = piece.behind(part.len());
        };
        self.advance(chunks, n, write, |_| {});
    }

    /// The record at this place, which moves behind it.
    fn read_record(&mut self, chunks: &Chunks, left: impl FnMut(u32)) -> Record {
        let mut bytes = [0; RECORD_BYTES];
        self.advance(
            chunks,
            RECORD_BYTES,
            |part| part.read(&mut bytes, RECORD_BYTES),
            left,
        );
        Record::from_bytes(&bytes)
    }
}

/// A queue of frames. Has no chunk while it is empty.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    head: Place,
    tail: Place,
    n_chunks: u32,
    n_frames: usize,
    n_bytes: u64,
    /// Bytes that the records and their frames take up.
    n_room: u64,
    /// Whose chunks it takes.
    is_local: bool,
}

/// What was taken off a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) n_frames: usize,
    pub(crate) n_bytes: u64,
}

impl Fifo {
    /// An empty one, for frames that could have stayed where they were, or not.
    pub(crate) fn new(is_local: bool) -> Self {
        Self {
            is_local,
            ..Self::default()
        }
    }

    /// Frames in it.
    pub(crate) fn n_frames(&self) -> usize {
        self.n_frames
    }

    /// Bytes that it counts as: those of its frames, but no less than two thirds of what they take
    /// up.
    pub(crate) fn n_charged(&self) -> u64 {
        self.n_bytes.max(self.n_room * CHARGED / ROOM)
    }

    /// Copies frame `k` behind the others; false, and nothing is changed: there are not enough
    /// chunks.
    pub(crate) fn push(&mut self, chunks: &Chunks, burst: &Burst, k: usize, now: Nanos) -> bool {
        let len = burst.lens[k];
        let room = if self.n_frames == 0 {
            0
        } else {
            CHUNK_BYTES - self.tail.at
        };
        let n_more = Record::size(len).saturating_sub(room).div_ceil(CHUNK_BYTES);
        if n_more > 0 && !self.grow(chunks, n_more as u32) {
            return false;
        }
        let offload = burst.offload(k);
        self.tail.write(
            chunks,
            &Record {
                len,
                at: now,
                offload,
            }
            .to_bytes(),
        );
        let in_header = len.min(HEADER_MAX as u32);
        self.tail
            .write(chunks, &burst.headers[k].0[..in_header as usize]);
        let (mut skip, mut left) = (in_header, len - in_header);
        burst.for_each_piece(k, |piece| {
            let here = skip.min(piece.len());
            skip -= here;
            let n = left.min(piece.len() - here);
            self.tail.write_piece(chunks, piece.behind(here).first(n));
            left -= n;
            left > 0
        });
        self.tail.at = self.tail.at.next_multiple_of(RECORD_BYTES);
        self.n_frames += 1;
        self.n_bytes += u64::from(len);
        self.n_room += Record::size(len) as u64;
        true
    }

    /// So many more chunks behind the last, or none at all.
    fn grow(&mut self, chunks: &Chunks, n: u32) -> bool {
        let Some(more) = chunks.take(n, self.is_local) else {
            return false;
        };
        if self.n_frames == 0 {
            let place = Place {
                chunk: more.first,
                at: 0,
            };
            (self.head, self.tail) = (place, place);
        } else {
            chunks.link(self.tail.chunk, more.first);
        }
        self.n_chunks += n;
        true
    }

    /// Shows the first frames in `burst`, as many as go into it and into `allowance`, the one that
    /// crosses it included. They stay here.
    pub(crate) fn peek(&self, chunks: &Chunks, burst: &mut Burst, allowance: Allowance) {
        let mut writer = BurstWriter::new(burst);
        let mut place = self.head;
        for k in 0..self.n_frames.min(BURST_MAX).min(allowance.n_frames) {
            if writer.n_bytes() >= allowance.n_bytes {
                break;
            }
            let record = place.read_record(chunks, |_| {});
            if !show(place, chunks, &mut writer, k, record) {
                break;
            }
            skip_frame(&mut place, chunks, record.len, |_| {});
        }
        writer.finish();
        burst.keep_within(allowance);
    }

    /// Takes the first `n` frames off.
    pub(crate) fn pop(&mut self, chunks: &Chunks, n: usize) -> Taken {
        if n >= self.n_frames {
            return self.clear(chunks);
        }
        let (first, mut left, mut n_bytes) = (self.head.chunk, None, 0);
        let mut n_left = 0;
        for _ in 0..n {
            let mut leave = |chunk| (left, n_left) = (Some(chunk), n_left + 1);
            let record = self.head.read_record(chunks, &mut leave);
            skip_frame(&mut self.head, chunks, record.len, &mut leave);
            n_bytes += u64::from(record.len);
            self.n_room -= Record::size(record.len) as u64;
        }
        self.n_frames -= n;
        self.n_bytes -= n_bytes;
        if let Some(last) = left {
            self.n_chunks -= n_left;
            chunks.give(
                Chain {
                    first,
                    last,
                    n: n_left,
                },
                self.is_local,
            );
        }
        Taken {
            n_frames: n,
            n_bytes,
        }
    }

    /// Takes all frames off, which costs the same however many they are.
    pub(crate) fn clear(&mut self, chunks: &Chunks) -> Taken {
        if self.n_frames > 0 {
            let all = Chain {
                first: self.head.chunk,
                last: self.tail.chunk,
                n: self.n_chunks,
            };
            chunks.give(all, self.is_local);
        }
        let before = std::mem::replace(self, Self::new(self.is_local));
        Taken {
            n_frames: before.n_frames,
            n_bytes: before.n_bytes,
        }
    }

    /// Since when its first frame is here.
    pub(crate) fn since(&self, chunks: &Chunks) -> Option<Nanos> {
        let mut head = self.head;
        (self.n_frames > 0).then(|| head.read_record(chunks, |_| {}).at)
    }
}

/// Passes the bytes of a frame, and what fills them up.
fn skip_frame(place: &mut Place, chunks: &Chunks, len: u32, left: impl FnMut(u32)) {
    place.advance(chunks, len as usize, |_| {}, left);
    place.at = place.at.next_multiple_of(RECORD_BYTES);
}

/// Shows a frame, whose bytes begin at `place`, as the burst's next; false: there is no room for
/// its pieces.
fn show(
    mut place: Place,
    chunks: &Chunks,
    writer: &mut BurstWriter<'_>,
    k: usize,
    record: Record,
) -> bool {
    let parts = |piece: &mut dyn FnMut(Piece)| {
        place.advance(chunks, record.len as usize, piece, |_| {});
    };
    if !writer.put_parts(k, record.len, parts) {
        return false;
    }
    writer.read_header(k);
    if let Some(offload) = record.offload {
        writer.set_offload(k, offload);
    }
    true
}

#[cfg(test)]
#[path = "fifo_tests.rs"]
mod tests;
