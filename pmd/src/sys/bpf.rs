//! The one XDP program: frames of a queue that has a socket go there, all others on to the kernel.
//! Six instructions, loaded by bpf(2) as they are, attached by a link that ends with its file
//! descriptor, also when the process is killed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::SetupError;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// In the driver, before there is a socket buffer.
    Native,
    /// Behind it, with any driver (`skb` mode).
    Skb,
}

const MAP_CREATE: i64 = 0;
const MAP_UPDATE_ELEM: i64 = 2;
const PROG_LOAD: i64 = 5;
const LINK_CREATE: i64 = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// One eBPF instruction.
#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    op: u8,
    /// Destination register below, source register above.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(op: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        op,
        registers: to | from << 4,
        offset,
        immediate,
    }
}

/// `return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS)`.
fn program(sockets: &OwnedFd) -> [Instruction; 6] {
    [
        // r2 = ctx->rx_queue_index, sixteen bytes into the context
        instruction(0x61, 2, 1, 16, 0),
        // r1 = the map, two places long; source 1 says that the immediate is a file descriptor
        instruction(0x18, 1, 1, 0, sockets.as_raw_fd()),
        instruction(0x00, 0, 0, 0, 0),
        // r3 = XDP_PASS, the answer for a queue without a socket
        instruction(0xb7, 3, 0, 0, 2),
        // call bpf_redirect_map; return what it says
        instruction(0x85, 0, 0, 0, 51),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

/// `union bpf_attr`: fields at their places, all others zero.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Attributes {
    fn new() -> Self {
        Self([0; 128])
    }

    fn u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn pointer<T>(&mut self, at: usize, to: *const T) -> &mut Self {
        self.0[at..at + 8].copy_from_slice(&(to as u64).to_ne_bytes());
        self
    }

    fn fd(&mut self, at: usize, fd: &OwnedFd) -> &mut Self {
        self.u32(at, fd.as_raw_fd().cast_unsigned())
    }

    /// Calls bpf(2).
    ///
    /// # Safety
    /// Pointers among the fields lead to what this command reads or writes, and are valid for the
    /// call.
    unsafe fn call(&mut self, command: i64) -> io::Result<i32> {
        // SAFETY: the caller's promise; the structure is as long as is said.
        let answer =
            unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if answer < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(i32::try_from(answer).unwrap_or(-1))
        }
    }

    /// The same for a command that answers with a new file.
    ///
    /// # Safety
    /// As [`Attributes::call`].
    unsafe fn open(&mut self, command: i64) -> io::Result<OwnedFd> {
        // SAFETY: the caller's promise; the new file is nobody else's.
        unsafe { self.call(command).map(|fd| OwnedFd::from_raw_fd(fd)) }
    }
}

/// The program on a device. Gone when dropped.
#[derive(Debug)]
pub struct XdpLink {
    sockets: OwnedFd,
    _link: OwnedFd,
}

impl XdpLink {
    /// Loads the program and attaches it to the device with this index. `n_queues`: receive queues
    /// that may get a socket; the others, and these until they are served, go on to the kernel.
    ///
    /// # Errors
    /// When a capability is missing, the device can't have it in this mode, or has another program.
    pub fn attach(ifindex: u32, attach: Attach, n_queues: u32) -> Result<Self, SetupError> {
        let fail = |tried: &str| {
            let tried = tried.to_owned();
            move |error: io::Error| {
                SetupError::new(format!("{tried}: {error}{}", advice(&error, attach)))
            }
        };
        let sockets = sockets(n_queues).map_err(fail("cannot make the map of AF_XDP sockets"))?;
        let program = load(&sockets).map_err(fail("cannot load the XDP program"))?;
        let flags = match attach {
            Attach::Native => XDP_FLAGS_DRV_MODE,
            Attach::Skb => XDP_FLAGS_SKB_MODE,
        };
        let mut link = Attributes::new();
        link.fd(0, &program)
            .u32(4, ifindex)
            .u32(8, ATTACH_TYPE_XDP)
            .u32(12, flags);
        // SAFETY: the command reads no pointers.
        let link = unsafe { link.open(LINK_CREATE) };
        let link = link.map_err(fail(match attach {
            Attach::Native => "cannot attach the XDP program in native mode",
            Attach::Skb => "cannot attach the XDP program in skb mode",
        }))?;
        Ok(Self {
            sockets,
            _link: link,
        })
    }

    /// From now on the frames of this queue go to this socket, which is bound to it.
    ///
    /// # Errors
    /// When the queue is beyond those asked for, or the socket is none of AF_XDP.
    pub fn serve(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SetupError> {
        let value = socket.as_raw_fd();
        let mut entry = Attributes::new();
        entry.fd(0, &self.sockets).pointer(8, &raw const queue);
        entry.pointer(16, &raw const value);
        // SAFETY: key and value are four bytes each, as the map was made with, and live on the
        // stack.
        unsafe { entry.call(MAP_UPDATE_ELEM) }
            .map(|_| ())
            .map_err(|error| {
                SetupError::new(format!(
                    "cannot lead queue {queue} to its AF_XDP socket: {error}"
                ))
            })
    }
}

fn sockets(n_queues: u32) -> io::Result<OwnedFd> {
    let mut map = Attributes::new();
    map.u32(0, MAP_TYPE_XSKMAP)
        .u32(4, 4)
        .u32(8, 4)
        .u32(12, n_queues.max(1));
    // SAFETY: the command reads no pointers.
    unsafe { map.open(MAP_CREATE) }
}

fn load(sockets: &OwnedFd) -> io::Result<OwnedFd> {
    let instructions = program(sockets);
    let license = c"GPL";
    let mut load = Attributes::new();
    load.u32(0, PROG_TYPE_XDP)
        .u32(4, 6)
        .pointer(8, instructions.as_ptr())
        .pointer(16, license.as_ptr());
    load.0[48..52].copy_from_slice(b"weir");
    load.u32(68, ATTACH_TYPE_XDP);
    // SAFETY: instructions and license live on the stack and are as long as is said; no log is
    // asked for.
    unsafe { load.open(PROG_LOAD) }
}

/// What to do about it.
fn advice(error: &io::Error, attach: Attach) -> &'static str {
    match (error.raw_os_error(), attach) {
        (Some(libc::EPERM), _) => {
            " (weir needs CAP_BPF and CAP_NET_ADMIN: run it as root or give it both)"
        }
        (Some(libc::EBUSY), _) => {
            " (the device has an XDP program already: ip link shows it as xdp, and ip link set dev \
            DEVICE xdp off removes \
             it; one that was attached by a link goes with the process that holds it)"
        }
        (Some(libc::EOPNOTSUPP | libc::EINVAL), Attach::Native) => {
            " (its driver has no XDP, or not now: mode: skb works with any driver)"
        }
        (Some(libc::ERANGE), _) => {
            " (the MTU of the device, or of a veth's other end, is too large for XDP without \
            multi-buffer: 3,498 is the most)"
        }
        (Some(libc::ENODEV), _) => " (the device is gone)",
        _ => "",
    }
}
