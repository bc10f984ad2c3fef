//! The driver's half of a virtio-net device in plain memory: no socket, no thread, no clock. Sends
//! and receives frames through split virtqueues, and *checks the device*: each buffer comes back
//! once, guards and bytes past the used length stay untouched, transmit buffers aren't written to,
//! headers and merged buffers are as VIRTIO wants. A device that breaks a rule makes it panic with
//! a diagnosis.
//!
//! Names are the guest's: `send` and `recv` on queue pair `pair`; ring-level calls take a virtqueue
//! index as vhost-user counts them: `2 * pair` receives, `2 * pair + 1` transmits.
//!
//! ```
//! use guest::device::NaiveDevice;
//! use guest::{GuestDriver, Options};
//!
//! let mut driver = GuestDriver::new(Options::default()).unwrap();
//! driver.post_rx(0);                                        // all receive buffers
//! assert!(driver.send(0, &[0x55; 60]));
//! // Or weir's ring, on `driver.memory()` and `driver.vring_uva(1)`.
//! let mut device = NaiveDevice::new(&driver);
//! let frame = device.receive(0).unwrap();
//! device.deliver(0, &frame);
//! assert_eq!(driver.reclaim_tx(0), 1);
//! assert_eq!(driver.recv(0).unwrap(), [0x55; 60]);
//! driver.assert_intact();
//! ```

mod places;

use std::io;
use std::sync::Arc;

use crate::arena::Arena;
use crate::buffers::{GUARD_BYTES, Pool};
use crate::header::NetHeader;
use crate::memory::{GuestMemory, to_usize};
use crate::options::{Indirect, Options, feature};
use crate::ring::{DriverRing, Part, RAW_TOKEN, RingAddresses, RingConfig, Used};
use places::{
    guard_bytes, place_parts, place_ring, ring_size, rx_parts, rx_stride, tx_stride, written_parts,
};

/// Entries of an indirect table: enough for any chain of `Options` and for the usual chain of a
/// test.
const TABLE_ENTRIES: usize = 20;

/// What went through, counted from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Chains made available for transmission.
    pub tx_chains: u64,
    /// Of these, those that came back.
    pub tx_done: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Their bytes, without headers.
    pub rx_bytes: u64,
    /// Receive buffers made available.
    pub rx_posted: u64,
    /// Of these, those that came back.
    pub rx_done: u64,
    /// Of these, those that came back with length 0: refused by the device.
    pub rx_refused: u64,
    /// Frames of more than one buffer.
    pub rx_merged: u64,
    /// Raw chains that came back, either direction.
    pub raw_done: u64,
}

/// A received frame with what came before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The header; `num_buffers` 1 for a legacy driver.
    pub header: NetHeader,
    /// The Ethernet frame.
    pub frame: Vec<u8>,
}

/// A virtqueue without its driver: see [`GuestDriver::take_over`].
#[derive(Debug)]
pub struct RawQueue {
    /// The memory that all addresses are in.
    pub memory: Arc<GuestMemory>,
    /// Entries.
    pub size: u16,
    /// Guest-physical addresses of the ring's parts, which are zeros.
    pub at: RingAddresses,
    /// Guest-physical addresses of the buffers, `size` of them.
    pub buffers: Vec<u64>,
    /// Bytes of each.
    pub buffer_bytes: u64,
    /// Event index in place of flags.
    pub event_idx: bool,
}

#[derive(Debug)]
struct Side {
    ring: DriverRing,
    pool: Pool,
}

/// A software guest's driver. One thread; the device may be on another, or in another process.
#[derive(Debug)]
pub struct GuestDriver {
    options: Options,
    memory: Arc<GuestMemory>,
    /// By virtqueue index.
    sides: Vec<Side>,
    scratch: u64,
    counters: Counters,
}

impl GuestDriver {
    /// Makes memory, rings and buffers; posts nothing. `options.features()` count as negotiated:
    /// build it from [`Options::limited_to`] when a device offers less.
    ///
    /// # Errors
    /// If there is no such memory to be had.
    pub fn new(options: Options) -> io::Result<Self> {
        options.assert_sane();
        let n_vrings = 2 * usize::from(options.n_queue_pairs);
        let mut arena = Arena::new(&options.layout);
        let rings: Vec<_> = (0..n_vrings)
            .map(|v| place_ring(&mut arena, &options, v))
            .collect();
        let scratch = arena.ring(options.scratch_bytes);
        let strides = [rx_stride(&options), tx_stride(&options)];
        let pools: Vec<Vec<u64>> = (0..n_vrings)
            .map(|v| {
                (0..ring_size(&options, v))
                    .map(|_| arena.buffer(strides[v % 2]))
                    .collect()
            })
            .collect();
        let memory = Arc::new(GuestMemory::new(&arena.regions(), options.layout.backing)?);
        let sides = rings
            .into_iter()
            .zip(pools)
            .enumerate()
            .map(|(v, (config, at))| Side {
                ring: DriverRing::new(memory.clone(), config),
                pool: Pool::new(memory.clone(), at, strides[v % 2], options.is_fifo()),
            });
        let sides = sides.collect();
        Ok(Self {
            options,
            memory,
            sides,
            scratch,
            counters: Counters::default(),
        })
    }

    /// What it was made from.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The guest's memory: regions for the device to map, and raw access.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// Virtqueues: two a queue pair.
    pub fn n_vrings(&self) -> usize {
        self.sides.len()
    }

    /// Guest-physical addresses of a ring.
    pub fn vring_gpa(&self, vring: usize) -> RingAddresses {
        self.sides[vring].ring.addresses()
    }

    /// User addresses of a ring, as SET_VRING_ADDR names them.
    pub fn vring_uva(&self, vring: usize) -> RingAddresses {
        let at = self.vring_gpa(vring);
        RingAddresses {
            desc: self.memory.uva(at.desc),
            avail: self.memory.uva(at.avail),
            used: self.memory.uva(at.used),
        }
    }

    /// Entries of a ring.
    pub fn vring_size(&self, vring: usize) -> u16 {
        self.sides[vring].ring.size()
    }

    /// `used.idx` as it is in memory: where a new device resumes after its predecessor crashed.
    pub fn vring_base(&self, vring: usize) -> u16 {
        self.memory.load_u16(self.vring_gpa(vring).used + 2)
    }

    /// The ring itself, for raw chains, indexes and events.
    pub fn ring(&mut self, vring: usize) -> &mut DriverRing {
        &mut self.sides[vring].ring
    }

    /// Guest-physical address of `scratch_bytes` that no ring and no buffer uses.
    pub fn scratch(&self) -> u64 {
        self.scratch
    }

    /// What went through.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sends a frame behind a header of zeros and shows it to the device. Takes used chains back
    /// first if there is no room. False if there is none then, or the frame is longer than
    /// `tx_frame_bytes`.
    pub fn send(&mut self, pair: usize, frame: &[u8]) -> bool {
        self.send_with(pair, NetHeader::default(), frame)
    }

    /// As [`send`](Self::send), behind any header.
    pub fn send_with(&mut self, pair: usize, header: NetHeader, frame: &[u8]) -> bool {
        let sent = self.stage(pair, header, frame);
        self.publish(2 * pair + 1);
        sent
    }

    /// As [`send_with`](Self::send_with), not yet visible to the device: for bursts, with
    /// [`publish`](Self::publish).
    pub fn stage(&mut self, pair: usize, header: NetHeader, frame: &[u8]) -> bool {
        if frame.len() > self.options.tx_frame_bytes {
            return false;
        }
        let n_header = self.options.header_bytes();
        let header = &header.to_bytes()[..n_header];
        let pieces = frame.chunks(frame.len().div_ceil(self.options.tx_parts).max(1));
        if self.options.tx_header_apart {
            let parts: Vec<&[u8]> = std::iter::once(header).chain(pieces).collect();
            return self.stage_chain(pair, &parts);
        }
        let mut pieces = pieces.map(<[u8]>::to_vec);
        let mut first = header.to_vec();
        first.extend(pieces.next().unwrap_or_default());
        let parts: Vec<Vec<u8>> = std::iter::once(first).chain(pieces).collect();
        self.stage_chain(pair, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// Sends a chain of exactly these descriptors, header included, whatever it makes, and shows it
    /// to the device. An empty part is a descriptor of length 0. False if there is no room.
    pub fn send_chain(&mut self, pair: usize, parts: &[&[u8]]) -> bool {
        let sent = self.stage_chain(pair, parts);
        self.publish(2 * pair + 1);
        sent
    }

    /// As [`send_chain`](Self::send_chain), not yet visible to the device.
    pub fn stage_chain(&mut self, pair: usize, parts: &[&[u8]]) -> bool {
        if self.try_stage(pair, parts) {
            return true;
        }
        self.reclaim_tx(pair) > 0 && self.try_stage(pair, parts)
    }

    /// Shows the device all that was staged on a virtqueue.
    pub fn publish(&mut self, vring: usize) {
        self.sides[vring].ring.publish();
    }

    /// Takes transmitted chains back. Returns how many came, raw ones included.
    pub fn reclaim_tx(&mut self, pair: usize) -> usize {
        let side = &mut self.sides[2 * pair + 1];
        let mut n = 0;
        while let Some(Used { token, .. }) = side.ring.pop() {
            n += 1;
            if token == RAW_TOKEN {
                self.counters.raw_done += 1;
                continue;
            }
            if self.options.checked {
                side.pool.assert_sealed(token);
            }
            side.pool.give(token);
            self.counters.tx_done += 1;
        }
        n
    }

    /// Makes all free receive buffers available, and shows them. Returns how many.
    pub fn post_rx(&mut self, pair: usize) -> usize {
        self.post_rx_up_to(pair, usize::MAX)
    }

    /// As [`post_rx`](Self::post_rx), `most` buffers at most.
    pub fn post_rx_up_to(&mut self, pair: usize, most: usize) -> usize {
        let mut n = 0;
        while n < most {
            let side = &mut self.sides[2 * pair];
            let Some(buffer) = side.pool.take() else {
                break;
            };
            let parts = rx_parts(&self.options, side.pool.gpa(buffer));
            if !side.ring.add(&parts, buffer) {
                side.pool.untake(buffer);
                break;
            }
            if self.options.checked {
                side.pool.prefill(buffer);
            }
            n += 1;
        }
        self.counters.rx_posted += n as u64;
        self.publish(2 * pair);
        n
    }

    /// Takes the next received frame; its buffers are free then, and not yet posted again.
    pub fn recv(&mut self, pair: usize) -> Option<Vec<u8>> {
        self.recv_full(pair).map(|received| received.frame)
    }

    /// As [`recv`](Self::recv), with the header. A buffer that came back with length 0 is counted
    /// and skipped.
    pub fn recv_full(&mut self, pair: usize) -> Option<Received> {
        let mut bytes = self.take_rx(pair)?;
        let n_header = self.options.header_bytes();
        assert!(
            bytes.len() >= n_header,
            "{} bytes were received, less than a header",
            bytes.len()
        );
        let header = NetHeader::from_bytes(&bytes[..n_header]);
        self.check_header(header);
        for i in 1..header.num_buffers {
            let more = self.take_rx(pair);
            let n = header.num_buffers;
            bytes.extend(
                more.unwrap_or_else(|| {
                    panic!("frame of {n} buffers: only {i} are in the used ring")
                }),
            );
        }
        let frame = bytes.split_off(n_header);
        self.counters.rx_merged += u64::from(header.num_buffers > 1);
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame.len() as u64;
        Some(Received { header, frame })
    }

    /// Whether the device wants a kick for what was published on a virtqueue since the last time
    /// this was asked.
    pub fn kick_due(&mut self, vring: usize) -> bool {
        self.sides[vring].ring.kick_due()
    }

    /// Whether the device had to call for what it used on a virtqueue since the last time: see
    /// [`DriverRing::call_due`].
    pub fn call_due(&mut self, vring: usize) -> bool {
        self.sides[vring].ring.call_due()
    }

    /// Asks for calls on a virtqueue, or for none; true if chains wait already: see
    /// [`DriverRing::ask_calls`].
    pub fn ask_calls(&mut self, vring: usize, on: bool) -> bool {
        self.sides[vring].ring.ask_calls(on)
    }

    /// Empties a virtqueue, as a driver that resets its device: all buffers are free again, indexes
    /// zero. Only while the device doesn't use the ring.
    pub fn reset_vring(&mut self, vring: usize) {
        let side = &mut self.sides[vring];
        for token in side.ring.reset() {
            if token != RAW_TOKEN {
                side.pool.give(token);
            }
        }
    }

    /// Empties a virtqueue as [`reset_vring`](Self::reset_vring) does and hands it and its buffers
    /// over, for good: for the lean rings, which do without bookkeeping.
    pub fn take_over(&mut self, vring: usize) -> RawQueue {
        self.reset_vring(vring);
        let side = &mut self.sides[vring];
        let fixed = guard_bytes(&self.options) + u64::from(self.options.line_offset);
        let buffers =
            std::iter::from_fn(|| side.pool.take().map(|b| side.pool.gpa(b) + fixed)).collect();
        let ring = &side.ring;
        let buffer_bytes = side.pool.stride() - fixed;
        let (size, at) = (ring.size(), ring.addresses());
        RawQueue {
            memory: self.memory.clone(),
            size,
            at,
            buffers,
            buffer_bytes,
            event_idx: self.options.event_idx,
        }
    }

    /// Panics unless every buffer is either free or with the device, and descriptors and avail
    /// rings are as written.
    pub fn assert_intact(&self) {
        for (vring, Side { ring, pool }) in self.sides.iter().enumerate() {
            ring.assert_untouched();
            let (free, flying, all) = (pool.n_free(), ring.n_in_flight(), pool.len());
            assert!(
                free + flying >= all,
                "virtqueue {vring}: {free} buffers free, {flying} chains in flight, of {all}"
            );
        }
    }

    fn try_stage(&mut self, pair: usize, parts: &[&[u8]]) -> bool {
        let side = &mut self.sides[2 * pair + 1];
        let Some(buffer) = side.pool.take() else {
            return false;
        };
        let placed = place_parts(
            &self.options,
            side.pool.gpa(buffer),
            side.pool.stride(),
            parts,
        );
        let Some(placed) = placed.filter(|placed| side.ring.add(placed, buffer)) else {
            side.pool.untake(buffer);
            return false;
        };
        for (part, bytes) in placed.iter().zip(parts) {
            self.memory.write(part.gpa, bytes);
        }
        if self.options.checked {
            side.pool.seal(buffer);
        }
        self.counters.tx_chains += 1;
        true
    }

    /// The device is gone: what it had written into receive buffers and not said yet is forgotten.
    /// After all that it did say has been received.
    pub fn forget_unsaid(&mut self, pair: usize) {
        self.sides[2 * pair].pool.prefill_all();
    }

    /// The bytes of the next receive buffer that holds any.
    fn take_rx(&mut self, pair: usize) -> Option<Vec<u8>> {
        loop {
            let side = &mut self.sides[2 * pair];
            let Used { len, token, .. } = side.ring.pop()?;
            if token == RAW_TOKEN {
                self.counters.raw_done += 1;
                continue;
            }
            self.counters.rx_done += 1;
            let written = written_parts(
                &rx_parts(&self.options, side.pool.gpa(token)),
                u64::from(len),
            );
            if self.options.checked {
                side.pool.assert_outside(token, &written);
            }
            side.pool.give(token);
            if len > 0 {
                let read = |&(gpa, len): &(u64, u64)| self.memory.read_vec(gpa, to_usize(len));
                return Some(written.iter().flat_map(read).collect());
            }
            self.counters.rx_refused += 1;
        }
    }

    fn check_header(&self, header: NetHeader) {
        let may_offload = self.options.more_features & feature::GUEST_OFFLOADS != 0;
        assert!(
            may_offload || header.is_plain(),
            "offloads that were not negotiated: {header:?}"
        );
        let n = header.num_buffers;
        let most = if self.options.mergeable {
            self.options.rx_ring
        } else {
            1
        };
        assert!(
            (1..=most).contains(&n),
            "num_buffers is {n}, mergeable {}",
            self.options.mergeable
        );
    }
}

#[cfg(test)]
mod tests;
