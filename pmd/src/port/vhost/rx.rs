//! Chains of a guest's transmit virtqueue to frames of a burst.
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in a burst, and lengths of 64 KiB at most"
)]

use std::sync::Arc;

use flowtable::wire::header::ETHERNET_LEN;
use flowtable::{DropReason, HEADER_MAX};

use super::features::Features;
use crate::amount::Allowance;
use crate::burst::{BURST_BYTES_MAX, BURST_MAX, Burst, BurstWriter};
use crate::error::{Grade, GuestFault, SetupError};
use crate::ring::{QueueSpec, SplitRing};
use crate::shm::{GuestMemory, damage};
use crate::stats::PortStats;
use crate::virtio_net::{HEADER_LEN, HEADER_LEN_LEGACY, Offload, read_net_header};

/// The longest frame that any network carries: an MTU of 9,000, the Ethernet header and two tags.
pub(super) const FRAME_MAX: u32 = 9022;

/// A guest's transmit virtqueue.
#[derive(Debug)]
pub struct VhostRx {
    pub(crate) ring: SplitRing,
    pub(super) header_len: u32,
    stopped: Option<GuestFault>,
    /// Chains from the ring's base on whose faults are counted: one that waits is looked at more
    /// than once.
    n_counted: u16,
}

impl VhostRx {
    pub(crate) fn new(
        memory: Arc<GuestMemory>,
        spec: &QueueSpec,
        features: Features,
    ) -> Result<Self, SetupError> {
        let ring = SplitRing::new(memory, spec, features.ring)?;
        Ok(Self {
            ring,
            header_len: features.header_len,
            stopped: None,
            n_counted: 0,
        })
    }

    pub(crate) fn stopped_for(&self) -> Option<GuestFault> {
        self.stopped
    }

    pub(crate) fn index(&self) -> u16 {
        self.ring.index()
    }

    pub(crate) fn base(&self) -> u16 {
        self.ring.base()
    }

    /// Looks at chains of the available ring, oldest first, and puts them into `burst` until it is
    /// full or `allowance` is crossed.
    ///
    /// Copies the first [`flowtable::HEADER_MAX`] bytes of each frame; the payload stays in guest
    /// memory, the chain in the ring until [`VhostRx::consume`]. A chain that breaks a rule takes a
    /// place of its own, refused, so that order is kept. Shape: `burst.n` frames in ring order.
    /// Cost: an acquire load at most, and one read of each descriptor.
    ///
    /// Source: VIRTIO 1.2, 2.7.13 and 5.1.6.2.
    #[inline]
    pub(crate) fn peek(
        &mut self,
        burst: &mut Burst,
        allowance: Allowance,
        stats: &PortStats,
    ) -> usize {
        if self.stopped.is_some() {
            return 0;
        }
        if self.ring.is_damaged() {
            return self.stop(GuestFault::MemoryGone, stats);
        }
        let n = match self.ring.available(0, BURST_MAX as u16) {
            Ok(0) => return 0,
            Ok(n) => usize::from(n).min(BURST_MAX).min(allowance.n_frames),
            Err(fault) => return self.stop(fault, stats),
        };
        let n_bytes = allowance.n_bytes.min(BURST_BYTES_MAX);
        self.read_descriptors(burst, n, n_bytes, stats);
        if !self.read_headers(burst) {
            burst.clear();
            return self.stop(GuestFault::MemoryGone, stats);
        }
        burst.keep_within(allowance);
        burst.n
    }

    /// First pass: where the frames are. Their first lines are asked for while the next descriptors
    /// are read.
    #[inline(always)]
    fn read_descriptors(
        &mut self,
        burst: &mut Burst,
        n_max: usize,
        n_bytes_max: u32,
        stats: &PortStats,
    ) {
        let mut writer = BurstWriter::new(burst);
        self.ring.prefetch_descriptors(0, n_max as u16);
        let header_len = self.header_len;
        for k in 0..n_max {
            let head = self.ring.head(k as u16);
            if head >= self.ring.size() {
                // What came before it goes first.
                if k == 0 {
                    self.stop(GuestFault::HeadOutOfRange, stats);
                }
                break;
            }
            writer.set_id(k, head);
            let descriptor = self.ring.descriptor(head);
            let len = descriptor.len.wrapping_sub(header_len);
            let piece = match descriptor.flags {
                0 if len <= FRAME_MAX => self.ring.piece(descriptor.addr, descriptor.len),
                _ => None,
            };
            match piece {
                Some(piece) => {
                    // Two lines where the virtio-net header ends one, as DPDK lays it out, else the
                    // same one twice.
                    piece.prefetch();
                    piece.behind(header_len).prefetch();
                    writer.put(k, piece, len);
                }
                None if !self.read_chain(writer.burst(), k, head, stats) => break,
                None => writer.put_placed(k),
            }
            if writer.n_bytes() >= n_bytes_max {
                break;
            }
        }
        writer.finish();
    }

    /// A chain that is not one plain descriptor. False: the burst has no room for it, or its memory
    /// is not to be touched yet; it has to be the first of the next.
    #[cold]
    #[inline(never)]
    fn read_chain(&mut self, burst: &mut Burst, k: usize, head: u16, stats: &PortStats) -> bool {
        let is_first = burst.is_untouched();
        let walked = self.walk(burst, k, head);
        if damage::was_met() {
            return false;
        }
        match walked {
            // A frame of no bytes at all.
            Ok(0) => burst.note_refused(k, DropReason::Runt),
            Ok(_) => {}
            Err(_) if self.ring.waits => {
                let n_known = self.ring.available(k as u16, 0).unwrap_or(0);
                self.ring.ask_ahead(k as u16, n_known.min(BURST_MAX as u16));
                return false;
            }
            Err(GuestFault::ChainTooLong) if !is_first => return false,
            Err(GuestFault::TooShort) => burst.note_refused(k, DropReason::Runt),
            Err(fault) => {
                if k as u16 >= self.n_counted {
                    self.n_counted = k as u16 + 1;
                    stats.faulted(self.ring.index(), fault, 1);
                }
                burst.note_refused(k, DropReason::BadChain);
            }
        }
        true
    }

    /// Walks the chain at `head` for frame `k`; gives the frame's bytes.
    ///
    /// # Errors
    /// As [`SplitRing::walk`]; and [`GuestFault::TooShort`] if not even a virtio-net header fits.
    pub(super) fn walk(
        &mut self,
        burst: &mut Burst,
        k: usize,
        head: u16,
    ) -> Result<u32, GuestFault> {
        let (ring, header_len) = (&mut self.ring, self.header_len);
        burst.place_chain(k, |pieces, budget| {
            let n_bytes = ring.walk(head, false, pieces, budget)?;
            n_bytes.checked_sub(header_len).ok_or(GuestFault::TooShort)
        })
    }

    /// Second pass: the virtio-net headers and the private headers, out of lines that are on their
    /// way by now. False: some of that memory is gone.
    #[inline(always)]
    fn read_headers(&mut self, burst: &mut Burst) -> bool {
        let header_len = self.header_len;
        for k in 0..burst.n.min(BURST_MAX) {
            if damage::was_met() {
                return false;
            }
            let place = burst.data[k];
            // What has a place has all of its frame there, behind the virtio-net header.
            if place.len() < HEADER_LEN_LEGACY {
                self.read_chain_header(burst, k);
                continue;
            }
            let (first, then) = read_net_header(place);
            let frame = place.behind(header_len);
            burst.begin_at(k, frame);
            if frame.len() < ETHERNET_LEN {
                burst.refuse(k, DropReason::Runt);
                continue;
            }
            frame.read(
                &mut burst.headers[k].0,
                (frame.len() as usize).min(HEADER_MAX),
            );
            if first & 0xff01 != 0 {
                Self::read_offload(burst, k, first, then);
            }
        }
        !damage::was_met()
    }

    /// The offload that the frame requests. Nothing of the kind is negotiated yet, so any request
    /// is a mistake.
    #[cold]
    fn read_offload(burst: &mut Burst, k: usize, first: u64, then: u16) {
        let offload = Offload::parse(first, then);
        burst.set_offload(k, offload);
        if !offload.is_empty() {
            burst.refuse(k, DropReason::BadOffload);
        }
    }

    /// The same for a chain: its virtio-net header may lie in several pieces, and the frame begins
    /// behind it.
    #[cold]
    #[inline(never)]
    pub(super) fn read_chain_header(&mut self, burst: &mut Burst, k: usize) {
        if !burst.is_chain(k) {
            return;
        }
        let mut header = [0u8; HEADER_LEN as usize];
        if !burst.take_front(k, &mut header[..self.header_len as usize]) {
            return burst.refuse(k, DropReason::BadChain);
        }
        if burst.lens[k] < ETHERNET_LEN {
            return burst.refuse(k, DropReason::Runt);
        }
        burst.read_header(k);
        let [a, b, c, d, e, f, g, h, i, j, _, _] = header;
        let first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        if first & 0xff01 != 0 {
            Self::read_offload(burst, k, first, u16::from_le_bytes([i, j]));
        }
    }

    /// Gives the first `n` chains of the burst back, and calls the guest if it requested that.
    #[inline]
    pub(crate) fn consume(&mut self, burst: &Burst, n: usize) {
        let n = n.min(BURST_MAX);
        self.n_counted = self.n_counted.saturating_sub(n as u16);
        self.ring
            .put_used_run(0, &burst.ids[..n], &[0; BURST_MAX][..n]);
        self.ring.publish(n as u16);
        self.ring.call_if_wanted();
    }

    #[cold]
    fn stop(&mut self, fault: GuestFault, stats: &PortStats) -> usize {
        debug_assert!(fault.grade() >= Grade::StopQueue);
        self.stopped = Some(fault);
        self.ring.report_error();
        stats.faulted(self.ring.index(), fault, 1);
        0
    }

    /// Whether the next chain waits until its memory may be touched, as far as was seen since this
    /// was asked before.
    pub(crate) fn takes_wait(&mut self) -> bool {
        std::mem::take(&mut self.ring.waits)
    }

    /// Whether chains wait, read anew.
    pub(crate) fn has_more(&self) -> bool {
        self.stopped.is_none() && self.ring.has_more()
    }
}
