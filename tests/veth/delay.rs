//! A long wire: carries frames between two devices of the caller's network namespace, each way
//! after a delay, none early, none lost, in order. For kernels without netem.
//!
//!     delay DEVICE DEVICE MICROSECONDS
//!
//! Says `ready` and runs until its standard input ends; then says what it carried: per direction
//! the frames, those that were lost and why, and how late the latest left. Ends with 1 if any was
//! lost. A device may give segments of up to 64 KiB and partial checksums (`PACKET_VNET_HDR`): they
//! leave as they came, and the kernel does the rest at the other device.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SocketType, recv, socket};

/// The longest segment, behind its virtio-net header.
const SEGMENT_MAX: usize = 10 + 65_536 + 64;
/// Bytes that may be on their way in one direction: what 20 ms at 50 Gbit/s are.
const BYTES_MAX: usize = 128 << 20;
/// Bytes that may wait in each socket.
const SOCKET_BUFFER: libc::c_int = 64 << 20;
/// Segments that are taken before it is seen to those that are due.
const BATCH: usize = 16;
/// The longest time between two looks at whether it is over.
const NAP: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [left, right, delay] = &words[..] else {
        eprintln!("usage: delay DEVICE DEVICE MICROSECONDS");
        return ExitCode::from(2);
    };
    let delay = Duration::from_micros(delay.parse().expect("microseconds"));
    let open = |device: &String| {
        open(device).unwrap_or_else(|error| panic!("delay: can't open {device}: {error}"))
    };
    let (a, b) = (open(left), open(right));
    let is_over = AtomicBool::new(false);
    let (there, back) = std::thread::scope(|scope| {
        let there = scope.spawn(|| carry(&a, &b, delay, &is_over));
        let back = scope.spawn(|| carry(&b, &a, delay, &is_over));
        println!("ready");
        drop(io::stdin().read_to_end(&mut Vec::new()));
        is_over.store(true, Ordering::Relaxed);
        (
            there.join().expect("a direction"),
            back.join().expect("a direction"),
        )
    });
    let mut n_lost = 0;
    for (from, to, carried) in [(left, right, there), (right, left, back)] {
        println!("{from} to {to}: {carried:?}");
        n_lost += carried.lost_in_socket + carried.lost_over_bound + carried.refused_by_device;
    }
    ExitCode::from(u8::from(n_lost > 0))
}

/// What one direction did.
#[derive(Debug, Default)]
struct Carried {
    segments: u64,
    bytes: u64,
    lost_in_socket: u64,
    lost_over_bound: u64,
    refused_by_device: u64,
    latest_us: u128,
}

/// Carries what one device receives to the other, until it is over.
fn carry(from: &OwnedFd, to: &OwnedFd, delay: Duration, is_over: &AtomicBool) -> Carried {
    let (mut carried, mut on_the_way, mut n_bytes) = (
        Carried::default(),
        VecDeque::<(Instant, Box<[u8]>)>::new(),
        0,
    );
    let mut buffer = vec![0; SEGMENT_MAX];
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            let Ok((n, _)) = recv(from, &mut buffer[..], RecvFlags::DONTWAIT) else {
                break;
            };
            if n_bytes + n > BYTES_MAX {
                carried.lost_over_bound += 1;
                continue;
            }
            n_bytes += n;
            on_the_way.push_back((Instant::now() + delay, buffer[..n].into()));
        }
        while let Some((due, segment)) = on_the_way.front() {
            let Some(late) = Instant::now().checked_duration_since(*due) else {
                break;
            };
            carried.refused_by_device += u64::from(rustix::io::write(to, segment).is_err());
            carried.segments += 1;
            carried.bytes += segment.len() as u64;
            carried.latest_us = carried.latest_us.max(late.as_micros());
            n_bytes -= segment.len();
            on_the_way.pop_front();
        }
        let rest = on_the_way.front().map_or(NAP, |(due, _)| {
            due.saturating_duration_since(Instant::now()).min(NAP)
        });
        let rest = Timespec {
            tv_sec: 0,
            tv_nsec: rest.subsec_nanos().into(),
        };
        let _ = poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&rest));
    }
    carried.lost_in_socket = n_dropped(from);
    carried
}

/// A packet socket for whole segments on one device; what it sends itself doesn't come back by it.
fn open(device: &str) -> io::Result<OwnedFd> {
    let index = name_to_index(
        &socket(AddressFamily::INET, SocketType::DGRAM, None)?,
        device,
    )?;
    let protocol = u16::try_from(libc::ETH_P_ALL).expect("16 bits").to_be();
    // Bound before it takes anything: with protocol 0 it would hear every device until then.
    // SAFETY: a plain call; its answer is checked.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is open and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    set(
        &socket,
        libc::SOL_SOCKET,
        libc::SO_RCVBUFFORCE,
        SOCKET_BUFFER,
    )?;
    set(
        &socket,
        libc::SOL_SOCKET,
        libc::SO_SNDBUFFORCE,
        SOCKET_BUFFER,
    )?;
    // SAFETY: all-zero is a valid address of this kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("16 bits");
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index).expect("an index");
    let len = libc::socklen_t::try_from(size_of_val(&address)).expect("a length");
    // SAFETY: the fd is open, `address` valid for the call and of the length that is said.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(socket)
    }
}

fn set(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(&value)).expect("a length");
    // SAFETY: the fd is open, `value` valid for the call and of the length that is said.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Frames that the kernel had no room for in this socket.
fn n_dropped(socket: &OwnedFd) -> u64 {
    // `struct tpacket_stats` of linux/if_packet.h: received, and of them dropped.
    let mut counts = [0u32; 2];
    let mut len = libc::socklen_t::try_from(size_of_val(&counts)).expect("a length");
    // SAFETY: the fd is open, `counts` valid for the call and of the length that is said.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut counts).cast(),
            &raw mut len,
        )
    };
    assert_eq!(
        done,
        0,
        "the socket's counters: {}",
        io::Error::last_os_error()
    );
    counts[1].into()
}
