//! The copy into places that were reserved, one visit to each destination.
#![expect(clippy::cast_possible_truncation, reason = "numbers of queues")]

use arrayvec::ArrayVec;
use flowtable::Exit;

use super::sender::{OUTS_MAX, Out, Sender};
use crate::amount::Amount;
use crate::burst::{Burst, checksum};
use crate::port::views::TXQS_MAX;

impl Sender<'_> {
    /// Second pass: one visit to each destination.
    #[inline(always)]
    pub(crate) fn commit(
        &mut self,
        outs: &mut ArrayVec<Out<'_>, OUTS_MAX>,
        burst: &mut Burst,
        exit: Option<Exit>,
    ) {
        for out in outs.iter_mut() {
            self.slots[out.slot] = 0;
            out.lock.closes();
            if burst.with_offload & out.frames != 0 {
                fulfil(burst, out);
            }
            let tag = exit
                .filter(|exit| exit.port == out.port)
                .and_then(|exit| exit.vlan);
            let n_bytes = match self.faults.is_watching {
                false => out.queue.commit(burst, out.frames, tag),
                true => out.queue.commit_watched(
                    burst,
                    out.frames,
                    tag,
                    (out.port, self.faults),
                    self.now,
                ),
            };
            if out.queue.wants_flush() {
                let queue = (out.port, (out.slot % TXQS_MAX) as u16);
                // It may still be there, for frames that are out.
                if !self.flushes.contains(&queue) {
                    self.flushes.push(queue);
                }
            }
            if let Some((fault, n)) = out.queue.take_fault() {
                self.stats
                    .port(out.port)
                    .faulted(out.queue.index(), fault, n);
            }
            if out.frames != 0 {
                let n_frames = u64::from(out.frames.count_ones());
                self.stats.port(out.port).sent(n_frames, n_bytes);
                out.limit.settle(Amount { n_frames, n_bytes }, self.now);
            }
        }
    }
}

/// Does what the senders of these frames left to do, for a receiver that would not.
#[cold]
#[inline(never)]
fn fulfil(burst: &mut Burst, out: &Out<'_>) {
    let mut rest = if out.queue.does_offloads() {
        0
    } else {
        burst.with_offload & out.frames
    };
    while rest != 0 {
        checksum::complete(burst, rest.trailing_zeros() as usize);
        rest &= rest - 1;
    }
}
