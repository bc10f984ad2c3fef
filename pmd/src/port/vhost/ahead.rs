//! Chains of a transmit virtqueue that are looked at before their turn: their headers alone, and
//! nothing is counted.
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in a burst, and lengths of 64 KiB at most"
)]

use flowtable::wire::header::ETHERNET_LEN;

use super::rx::{FRAME_MAX, VhostRx};
use crate::burst::{BURST_MAX, Burst, BurstWriter};
use crate::error::GuestFault;
use crate::shm::damage;

impl VhostRx {
    /// Chains that wait from the base on; none if the guest's index means nothing.
    pub(crate) fn n_waiting(&self) -> u16 {
        if self.stopped_for().is_some() {
            0
        } else {
            self.ring.n_waiting()
        }
    }

    /// Looks at the `n` chains `from` behind the base, a burst at most; fewer if they have too many
    /// descriptors. A broken one has no bytes.
    pub(crate) fn peek_ahead(&mut self, from: u16, n: usize, burst: &mut Burst) {
        damage::forget();
        let n = if self.ring.is_damaged() {
            0
        } else {
            n.min(BURST_MAX)
        };
        let mut writer = BurstWriter::new(burst);
        self.ring.prefetch_descriptors(from, n as u16);
        for k in 0..n {
            let head = self.ring.head(from.wrapping_add(k as u16));
            if head >= self.ring.size()
                || !self.find_ahead(&mut writer, k, head)
                || damage::was_met()
            {
                break;
            }
        }
        for k in 0..writer.finish() {
            if damage::was_met() {
                return burst.clear();
            }
            if burst.data[k].len() == 0 {
                self.read_chain_header(burst, k);
                continue;
            }
            burst.begin_at(k, burst.data[k].behind(self.header_len));
            burst.read_header(k);
        }
    }

    /// Where the frame of a chain is. False: the burst has no room for it.
    fn find_ahead(&mut self, writer: &mut BurstWriter<'_>, k: usize, head: u16) -> bool {
        let descriptor = self.ring.descriptor(head);
        let len = descriptor.len.wrapping_sub(self.header_len);
        if descriptor.flags == 0
            && (ETHERNET_LEN..=FRAME_MAX).contains(&len)
            && let Some(piece) = self.ring.piece(descriptor.addr, descriptor.len)
        {
            piece.behind(self.header_len).prefetch();
            writer.put(k, piece, len);
            return true;
        }
        let is_first = writer.burst().is_untouched();
        let walked = self.walk(writer.burst(), k, head);
        if walked == Err(GuestFault::ChainTooLong) && !is_first {
            return false;
        }
        writer.put_placed(k);
        true
    }
}
