//! A front-end that misbehaves: named cases of messages, regions and ring set-ups that break the
//! rules, and what the switch should answer. Row names (M4, R5, Q2, ...) are those of the threat
//! table that the tests follow.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::frontend::Socket;
use crate::memory::{GuestMemory, PAGE_BYTES, RegionSpec};
use crate::options::{Backing, feature};
use crate::raw::{self, Message, NEED_REPLY, request};

mod cases;

pub use cases::MESSAGE_FAULTS;

/// What the switch should answer. In every case it lives on, and nobody else is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It closes the connection.
    Close,
    /// It closes the connection or answers with an error.
    Refuse,
    /// Anything: refuse, or accept and stay safe.
    Survive,
}

/// What it did answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The connection is closed.
    Closed,
    /// An error came back.
    Refused,
    /// No error came back, and the connection lives.
    Accepted,
    /// The connection is open, and nothing comes.
    Silent,
}

impl Expect {
    /// Whether that is what was to be expected. Silence never is.
    pub fn allows(self, answer: Answer) -> bool {
        match self {
            Self::Close => answer == Answer::Closed,
            Self::Refuse => matches!(answer, Answer::Closed | Answer::Refused),
            Self::Survive => answer != Answer::Silent,
        }
    }
}

/// A named way to misbehave.
#[derive(Clone, Copy, Debug)]
pub struct MessageFault {
    /// Row of the threat table.
    pub row: &'static str,
    /// The case in words.
    pub name: &'static str,
    /// What the switch should answer.
    pub expect: Expect,
    inject: fn(&mut Messenger) -> io::Result<()>,
}

/// A raw connection with features negotiated and memory at hand, not yet shared.
#[derive(Debug)]
pub struct Messenger {
    stream: UnixStream,
    memory: GuestMemory,
    offered: u64,
    reply_ack: bool,
    /// Fds that have to live as long as the connection.
    kept: Vec<OwnedFd>,
}

/// Bytes of the one region.
const REGION_BYTES: u64 = 256 << 10;

impl Messenger {
    /// Connects and negotiates; waits `patience` for the switch and for each of its answers.
    ///
    /// # Errors
    /// What the socket says.
    pub fn connect(socket: &Socket, patience: Duration) -> io::Result<Self> {
        let stream = socket.open(patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let offered = raw::ask_u64(&stream, request::GET_FEATURES)?;
        Message::new(request::SET_OWNER, &[]).send(&stream)?;
        let protocol = if offered & feature::PROTOCOL_FEATURES == 0 {
            0
        } else {
            raw::ask_u64(&stream, request::GET_PROTOCOL_FEATURES)? & PROTOCOL_WANTED
        };
        if protocol != 0 {
            Message::with_u64(request::SET_PROTOCOL_FEATURES, protocol).send(&stream)?;
        }
        let wanted = feature::PROTOCOL_FEATURES | feature::VERSION_1 | feature::MRG_RXBUF;
        Message::with_u64(request::SET_FEATURES, offered & wanted).send(&stream)?;
        let (gpa, uva) = (0x4000_0000, 0x5a00_0000_0000);
        let spec = RegionSpec {
            gpa,
            uva,
            len: REGION_BYTES,
            file_offset: PAGE_BYTES,
        };
        let memory = GuestMemory::new(&[spec], Backing::Memfd)?;
        Ok(Self {
            stream,
            memory,
            offered,
            reply_ack: protocol & REPLY_ACK != 0,
            kept: Vec::new(),
        })
    }

    /// Misbehaves, then asks for the features once more and listens to all that comes until then.
    pub fn run(&mut self, fault: &MessageFault) -> Answer {
        if let Err(e) = (fault.inject)(self) {
            return answer_of(&e);
        }
        self.listen()
    }

    /// Whether the back-end answers every message that asks for it.
    pub fn has_reply_ack(&self) -> bool {
        self.reply_ack
    }

    /// What comes back until the answer to one more GET_FEATURES.
    fn listen(&self) -> Answer {
        let mut refused = false;
        match Message::new(request::GET_FEATURES, &[]).send(&self.stream) {
            // Full of requests that wait for their answers to be read, so there are some.
            Err(e) if answer_of(&e) == Answer::Silent => {}
            Err(e) => return answer_of(&e),
            Ok(()) => {}
        }
        loop {
            match raw::read_reply(&self.stream) {
                Ok((request::GET_FEATURES, _)) if refused => return Answer::Refused,
                Ok((request::GET_FEATURES, _)) => return Answer::Accepted,
                Ok((_, body)) => refused |= body.iter().any(|&b| b != 0),
                Err(e) => return answer_of(&e),
            }
        }
    }

    /// Sends, asking for an answer.
    fn send(&mut self, message: Message) -> io::Result<()> {
        let flags = message.flags | NEED_REPLY;
        message.flags(flags).send(&self.stream)
    }

    /// Sends the first `n` bytes, and no more ever.
    fn send_cut(&mut self, message: &Message, n: usize) -> io::Result<()> {
        message.send_first(&self.stream, n)?;
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    fn spec(&self) -> RegionSpec {
        self.memory.regions()[0].spec()
    }

    fn memfd(&self) -> RawFd {
        self.memory.file().expect("made as a memfd").as_raw_fd()
    }

    /// (gpa, length, uva, offset) of the region.
    fn words(&self) -> [u64; 4] {
        let spec = self.spec();
        [spec.gpa, spec.len, spec.uva, spec.file_offset]
    }

    /// SET_MEM_TABLE of regions that all share the memfd.
    fn table(&mut self, regions: &[[u64; 4]]) -> io::Result<()> {
        let count = u32::try_from(regions.len()).expect("a few regions");
        let fd = self.memfd();
        self.send(Message::mem_table(
            count,
            &regions.iter().map(|&words| (words, fd)).collect::<Vec<_>>(),
        ))
    }

    /// SET_MEM_TABLE as it should be.
    fn share(&mut self) -> io::Result<()> {
        let words = self.words();
        self.table(&[words])
    }

    /// One ring with everything, at offsets from the region's user address.
    fn ring(&mut self, vring: u32, num: u32, [desc, avail, used]: [u64; 3]) -> io::Result<()> {
        let uva = self.spec().uva;
        self.send(Message::vring(request::SET_VRING_NUM, vring, num))?;
        self.send(Message::vring(request::SET_VRING_BASE, vring, 0))?;
        self.send(Message::vring_addr(
            vring,
            uva.wrapping_add(desc),
            uva.wrapping_add(used),
            uva.wrapping_add(avail),
        ))?;
        self.send(Message::with_u64(
            request::SET_VRING_KICK,
            u64::from(vring) | 0x100,
        ))?;
        self.send(Message::vring(request::SET_VRING_ENABLE, vring, 1))
    }
}

/// REPLY_ACK.
const REPLY_ACK: u64 = 8;
/// MQ, REPLY_ACK, CONFIGURE_MEM_SLOTS.
const PROTOCOL_WANTED: u64 = 1 | REPLY_ACK | 0x8000;

fn answer_of(e: &io::Error) -> Answer {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Answer::Silent,
        _ => Answer::Closed,
    }
}
