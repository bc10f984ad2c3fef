//! What there is to compare with: a loop over two AF_XDP sockets with one UMEM that moves
//! descriptors from one to the other and does nothing else, and a sender that is as bare. By
//! `xsk-rs` alone, nothing of the switch is used but its XDP program.

use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use pmd::sys::bpf::{Attach, XdpLink};
use xsk_rs::config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use crate::world::index_of;

const N_FRAMES: u32 = 8192;
const RING: u32 = 2048;
const BURST: usize = 64;
/// Frames that one wake-up sends by copy, as the switch has it.
const TX_BUDGET: u32 = 256;
/// `XDP_MAX_TX_SKB_BUDGET` of linux/if_xdp.h.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// What a loop did, and the cycles of the time-stamp counter that went into it; `n_kernel`: those
/// in the kernel's transmit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) n_frames: u64,
    pub(crate) n_cycles: u64,
    pub(crate) n_kernel: u64,
}

pub(crate) fn cycles() -> u64 {
    // SAFETY: every processor of this architecture has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

struct Port {
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    done: CompQueue,
    fd: RawFd,
}

impl Port {
    fn open(umem: &Umem, device: &str) -> Self {
        let config = SocketConfig::builder()
            .rx_queue_size(QueueSize::new(RING).unwrap())
            .tx_queue_size(QueueSize::new(RING).unwrap())
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        // SAFETY: every frame is in one ring or the free list of the one loop that owns all ports
        // of this UMEM.
        let (tx, rx, rings) =
            unsafe { Socket::new(config, umem, &device.parse().unwrap(), 0) }.unwrap();
        let (fill, done) = rings.expect("rings of its own for a device of its own");
        let fd = rx.fd().as_raw_fd();
        let budget = TX_BUDGET;
        let len = libc::socklen_t::try_from(size_of_val(&budget)).unwrap();
        // SAFETY: the fd is open, `budget` valid for the call and of the length that is said. Older
        // kernels refuse it.
        unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_XDP,
                XDP_MAX_TX_SKB_BUDGET,
                (&raw const budget).cast(),
                len,
            )
        };
        Self {
            rx,
            tx,
            fill,
            done,
            fd,
        }
    }

    /// Takes back what is out.
    fn complete(&mut self, free: &mut Vec<FrameDesc>) {
        let mut descs = [FrameDesc::default(); BURST];
        // SAFETY: the descriptors are overwritten.
        while let n @ 1.. = unsafe { self.done.consume(&mut descs) } {
            free.extend(&descs[..n]);
        }
    }

    fn refill(&mut self, free: &mut Vec<FrameDesc>) {
        while !free.is_empty() && self.fill.nb_free(BURST as u32) as usize >= BURST {
            let from = free.len().saturating_sub(BURST);
            // SAFETY: frames of this UMEM that nobody else has.
            let n = unsafe { self.fill.produce(&free[from..]) };
            free.truncate(free.len() - n);
        }
    }

    /// Sends a burst, and gives the cycles that the kernel took for it.
    fn send(&mut self, descs: &[FrameDesc], free: &mut Vec<FrameDesc>) -> (usize, u64) {
        // SAFETY: frames of this UMEM that nobody else has.
        let n = unsafe { self.tx.produce(descs) };
        free.extend(&descs[n..]);
        let before = cycles();
        if self.tx.needs_wakeup() {
            drop(self.tx.wakeup());
        }
        (n, cycles() - before)
    }

    fn serve(&self, device: &str) -> XdpLink {
        let link = XdpLink::attach(index_of(device), Attach::Native, 1).expect("a program");
        // SAFETY: the socket is open as long as its queues, which are borrowed.
        link.serve(0, unsafe { BorrowedFd::borrow_raw(self.fd) })
            .expect("its map");
        link
    }
}

fn umem() -> (Umem, Vec<FrameDesc>) {
    let size = QueueSize::new(RING).unwrap();
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(4096).unwrap())
        .fill_queue_size(size)
        .comp_queue_size(size)
        .build()
        .unwrap();
    Umem::new(config, NonZeroU32::new(N_FRAMES).unwrap(), false).unwrap()
}

/// Moves frames between two devices of this thread's namespace until `is_over`; busy polling,
/// pinned by the caller.
pub(crate) fn forward(devices: [&str; 2], is_over: impl Fn() -> bool) -> Work {
    let (umem, mut free) = umem();
    let mut ports = devices.map(|device| Port::open(&umem, device));
    ports.iter_mut().for_each(|port| port.refill(&mut free));
    let _links = [ports[0].serve(devices[0]), ports[1].serve(devices[1])];
    let mut work = Work::default();
    while !is_over() {
        for from in 0..2 {
            let (left, right) = ports.split_at_mut(1);
            let (source, sink) = if from == 0 {
                (&mut left[0], &mut right[0])
            } else {
                (&mut right[0], &mut left[0])
            };
            let before = cycles();
            let mut descs = [FrameDesc::default(); BURST];
            // SAFETY: the descriptors are overwritten.
            let n = unsafe { source.rx.consume(&mut descs) };
            if n == 0 {
                continue;
            }
            let (n_sent, n_kernel) = sink.send(&descs[..n], &mut free);
            sink.complete(&mut free);
            source.refill(&mut free);
            work.n_frames += n_sent as u64;
            work.n_kernel += n_kernel;
            work.n_cycles += cycles() - before;
        }
    }
    work
}

/// Sends one frame over and over by a device of this thread's namespace, as fast as it goes.
pub(crate) fn flood(device: &str, frame: &[u8], time: Duration) -> Work {
    let (umem, mut free) = umem();
    let mut port = Port::open(&umem, device);
    for desc in &mut free {
        // SAFETY: nobody else has the frame.
        let mut data = unsafe { umem.data_mut(desc) };
        std::io::Write::write_all(&mut data.cursor(), frame).expect("it fits");
    }
    let whole = free.clone();
    let mut work = Work::default();
    let begin = Instant::now();
    while begin.elapsed() < time {
        let before = cycles();
        port.complete(&mut free);
        let from = free.len().saturating_sub(BURST);
        // Descriptors come back without their lengths.
        let descs: Vec<_> = free
            .drain(from..)
            .map(|desc| with_length(&whole, desc))
            .collect();
        let (n, n_kernel) = port.send(&descs, &mut free);
        work.n_frames += n as u64;
        work.n_kernel += n_kernel;
        work.n_cycles += cycles() - before;
    }
    work
}

fn with_length(whole: &[FrameDesc], desc: FrameDesc) -> FrameDesc {
    whole[desc.addr() / 4096]
}
