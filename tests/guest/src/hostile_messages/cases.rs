//! The table of cases.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Expect, MessageFault, Messenger, REGION_BYTES};
use crate::options::feature;
use crate::raw::{Message, REPLY, VERSION, request};
use Expect::{Close, Refuse, Survive};

const fn fault(
    row: &'static str,
    expect: Expect,
    name: &'static str,
    inject: fn(&mut Messenger) -> io::Result<()>,
) -> MessageFault {
    MessageFault {
        row,
        name,
        expect,
        inject,
    }
}

/// All cases.
pub const MESSAGE_FAULTS: &[MessageFault] = &[
    fault("M1", Close, "header cut after one byte", |m| {
        m.send_cut(&Message::new(request::GET_FEATURES, &[]), 1)
    }),
    fault("M1", Close, "header cut after eleven bytes", |m| {
        m.send_cut(&Message::new(request::GET_FEATURES, &[]), 11)
    }),
    fault("M2", Refuse, "size 0 where eight are due", |m| {
        m.send(Message::new(request::SET_FEATURES, &[]))
    }),
    fault("M2", Refuse, "size one less", |m| {
        m.send(Message::new(request::SET_FEATURES, &[0; 7]))
    }),
    fault("M2", Refuse, "size one more", |m| {
        m.send(Message::new(request::SET_FEATURES, &[0; 9]))
    }),
    fault("M2", Refuse, "size 1", |m| {
        m.send(Message::new(request::SET_VRING_NUM, &[0]))
    }),
    fault("M2", Refuse, "size 4096", |m| {
        m.send(Message::new(request::SET_FEATURES, &[0; 4096]))
    }),
    fault("M2", Close, "size 4 GiB - 1", |m| {
        m.send(Message::new(request::SET_FEATURES, &[0; 64]).size(u32::MAX))?;
        m.stream.shutdown(std::net::Shutdown::Write)
    }),
    fault("M3", Refuse, "request 0", |m| m.send(Message::new(0, &[]))),
    fault("M3", Refuse, "request 200", |m| {
        m.send(Message::new(200, &[]))
    }),
    fault("M3", Refuse, "request 4 Gi - 1", |m| {
        m.send(Message::new(u32::MAX, &[]))
    }),
    fault("M3", Refuse, "version 0", |m| {
        m.send(Message::with_u64(request::SET_FEATURES, 0).flags(0))
    }),
    fault("M3", Refuse, "version 2", |m| {
        m.send(Message::with_u64(request::SET_FEATURES, 0).flags(2))
    }),
    fault("M3", Refuse, "a reply nobody asked for", |m| {
        m.send(Message::with_u64(request::SET_FEATURES, 0).flags(VERSION | REPLY))
    }),
    fault("M4", Refuse, "an fd where none is due", |m| {
        let fds = [m.memfd()];
        m.send(Message::with_u64(request::SET_FEATURES, 0).fds(fds))
    }),
    fault("M4", Refuse, "eight fds where none is due", |m| {
        let fds = [m.memfd(); 8];
        m.send(Message::with_u64(request::SET_FEATURES, 0).fds(fds))
    }),
    fault("M4", Refuse, "253 fds", |m| {
        let fds = [m.memfd(); 253];
        m.send(Message::with_u64(request::SET_FEATURES, 0).fds(fds))
    }),
    fault("M4", Refuse, "no fd with a region", |m| {
        let words = m.words();
        m.send(Message::mem_table(1, &[(words, 0)]).fds(None))
    }),
    fault("M4", Refuse, "two fds with one region", |m| {
        let (words, fd) = (m.words(), m.memfd());
        m.send(Message::mem_table(1, &[(words, fd)]).fds([fd, fd]))
    }),
    fault("M4", Refuse, "two kick fds", |m| {
        let fds = [eventfd()?, eventfd()?];
        let raw = fds.each_ref().map(AsRawFd::as_raw_fd);
        m.send(Message::with_u64(request::SET_VRING_KICK, 0).fds(raw))
    }),
    fault("M4", Refuse, "kick without fd and without saying so", |m| {
        m.send(Message::with_u64(request::SET_VRING_KICK, 0))
    }),
    fault("M5", Close, "payload cut", |m| {
        m.send_cut(&Message::vring_addr(0, 0, 0, 0), 30)
    }),
    fault("M5", Close, "payload cut, with an fd", |m| {
        let (words, fd) = (m.words(), m.memfd());
        m.send_cut(&Message::mem_table(1, &[(words, fd)]), 20)
    }),
    fault("M6", Refuse, "memory is a directory", |m| {
        region_of(m, &File::open("/")?)
    }),
    fault("M6", Refuse, "memory is /dev/null", |m| {
        region_of(
            m,
            &File::options().read(true).write(true).open("/dev/null")?,
        )
    }),
    fault("M6", Refuse, "memory is a socket", |m| {
        let (one, _two) = UnixStream::pair()?;
        region_of(m, &one)
    }),
    fault("M6", Refuse, "memory is a pipe", |m| {
        let (_r, w) = io::pipe()?;
        region_of(m, &w)
    }),
    fault("M6", Refuse, "memory is read-only", |m| {
        let path = format!("/proc/self/fd/{}", m.memfd());
        region_of(m, &File::open(path)?)
    }),
    fault("M6", Survive, "kick is /dev/null", |m| {
        kick_with(m, &File::open("/dev/null")?)
    }),
    fault("M6", Survive, "kick is a directory", |m| {
        kick_with(m, &File::open("/")?)
    }),
    fault("M6", Survive, "kick is an empty pipe", |m| {
        let (r, w) = io::pipe()?;
        m.kept.push(w.into());
        kick_with(m, &r)
    }),
    fault("M6", Survive, "kick is a pipe without a writer", |m| {
        kick_with(m, &io::pipe()?.0)
    }),
    fault("M6", Survive, "kick is a socket", |m| {
        let (one, _two) = UnixStream::pair()?;
        kick_with(m, &one)
    }),
    fault("M6", Survive, "kick is memory", |m| {
        let file = m.memory.file().expect("a memfd").try_clone()?;
        kick_with(m, &file)
    }),
    fault("M6", Survive, "call is a full pipe's reader", |m| {
        let (r, _w) = io::pipe()?;
        m.send(Message::with_u64(request::SET_VRING_CALL, 0).fds([r.as_raw_fd()]))
    }),
    fault("M7", Refuse, "size of ring 65537", |m| {
        m.send(Message::vring(request::SET_VRING_NUM, 65537, 256))
    }),
    fault("M7", Refuse, "size of ring 256", |m| {
        m.send(Message::vring(request::SET_VRING_NUM, 256, 256))
    }),
    fault("M7", Refuse, "size of ring 4 Gi - 1", |m| {
        m.send(Message::vring(request::SET_VRING_NUM, u32::MAX, 256))
    }),
    fault("M7", Refuse, "address of ring 65536", |m| {
        m.share()?;
        let uva = m.spec().uva;
        m.send(Message::vring_addr(65536, uva, uva, uva))
    }),
    fault("M7", Refuse, "base of ring 4 Gi - 1", |m| {
        m.send(Message::vring(request::SET_VRING_BASE, u32::MAX, 0))
    }),
    fault("M7", Refuse, "enabling ring 65537", |m| {
        m.send(Message::vring(request::SET_VRING_ENABLE, 65537, 1))
    }),
    fault("M7", Refuse, "kick of ring 255", |m| {
        m.send(Message::with_u64(request::SET_VRING_KICK, 255 | 0x100))
    }),
    fault("M7", Refuse, "stopping ring 65536", |m| {
        m.send(Message::vring(request::GET_VRING_BASE, 65536, 0))
    }),
    fault("M8", Refuse, "ring of 0", |m| {
        m.send(Message::vring(request::SET_VRING_NUM, 0, 0))
    }),
    fault("M8", Refuse, "ring of 3", |m| {
        m.send(Message::vring(request::SET_VRING_NUM, 0, 3))
    }),
    fault("M8", Refuse, "ring of 32769", |m| {
        m.send(Message::vring(request::SET_VRING_NUM, 0, 32769))
    }),
    fault("M8", Refuse, "ring of 65536", |m| {
        m.send(Message::vring(request::SET_VRING_NUM, 0, 65536))
    }),
    fault("M8", Refuse, "ring of 65536 + 256", |m| {
        m.send(Message::vring(request::SET_VRING_NUM, 0, 65536 + 256))
    }),
    fault("M9", Survive, "kick before memory", |m| {
        m.send(Message::with_u64(request::SET_VRING_KICK, 0x100))
    }),
    fault("M9", Survive, "enabled before its address", |m| {
        m.share()?;
        m.send(Message::vring(request::SET_VRING_ENABLE, 0, 1))
    }),
    fault("M9", Survive, "address before memory", |m| {
        let uva = m.spec().uva;
        m.send(Message::vring_addr(0, uva, uva + 4096, uva + 8192))
    }),
    fault("M9", Survive, "stopped twice, never set up", |m| {
        (0..2).try_for_each(|_| m.send(Message::vring(request::GET_VRING_BASE, 0, 0)))
    }),
    fault("M9", Survive, "size changed while it runs", |m| {
        m.share()?;
        m.ring(1, 256, [0, 8192, 16384])?;
        m.send(Message::vring(request::SET_VRING_NUM, 1, 128))
    }),
    fault("M9", Survive, "address changed while it runs", |m| {
        m.share()?;
        m.ring(1, 256, [0, 8192, 16384])?;
        let uva = m.spec().uva;
        m.send(Message::vring_addr(
            1,
            uva + 32768,
            uva + 65536,
            uva + 49152,
        ))
    }),
    fault("M10", Refuse, "features that weren't offered", |m| {
        let all = !m.offered;
        m.send(Message::with_u64(request::SET_FEATURES, all))
    }),
    fault("M10", Survive, "features changed while a ring runs", |m| {
        m.share()?;
        m.ring(1, 256, [0, 8192, 16384])?;
        m.send(Message::with_u64(
            request::SET_FEATURES,
            feature::PROTOCOL_FEATURES,
        ))
    }),
    fault(
        "M11",
        Refuse,
        "protocol features that weren't offered",
        |m| m.send(Message::with_u64(request::SET_PROTOCOL_FEATURES, u64::MAX)),
    ),
    fault("M14", Refuse, "configuration read past its end", |m| {
        m.send(Message::new(request::GET_CONFIG, &[0xff; 12]))
    }),
    fault("M14", Refuse, "configuration written", |m| {
        m.send(Message::new(request::SET_CONFIG, &[0; 13]))
    }),
    fault("M15", Refuse, "MTU 0", |m| {
        m.send(Message::with_u64(request::NET_SET_MTU, 0))
    }),
    fault("M15", Refuse, "MTU 65536", |m| {
        m.send(Message::with_u64(request::NET_SET_MTU, 65536))
    }),
    fault(
        "M16",
        Survive,
        "ten thousand requests, no answer read before the last",
        flood_unread,
    ),
    fault("R1", Refuse, "no regions", |m| {
        m.send(Message::mem_table(0, &[]))
    }),
    fault("R1", Survive, "nine regions", |m| {
        let words = m.words();
        m.table(
            &(0..9)
                .map(|i| shifted(words, i * REGION_BYTES))
                .collect::<Vec<_>>(),
        )
    }),
    fault("R1", Refuse, "a count of 4 Gi - 1", |m| {
        let (words, fd) = (m.words(), m.memfd());
        m.send(Message::mem_table(u32::MAX, &[(words, fd)]))
    }),
    fault(
        "R2",
        Refuse,
        "regions overlap in guest-physical space",
        |m| {
            let words = m.words();
            let mut other = shifted(words, REGION_BYTES);
            other[0] = words[0] + 4096;
            m.table(&[words, other])
        },
    ),
    fault("R2", Refuse, "regions overlap in user space", |m| {
        let words = m.words();
        let mut other = shifted(words, REGION_BYTES);
        other[2] = words[2] + 4096;
        m.table(&[words, other])
    }),
    fault("R2", Survive, "the same memory at two places", |m| {
        let words = m.words();
        m.table(&[words, shifted(words, REGION_BYTES)])
    }),
    fault("R3", Refuse, "region of no bytes", |m| with_word(m, 1, 0)),
    fault("R3", Refuse, "guest-physical address wraps", |m| {
        with_word(m, 0, u64::MAX - 4095)
    }),
    fault("R3", Refuse, "user address wraps", |m| {
        with_word(m, 2, u64::MAX - 4095)
    }),
    fault("R3", Refuse, "offset wraps", |m| {
        with_word(m, 3, u64::MAX - 4095)
    }),
    fault("R3", Refuse, "length of 16 EiB", |m| {
        with_word(m, 1, u64::MAX)
    }),
    fault("R4", Survive, "length isn't of whole pages", |m| {
        with_word(m, 1, REGION_BYTES - 100)
    }),
    fault("R4", Survive, "offset isn't of whole pages", |m| {
        let mut words = m.words();
        words[3] += 100;
        words[1] -= 4096;
        m.table(&[words])
    }),
    fault("R5", Refuse, "region longer than its file", |m| {
        with_word(m, 1, REGION_BYTES + 4096)
    }),
    fault("R5", Refuse, "region behind its file", |m| {
        with_word(m, 3, 1 << 30)
    }),
    fault("R5", Survive, "file shortened while a ring runs", |m| {
        m.share()?;
        m.ring(1, 256, [0, 8192, 16384])?;
        m.memory.file().expect("a memfd").set_len(0)
    }),
    fault("R5", Survive, "file empty before it is shared", |m| {
        m.memory.file().expect("a memfd").set_len(0)?;
        m.share()
    }),
    fault(
        "R6",
        Survive,
        "memory shared again while a ring runs",
        |m| {
            m.share()?;
            m.ring(1, 256, [0, 8192, 16384])?;
            m.share()
        },
    ),
    fault("R7", Survive, "region of a live ring removed", |m| {
        m.share()?;
        m.ring(1, 256, [0, 8192, 16384])?;
        let words = m.words();
        m.send(Message::mem_region(request::REM_MEM_REG, words, None))
    }),
    fault("R7", Refuse, "region removed that never was", |m| {
        let words = m.words();
        m.send(Message::mem_region(request::REM_MEM_REG, words, None))
    }),
    fault("R9", Survive, "a region of a TiB of nothing", |m| {
        m.memory.file().expect("a memfd").set_len(1 << 41)?;
        with_word(m, 1, 1 << 40)
    }),
    fault("R9", Survive, "more regions than slots", many_regions),
    fault(
        "R10",
        Survive,
        "memory replaced, the ring elsewhere in it",
        |m| {
            m.share()?;
            m.ring(1, 256, [0, 8192, 16384])?;
            let mut words = m.words();
            words[3] = 0;
            m.table(&[words])
        },
    ),
    fault("Q1", Survive, "descriptors at an odd address", |m| {
        m.share()?;
        m.ring(1, 256, [1, 8192, 16384])
    }),
    fault("Q1", Survive, "avail ring at an odd address", |m| {
        m.share()?;
        m.ring(1, 256, [0, 8193, 16384])
    }),
    fault("Q1", Survive, "used ring at 2 mod 4", |m| {
        m.share()?;
        m.ring(1, 256, [0, 8192, 16386])
    }),
    fault("Q2", Survive, "descriptors end one byte beyond", |m| {
        m.share()?;
        m.ring(1, 256, [REGION_BYTES - 4096 + 16, 8192, 16384])
    }),
    fault("Q2", Survive, "avail ring's event word beyond", |m| {
        m.share()?;
        m.ring(1, 256, [0, REGION_BYTES - 516, 16384])
    }),
    fault("Q2", Survive, "used ring's event word beyond", |m| {
        m.share()?;
        m.ring(1, 256, [0, 8192, REGION_BYTES - 2052])
    }),
    fault("Q2", Survive, "ring at the end of all addresses", |m| {
        m.share()?;
        let uva = m.spec().uva;
        m.ring(1, 256, [u64::MAX - uva - 63; 3])
    }),
    fault("Q3", Survive, "all three parts at one place", |m| {
        m.share()?;
        m.ring(1, 256, [0; 3])
    }),
    fault("Q3", Survive, "two rings at one place", |m| {
        m.share()?;
        m.ring(0, 256, [0, 8192, 16384])?;
        m.ring(1, 256, [0, 8192, 16384])
    }),
    fault("Q5", Survive, "base 65535", |m| {
        m.share()?;
        m.send(Message::vring(request::SET_VRING_BASE, 1, 65535))
    }),
    fault("Q5", Survive, "base over 16 bits", |m| {
        m.share()?;
        m.send(Message::vring(request::SET_VRING_BASE, 1, 65536))
    }),
    fault("Q6", Survive, "enabled without memory", |m| {
        m.ring(1, 256, [0, 8192, 16384])
    }),
    fault("Q7", Survive, "receive ring alone", |m| {
        m.share()?;
        m.ring(0, 256, [0, 8192, 16384])
    }),
];

fn eventfd() -> io::Result<vmm_sys_util::eventfd::EventFd> {
    vmm_sys_util::eventfd::EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK)
}

fn region_of(m: &mut Messenger, file: &impl AsRawFd) -> io::Result<()> {
    let mut words = m.words();
    words[3] = 0;
    m.send(Message::mem_table(1, &[(words, file.as_raw_fd())]))
}

fn kick_with(m: &mut Messenger, file: &impl AsRawFd) -> io::Result<()> {
    m.share()?;
    m.ring(1, 256, [0, 8192, 16384])?;
    m.send(Message::with_u64(request::SET_VRING_KICK, 1).fds([file.as_raw_fd()]))
}

fn with_word(m: &mut Messenger, i: usize, value: u64) -> io::Result<()> {
    let mut words = m.words();
    words[i] = value;
    m.table(&[words])
}

/// A region as long, further on in both address spaces.
fn shifted(words: [u64; 4], by: u64) -> [u64; 4] {
    [words[0] + by, words[1], words[2] + by, words[3]]
}

/// Without asking for answers, which nobody would read meanwhile.
fn many_regions(m: &mut Messenger) -> io::Result<()> {
    let (words, fd) = (m.words(), m.memfd());
    let add = |i| {
        Message::mem_region(
            request::ADD_MEM_REG,
            shifted(words, i * REGION_BYTES),
            Some(fd),
        )
    };
    (0..600).try_for_each(|i| add(i).send(&m.stream))
}

fn flood_unread(m: &mut Messenger) -> io::Result<()> {
    m.stream
        .set_write_timeout(Some(Duration::from_millis(500)))?;
    for _ in 0..10_000 {
        match Message::new(request::GET_FEATURES, &[]).send(&m.stream) {
            Ok(()) => {}
            // The switch doesn't read on before its answers are: that's fair.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
