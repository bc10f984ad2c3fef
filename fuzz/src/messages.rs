//! A front-end's messages, right and wrong, with files, right and wrong. Whatever it says, the
//! daemon comes to an end with it, has answered in whole messages, and keeps nothing of it: no
//! queue, no memory, no file.

use std::fs::File;
use std::io::{Read, pipe};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use guest::raw::{Message, NEED_REPLY, REPLY, request};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::input::Input;

/// Messages of one input: their answers fit into a socket that nobody reads.
const MESSAGES_MAX: usize = 48;
/// More files than the daemon's library takes with a message.
const FILES_MAX: usize = 40;
const MEMORY_BYTES: u64 = 1 << 20;
/// Where a front-end that means well has its memory, in its own process.
const UVA: u64 = 0x7f00_0000_0000;
const GPA: u64 = 0x1_0000_0000;

/// Runs one input.
pub fn run(data: &[u8]) {
    let files = FILES.get_or_init(Files::new);
    let n_open = lowest_free_fd();
    let mut input = Input(data);
    let n_pairs = input.one_of(&[1, 2, 16]);
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut n_messages = 0;
    while !input.is_empty() && n_messages < MESSAGES_MAX {
        let last = message(&mut input, files);
        let n = if input.byte() == 0xff {
            usize::from(input.byte())
        } else {
            usize::MAX
        };
        last.send_first(&ours, n).expect("room in a socket");
        n_messages += 1;
    }
    ours.shutdown(Shutdown::Write).expect("an open socket");
    weir::fuzzing::serve(theirs, n_pairs);
    let mut answers = Vec::new();
    // A connection that was closed with something left unread is reset; what was answered before
    // that can be read.
    let _ = ours.read_to_end(&mut answers);
    check_answers(&answers, n_messages);
    drop(ours);
    assert_eq!(lowest_free_fd(), n_open, "a file is left open");
}

fn check_answers(mut answers: &[u8], n_messages: usize) {
    let mut n = 0;
    while let Some((header, rest)) = answers.split_at_checked(12) {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        assert_eq!(word(4) & 7, REPLY | 1, "flags of an answer: {header:02x?}");
        answers = rest.get(word(8) as usize..).expect("all of an answer");
        n += 1;
    }
    assert!(answers.is_empty(), "half an answer: {answers:02x?}");
    assert!(n <= n_messages, "{n} answers to {n_messages} messages");
}

/// The number that the next file would get: as before, if nothing was left open.
fn lowest_free_fd() -> RawFd {
    File::open("/dev/null").expect("/dev/null").as_raw_fd()
}

static FILES: OnceLock<Files> = OnceLock::new();

/// What a front-end may send along, opened once.
struct Files(Vec<OwnedFd>);

impl Files {
    fn new() -> Self {
        let (reader, writer) = pipe().expect("a pipe");
        let files: Vec<OwnedFd> = vec![
            memory(MEMORY_BYTES),
            eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"),
            memory(100),
            File::open("/dev/null").expect("/dev/null").into(),
            reader.into(),
            writer.into(),
            UnixStream::pair().expect("a pair of sockets").0.into(),
            memory(0),
        ];
        Self(files)
    }

    fn memory(&self) -> RawFd {
        self.0[0].as_raw_fd()
    }

    fn event(&self) -> RawFd {
        self.0[1].as_raw_fd()
    }

    fn any(&self, input: &mut Input<'_>) -> RawFd {
        self.0[usize::from(input.byte()) % self.0.len()].as_raw_fd()
    }
}

fn memory(len: u64) -> OwnedFd {
    let file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a memfd"));
    file.set_len(len).expect("room");
    file.into()
}

fn message(input: &mut Input<'_>, files: &Files) -> Message {
    let kind = input.byte();
    let mut message = match kind {
        0..=199 => plausible(input, files, kind),
        200..=219 => Message::new(u32::from(input.byte()) % 48, &body(input)),
        _ => Message::new(input.u32(), &body(input)),
    };
    let how = input.byte();
    if how & 1 != 0 {
        message.flags |= NEED_REPLY;
    }
    match how >> 1 {
        100..=110 => message.flags = input.u32(),
        111..=115 => message.size = input.u32() % 5000,
        116..=117 => message.size = input.u32(),
        118..=122 => message.fds.clear(),
        123..=127 => {
            let n = usize::from(input.byte()) % FILES_MAX;
            message.fds = (0..n).map(|_| files.any(input)).collect();
        }
        _ => {}
    }
    message
}

fn body(input: &mut Input<'_>) -> Vec<u8> {
    let n = usize::from(input.byte());
    input.take(n).to_vec()
}

/// A message as front-ends send it, at least in its form.
fn plausible(input: &mut Input<'_>, files: &Files, kind: u8) -> Message {
    use request::*;
    match kind % 20 {
        0 => Message::new(
            input.one_of(&[
                GET_FEATURES,
                GET_PROTOCOL_FEATURES,
                GET_QUEUE_NUM,
                GET_MAX_MEM_SLOTS,
            ]),
            &[],
        ),
        1 => Message::with_u64(SET_FEATURES, features(input)),
        2 => Message::with_u64(
            SET_PROTOCOL_FEATURES,
            input.one_of(&[0x8009, 0, 8, 1, u64::MAX, 0x8000]),
        ),
        3 => Message::new(input.one_of(&[SET_OWNER, RESET_OWNER, RESET_DEVICE]), &[]),
        4..=5 => mem_table(input, files),
        6 => {
            let words = region(input);
            Message::mem_region(ADD_MEM_REG, words, Some(files.memory()))
        }
        7 => Message::mem_region(REM_MEM_REG, region(input), None),
        8..=9 => Message::vring(SET_VRING_NUM, queue(input), number(input)),
        10..=11 => {
            let (index, flags) = (
                queue(input),
                if input.byte() > 250 { input.u32() } else { 0 },
            );
            let [desc, used, avail] = [place(input), place(input), place(input)];
            let mut message = Message::vring_addr(index, desc, used, avail);
            message.payload[4..8].copy_from_slice(&flags.to_le_bytes());
            message
        }
        12 => Message::vring(SET_VRING_BASE, queue(input), number(input)),
        13 => Message::vring(GET_VRING_BASE, queue(input), 0),
        14..=16 => {
            let request =
                [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR][usize::from(kind % 20 - 14)];
            let without = input.byte() > 200;
            let word = u64::from(queue(input)) | if without { 0x100 } else { 0 };
            Message::with_u64(request, word).fds((!without).then(|| files.event()))
        }
        17..=18 => Message::vring(
            SET_VRING_ENABLE,
            queue(input),
            u32::from(input.one_of(&[1u8, 0, 2])),
        ),
        _ => Message::with_u64(
            input.one_of(&[SET_LOG_BASE, SEND_RARP, NET_SET_MTU, GET_CONFIG, SET_CONFIG]),
            input.u64(),
        ),
    }
}

/// RESET_OWNER and RESET_DEVICE, which no guest of ours sends.
const RESET_OWNER: u32 = 4;
const RESET_DEVICE: u32 = 34;

fn features(input: &mut Input<'_>) -> u64 {
    const OFFERED: u64 = 1 << 15 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 32;
    match input.byte() {
        0..=63 => OFFERED & !(1 << 22),
        64..=127 => OFFERED,
        128..=191 => OFFERED & input.u64(),
        192..=223 => 1 << 30,
        224..=239 => 0,
        _ => input.u64(),
    }
}

fn queue(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        n @ 0..=239 => u32::from(n) % 4,
        n @ 240..=251 => u32::from(n) - 220,
        _ => input.u32(),
    }
}

fn number(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        n @ 0..=223 => 1 << (n % 17),
        _ => input.u32(),
    }
}

/// An address of a ring: in the memory, at its edges, or anywhere.
fn place(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        n @ 0..=199 => UVA + u64::from(n) * 0x800,
        n @ 200..=219 => (UVA + MEMORY_BYTES).wrapping_sub(u64::from(n - 200) * 16),
        n @ 220..=229 => UVA.wrapping_sub(u64::from(n - 220) * 16),
        n @ 230..=239 => u64::MAX - 15 * u64::from(n - 230),
        _ => input.u64(),
    }
}

/// Guest address, length, user address, offset in the file.
fn region(input: &mut Input<'_>) -> [u64; 4] {
    let n = u64::from(input.byte() % 4);
    let part = MEMORY_BYTES / 4;
    let mut words = match input.byte() {
        0..=99 => [GPA, MEMORY_BYTES, UVA, 0],
        _ => [GPA + n * part, part, UVA + n * part, n * part],
    };
    let change = input.byte();
    if change >= 220 {
        words[usize::from(change % 4)] = match input.byte() {
            0 => 0,
            1 => u64::MAX,
            n @ 2..=99 => u64::from(n),
            n @ 100..=149 => u64::MAX - u64::from(n) * 4096,
            _ => input.u64(),
        };
    }
    words
}

fn mem_table(input: &mut Input<'_>, files: &Files) -> Message {
    let n = match input.byte() {
        0..=199 => 1,
        n => u32::from(n - 200) % 10,
    };
    let regions: Vec<_> = (0..n)
        .map(|_| {
            (
                region(input),
                if input.byte() > 240 {
                    files.any(input)
                } else {
                    files.memory()
                },
            )
        })
        .collect();
    let count = if input.byte() > 240 { input.u32() } else { n };
    Message::mem_table(count, &regions)
}
