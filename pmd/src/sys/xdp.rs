//! AF_XDP sockets, beyond what the crate for them does: options, statistics, wake-ups.

use std::io;
use std::mem::size_of;
use std::os::fd::RawFd;

/// `XDP_MAX_TX_SKB_BUDGET`, of Linux 6.17.
const MAX_TX_SKB_BUDGET: i32 = 9;

/// What the kernel lost of a socket's frames, or could not use, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpStatistics {
    /// Frames dropped for reasons other than a full ring.
    pub rx_dropped: u64,
    /// Descriptors of the fill ring that led nowhere.
    pub rx_invalid_descs: u64,
    /// Descriptors of the transmit ring that led nowhere.
    pub tx_invalid_descs: u64,
    /// Frames dropped since the receive ring was full.
    pub rx_ring_full: u64,
    /// Times that a frame found no memory in the fill ring.
    pub rx_fill_ring_empty: u64,
    /// Times that the kernel looked at an empty transmit ring.
    pub tx_ring_empty: u64,
}

fn socket_option<T>(fd: RawFd, option: i32, value: &mut T) -> io::Result<()> {
    let mut len = u32::try_from(size_of::<T>()).unwrap_or(0);
    let value = std::ptr::from_mut(value).cast();
    // SAFETY: `value` is a valid place for `len` bytes; a kernel that knows fewer writes fewer.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_XDP, option, value, &raw mut len) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Counters of the kernel for one socket.
pub(crate) fn statistics(fd: RawFd) -> io::Result<XdpStatistics> {
    let mut words = [0u64; 6];
    socket_option(fd, libc::XDP_STATISTICS, &mut words)?;
    let [
        rx_dropped,
        rx_invalid_descs,
        tx_invalid_descs,
        rx_ring_full,
        rx_fill_ring_empty,
        tx_ring_empty,
    ] = words;
    Ok(XdpStatistics {
        rx_dropped,
        rx_invalid_descs,
        tx_invalid_descs,
        rx_ring_full,
        rx_fill_ring_empty,
        tx_ring_empty,
    })
}

/// Whether the device moves the socket's frames without a copy.
pub(crate) fn is_zero_copy(fd: RawFd) -> io::Result<bool> {
    let mut options = 0u32;
    socket_option(fd, libc::XDP_OPTIONS, &mut options)?;
    Ok(options & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// Lets one wake-up send so many frames by copy; false on a kernel that sends 32 at most.
pub(crate) fn set_tx_budget(fd: RawFd, n_frames: u32) -> bool {
    let len = u32::try_from(size_of::<u32>()).unwrap_or(0);
    // SAFETY: four bytes of `n_frames` are read.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_XDP,
            MAX_TX_SKB_BUDGET,
            (&raw const n_frames).cast(),
            len,
        ) == 0
    }
}

/// Wakes the kernel to send what is in the transmit ring; by copy, it sends in this call. What it
/// left in the ring, for whatever reason it may answer, has to be offered again.
pub(crate) fn wake_tx(fd: RawFd) {
    // SAFETY: no bytes are read; the call does not block.
    unsafe {
        libc::sendto(
            fd,
            std::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null(),
            0,
        )
    };
}

/// Wakes the kernel to look at the fill ring again.
pub(crate) fn wake_rx(fd: RawFd) {
    let null = std::ptr::null_mut();
    // SAFETY: no bytes and no address are written; the call does not block.
    unsafe {
        libc::recvfrom(
            fd,
            null,
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
}
