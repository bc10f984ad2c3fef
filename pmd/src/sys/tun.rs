//! Taps: the kernel's end of a wire whose other end is a file.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Frames may leave their TCP or UDP checksum to the reader.
const TUN_F_CSUM: libc::c_ulong = 1;
/// Bytes of a device's name, its closing zero included.
const NAME_BYTES: usize = libc::IFNAMSIZ;

/// Opens the tap of this name, or makes it; one packet each read and write, a virtio-net header in
/// front, never blocking.
pub(crate) fn open(name: &str) -> io::Result<File> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = CString::new(name).map_err(|_| invalid())?;
    let name = name.as_bytes_with_nul();
    if name.len() > NAME_BYTES {
        return Err(invalid());
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).unwrap_or(0);
    // SAFETY: the file is open; `request` is valid for the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the file is open; this request's argument is a number. A kernel that refuses finishes
    // checksums itself.
    unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, TUN_F_CSUM) };
    Ok(file)
}

/// Whether the file still has a device, wherever that is. It hasn't once the device was removed, as
/// with its namespace.
pub(crate) fn is_attached(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the file is open; `request` is a valid place for the answer.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) == 0 }
}

/// Reads one packet; `None` when there is none.
pub(crate) fn read(fd: BorrowedFd<'_>, to: &mut [u8]) -> Option<usize> {
    // SAFETY: as many bytes as `to` has are written to it at most; the file does not block.
    let n = unsafe { libc::read(fd.as_raw_fd(), to.as_mut_ptr().cast(), to.len()) };
    usize::try_from(n).ok()
}

/// Writes one packet; false when the kernel would not have it.
pub(crate) fn write(fd: BorrowedFd<'_>, packet: &[u8]) -> bool {
    // SAFETY: `packet` is read; the file does not block.
    unsafe { libc::write(fd.as_raw_fd(), packet.as_ptr().cast(), packet.len()) >= 0 }
}
