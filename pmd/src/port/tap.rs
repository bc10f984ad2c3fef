//! A tap: a device of the kernel's whose other end is a file of ours. For containers, and whatever
//! speaks to the host's own stack.
//!
//! One system call a frame, so this is for few of them. Frames are read into private memory before
//! they are decided, which is where they wait when they may not go (law of the transmit ring:
//! nothing is dropped for a limit); what waits behind them waits in the kernel. To the kernel a
//! frame goes by way of private memory too, which costs little beside the call.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use flowtable::wire::header::{ETHERNET_LEN, TAG_LEN};
use flowtable::{DropReason, HEADER_MAX};

use crate::amount::Allowance;
use crate::burst::{BURST_MAX, Burst, BurstWriter};
use crate::error::SetupError;
use crate::port::room::Room;
use crate::shm::Piece;
use crate::sys::tun;
use crate::virtio_net::{HEADER_LEN_LEGACY, Offload};

/// Bytes of the virtio-net header in front of each packet.
const NET_HEADER: usize = HEADER_LEN_LEGACY as usize;
/// The longest frame: an MTU of 9,000, the Ethernet header and two tags.
const FRAME_MAX: usize = 9018 + TAG_LEN as usize;
/// Turns for which a tap that had nothing is left alone: asking it costs a call.
const TURNS_LEFT_ALONE: u32 = 15;
/// Reservations that are refused after a packet was, before the next is tried.
const REFUSED_AGAIN: u32 = 64;

/// Opens the tap of this name; makes it if there is none, in which case it goes with the last of
/// the two halves.
///
/// # Errors
/// With the system's reason, and what can be done about it.
pub fn open_tap(name: &str) -> Result<(TapRx, TapTx), SetupError> {
    let file = tun::open(name).map_err(|error| {
        let advice = match error.raw_os_error() {
            Some(libc::EPERM) => {
                " (weir needs CAP_NET_ADMIN, or the tap must be made for its user by ip tuntap add \
                user)"
            }
            Some(libc::EBUSY) => " (another process has it open)",
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
                " (this kernel or container has no \
                /dev/net/tun)"
            }
            Some(libc::EINVAL) => {
                " (there is a device of this name that is no tap, or one with \
                other options)"
            }
            _ if error.kind() == io::ErrorKind::InvalidInput => {
                " (a device's name has 15 bytes at \
                most)"
            }
            _ => "",
        };
        SetupError::new(format!("cannot open the tap {name}: {error}{advice}"))
    })?;
    Ok(halves(file.into()))
}

fn halves(fd: OwnedFd) -> (TapRx, TapTx) {
    let fd = Arc::new(fd);
    (
        TapRx::new(fd.clone()),
        TapTx {
            fd,
            packet: vec![0; NET_HEADER + FRAME_MAX].into(),
            n_refused: 0,
        },
    )
}

/// Control's look at a tap.
#[derive(Clone, Debug)]
pub struct TapWatch(Arc<OwnedFd>);

impl TapWatch {
    /// Whether its device is still there, in whatever network namespace.
    pub fn is_there(&self) -> bool {
        tun::is_attached(self.0.as_fd())
    }
}

/// A packet that was read: header and frame.
#[derive(Debug)]
struct Packet {
    bytes: Box<[u8]>,
    len: usize,
}

/// The receiving half.
#[derive(Debug)]
pub struct TapRx {
    fd: Arc<OwnedFd>,
    /// Read and not given on yet, oldest first.
    waiting: VecDeque<Packet>,
    spare: Vec<Packet>,
    n_left_alone: u32,
}

impl TapRx {
    fn new(fd: Arc<OwnedFd>) -> Self {
        let packet = || Packet {
            bytes: vec![0; NET_HEADER + FRAME_MAX + 1].into(),
            len: 0,
        };
        let spare = (0..BURST_MAX).map(|_| packet()).collect();
        Self {
            fd,
            waiting: VecDeque::with_capacity(BURST_MAX),
            spare,
            n_left_alone: 0,
        }
    }

    /// For control to look at it while cores have it. The tap goes with the last of the two halves
    /// and this.
    pub fn watch(&self) -> TapWatch {
        TapWatch(self.fd.clone())
    }

    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether frames wait, read anew.
    pub(crate) fn has_more(&mut self) -> bool {
        !self.waiting.is_empty() || self.read_one()
    }

    /// Looks at what was read, as far as `allowance` goes, and reads more while there is room for
    /// it.
    pub(crate) fn peek(&mut self, burst: &mut Burst, allowance: Allowance) -> usize {
        if self.n_left_alone > 0 {
            self.n_left_alone -= 1;
        } else {
            while self.read_one() {}
        }
        if self.waiting.is_empty() {
            return 0;
        }
        let mut writer = BurstWriter::new(burst);
        for (k, packet) in self.waiting.iter_mut().enumerate().take(allowance.n_frames) {
            if writer.n_bytes() >= allowance.n_bytes {
                break;
            }
            offer(&mut writer, k, packet);
        }
        writer.finish()
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.spare.extend(self.waiting.drain(..n));
    }

    fn read_one(&mut self) -> bool {
        let Some(mut packet) = self.spare.pop() else {
            return false;
        };
        match tun::read(self.fd.as_fd(), &mut packet.bytes) {
            Some(len) => {
                packet.len = len;
                self.waiting.push_back(packet);
                true
            }
            None => {
                self.spare.push(packet);
                self.n_left_alone = TURNS_LEFT_ALONE;
                false
            }
        }
    }
}

/// Makes a packet frame `k` of the burst.
fn offer(writer: &mut BurstWriter<'_>, k: usize, packet: &mut Packet) {
    let (header, frame) = packet.bytes.split_at_mut(NET_HEADER);
    let len = packet.len.saturating_sub(NET_HEADER);
    // It is read with one byte to spare, so one that has all of them was cut.
    if len > FRAME_MAX {
        writer.put(k, Piece::EMPTY, 0);
        return writer.refuse(k, DropReason::TooBig);
    }
    let piece = Piece::of_private(&mut frame[..len]);
    writer.put(k, piece, piece.len());
    if piece.len() < ETHERNET_LEN {
        return writer.refuse(k, DropReason::Runt);
    }
    writer.read_header(k);
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    let offload = Offload::parse(word(0), u16::from_le_bytes([header[8], header[9]]));
    if !offload.is_empty() {
        let end = usize::from(offload.csum_start) + usize::from(offload.csum_offset) + 2;
        if offload.gso_type != 0 || end > len.min(HEADER_MAX) {
            return writer.refuse(k, DropReason::BadOffload);
        }
        writer.set_offload(k, offload);
    }
}

/// The sending half.
#[derive(Debug)]
pub struct TapTx {
    fd: Arc<OwnedFd>,
    packet: Box<[u8]>,
    /// Reservations to be refused yet: the device is down.
    n_refused: u32,
}

impl TapTx {
    /// The kernel takes what it is given at once, or not at all: a device that is down. That shows
    /// with the first packet, which is lost as on any wire; those after it are told.
    pub(crate) fn reserve(&mut self, lens: &[u32]) -> (usize, Room) {
        if self.n_refused > 0 {
            self.n_refused -= 1;
            return (0, Room::Stopped);
        }
        match lens
            .iter()
            .position(|&len| (len + TAG_LEN) as usize > FRAME_MAX)
        {
            Some(n) => (n, Room::TooBig),
            None => (lens.len(), Room::Reserved),
        }
    }

    pub(crate) fn has_room(&mut self) -> bool {
        self.n_refused == 0
    }

    pub(crate) fn commit(&mut self, burst: &Burst, mask: u32, tag: Option<u16>) -> u64 {
        let mut n_bytes = 0;
        for k in (0..BURST_MAX).filter(|k| mask >> k & 1 != 0) {
            let (header, frame) = self.packet.split_at_mut(NET_HEADER);
            // A tag would move what a request names; no network with a tag leaves by a tap.
            let offload = burst.offload(k).unwrap_or_default();
            header.copy_from_slice(&offload.to_bytes());
            let len = burst.write_frame(k, Piece::of_private(frame), tag);
            if !tun::write(self.fd.as_fd(), &self.packet[..NET_HEADER + len as usize]) {
                self.n_refused = REFUSED_AGAIN;
            }
            n_bytes += u64::from(len);
        }
        n_bytes
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    /// A tap's two halves, and what plays the kernel: a socket keeps packets apart as a tap does.
    fn rig() -> (TapRx, TapTx, UnixDatagram) {
        let (ours, kernels) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        kernels.set_nonblocking(true).unwrap();
        let (rx, tx) = halves(ours.into());
        (rx, tx, kernels)
    }

    fn packet(header: [u8; 10], n: u8, len: usize) -> Vec<u8> {
        [&header[..], &vec![n; len]].concat()
    }

    #[test]
    fn frames_that_may_not_go_wait_in_order_and_nothing_is_read_beyond_them() {
        let (mut rx, _tx, kernel) = rig();
        for n in 0..40 {
            kernel.send(&packet([0; 10], n, 60)).unwrap();
        }
        let mut burst = Box::<Burst>::default();
        assert_eq!(rx.peek(&mut burst, Allowance::ALL), 32);
        rx.consume(5);
        assert_eq!(rx.peek(&mut burst, Allowance::ALL), 32);
        assert_eq!(
            (
                burst.headers[0].0[0],
                burst.headers[31].0[59],
                burst.lens[31]
            ),
            (5, 36, 60)
        );
        rx.consume(32);
        assert_eq!(rx.peek(&mut burst, Allowance::ALL), 3);
        rx.consume(3);
        assert_eq!(
            (rx.peek(&mut burst, Allowance::ALL), rx.has_more()),
            (0, false)
        );
        kernel.send(&packet([0; 10], 1, 60)).unwrap();
        assert!(
            rx.has_more(),
            "asked afresh, however lately there was nothing"
        );
        assert_eq!(rx.peek(&mut burst, Allowance::ALL), 1);
    }

    #[test]
    fn no_more_is_offered_than_the_limit_of_its_vm_leaves() {
        let (mut rx, _tx, kernel) = rig();
        for n in 0..20 {
            kernel.send(&packet([0; 10], n, 1000)).unwrap();
        }
        let mut burst = Box::<Burst>::default();
        assert_eq!(
            rx.peek(
                &mut burst,
                Allowance {
                    n_frames: 7,
                    n_bytes: u32::MAX
                }
            ),
            7
        );
        assert_eq!(
            rx.peek(
                &mut burst,
                Allowance {
                    n_frames: 32,
                    n_bytes: 2001
                }
            ),
            3,
            "the one that crosses it is taken"
        );
        rx.consume(3);
        assert_eq!(rx.peek(&mut burst, Allowance::ALL), 17);
    }

    #[test]
    fn frames_that_are_none_are_refused_by_name() {
        let (mut rx, _tx, kernel) = rig();
        let request = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0];
        for (header, len) in [
            ([0; 10], 13),
            ([0; 10], FRAME_MAX + 1),
            ([1, 1, 0, 0, 0, 5, 34, 0, 16, 0], 100),
            ([1, 0, 0, 0, 0, 0, 120, 0, 16, 0], 400),
            (request, 51),
            (request, 100),
            ([0; 10], FRAME_MAX),
        ] {
            kernel.send(&packet(header, 7, len)).unwrap();
        }
        kernel.send(&[0; 4]).unwrap();
        let mut burst = Box::<Burst>::default();
        assert_eq!(rx.peek(&mut burst, Allowance::ALL), 8);
        let refused = |k: usize| match burst.actions[k] {
            flowtable::Action::Drop(reason) if burst.lens[k] == 0 => Some(reason),
            _ => None,
        };
        let reasons: Vec<_> = (0..8).map(refused).collect();
        let (runt, offload) = (Some(DropReason::Runt), Some(DropReason::BadOffload));
        assert_eq!(
            reasons,
            [
                runt,
                Some(DropReason::TooBig),
                offload,
                offload,
                offload,
                None,
                None,
                runt
            ]
        );
        assert_eq!(burst.with_offload, 1 << 5);
        assert_eq!(
            (burst.offloads[5].csum_start, burst.offloads[5].csum_offset),
            (34, 16)
        );
    }

    #[test]
    fn frame_goes_to_the_kernel_with_what_is_left_to_be_done() {
        let (mut rx, mut tx, kernel) = rig();
        kernel
            .send(&packet([1, 0, 0, 0, 0, 0, 34, 0, 16, 0], 9, 300))
            .unwrap();
        let mut burst = Box::<Burst>::default();
        rx.peek(&mut burst, Allowance::ALL);
        assert_eq!(tx.reserve(&[300, 9023]), (1, Room::TooBig));
        assert_eq!(tx.commit(&burst, 1, None), 300);
        let mut got = [0; 400];
        assert_eq!(kernel.recv(&mut got).unwrap(), 310);
        assert_eq!(got[..310], packet([1, 0, 0, 0, 0, 0, 34, 0, 16, 0], 9, 300));
    }

    #[test]
    fn device_that_is_down_is_tried_again_after_a_while() {
        let (mut rx, mut tx, kernel) = rig();
        kernel.send(&packet([0; 10], 9, 60)).unwrap();
        let mut burst = Box::<Burst>::default();
        rx.peek(&mut burst, Allowance::ALL);
        drop(kernel);
        tx.commit(&burst, 1, None);
        assert!(!tx.has_room());
        let n = (0..1000)
            .take_while(|_| tx.reserve(&[60]).1 == Room::Stopped)
            .count();
        assert_eq!(n, REFUSED_AGAIN as usize);
        assert!(tx.has_room());
    }
}
