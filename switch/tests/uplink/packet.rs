//! Frames to and from a device in a namespace, byte by byte.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::rig::PATIENCE;
use crate::space::Spaces;

/// A packet socket on one device.
pub(crate) struct Packets(OwnedFd);

impl Packets {
    /// Opens it. Frames of other devices don't come, nor those that it sends itself.
    pub(crate) fn open(spaces: &Spaces, role: &str, device: &str) -> Self {
        let space = std::fs::File::open(format!("/run/netns/{}", spaces.name(role))).unwrap();
        let index: i32 = spaces
            .run(role, &format!("cat /sys/class/net/{device}/ifindex"))
            .trim()
            .parse()
            .unwrap();
        // A thread of its own, since it stays in the namespace; the socket belongs there for good.
        let opened = std::thread::spawn(move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            open(index)
        });
        Self(opened.join().unwrap().unwrap())
    }

    /// Sends a frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) {
        rustix::io::write(&self.0, frame).unwrap();
    }

    /// Sends a frame if there is room.
    pub(crate) fn try_send(&self, frame: &[u8]) -> bool {
        rustix::io::write(&self.0, frame).is_ok()
    }

    /// The next frame that `is_it`, within `time`. The kernel shows it without its outer tag.
    pub(crate) fn receive_within(
        &self,
        time: Duration,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let begin = Instant::now();
        let mut buffer = [0; 4096];
        while let Some(left) = time.checked_sub(begin.elapsed()) {
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap(),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&left)).unwrap();
            match rustix::io::read(&self.0, &mut buffer) {
                Ok(n) if is_it(&buffer[..n]) => return Some(buffer[..n].to_vec()),
                Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
                Err(e) => panic!("{e}"),
            }
        }
        None
    }

    /// The next frame that `is_it`; it must come.
    pub(crate) fn receive(&self, is_it: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        self.receive_within(PATIENCE, is_it)
            .expect("the frame comes")
    }
}

fn open(index: i32) -> io::Result<OwnedFd> {
    let all = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
    // SAFETY: a plain call; its answer is checked.
    let fd = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is open and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let on = 1i32;
    let len = libc::socklen_t::try_from(size_of_val(&on)).unwrap();
    // SAFETY: the fd is open, `on` valid for the call and of the length that is said.
    let done = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            len,
        )
    };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    // SAFETY: all-zero is a valid address of this kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_protocol = all;
    address.sll_ifindex = index;
    let len = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
    // SAFETY: the fd is open, `address` valid for the call and of the length that is said.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(socket)
    }
}
