//! The vhost-user message header, and the messages' names.
//!
//! Parsed from peeked bytes, so it is known whether a message is complete, and whether it gets an
//! answer, before it is handled. Values that the `vhost` crate truncates silently are refused here.

/// Bytes of a message's header.
pub(crate) const HEADER_BYTES: usize = 12;
/// Bytes that a message's body may have, as in the `vhost` crate.
pub(crate) const BODY_MAX: usize = 4096;

const VERSION_MASK: u32 = 0x3;
const VERSION: u32 = 0x1;
const REPLY: u32 = 0x4;
const NEED_REPLY: u32 = 0x8;

const GET_FEATURES: u32 = 1;
const SET_OWNER: u32 = 3;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const SET_VRING_ERR: u32 = 14;
const GET_QUEUE_NUM: u32 = 17;
const SET_VRING_ENABLE: u32 = 18;
const GET_MAX_MEM_SLOTS: u32 = 36;
/// Index and the bit that says that there is no file.
const VRING_FD_BITS: u64 = 0x1ff;

/// A message's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    request: u32,
    needs_reply: bool,
    body_bytes: usize,
}

/// How far a front-end got that left before any of its queues ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It sent no message, or none that tells what it wants.
    #[default]
    Silent,
    /// It asked for the number of queue pairs, and sent nothing that matters after that.
    AskedForQueues,
    /// It sent the message with this number.
    Said(u32),
}

impl Stage {
    /// How a front-end left at this stage, as the end of a sentence. `n_pairs`: those of the port.
    pub(crate) fn left_after(self, n_pairs: u16) -> String {
        match self {
            Stage::Silent => "left without a request".to_owned(),
            Stage::AskedForQueues => {
                format!("left after asking for the number of queues; this port has {n_pairs}")
            }
            Stage::Said(request) => format!("left after {}", name(request)),
        }
    }
}

impl Header {
    /// The header of a message.
    ///
    /// # Errors
    /// A sentence: no front-end may send it, and the connection has to be closed.
    pub(crate) fn parse(header: [u8; HEADER_BYTES]) -> Result<Self, String> {
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (request, flags, size) = (word(0), word(4), word(8));
        if flags & VERSION_MASK != VERSION || flags & REPLY != 0 {
            return Err(format!(
                "message {request} with flags {flags:#x}: it does not speak vhost-user 1"
            ));
        }
        let body_bytes = usize::try_from(size).unwrap_or(usize::MAX);
        if body_bytes > BODY_MAX {
            return Err(format!(
                "message {} of {size} bytes, {BODY_MAX} are the most",
                name(request)
            ));
        }
        Ok(Self {
            request,
            needs_reply: flags & NEED_REPLY != 0,
            body_bytes,
        })
    }

    /// Bytes of the message, header included.
    pub(crate) fn total_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes
    }

    /// The message's name.
    pub(crate) fn name(&self) -> String {
        name(self.request)
    }

    /// Bytes of the body of a message about one queue: its index and a number.
    pub(crate) const VRING_STATE_BYTES: usize = 8;

    /// Whether this is SET_VRING_ENABLE.
    pub(crate) fn is_vring_enable(&self) -> bool {
        self.request == SET_VRING_ENABLE
    }

    /// Whether its files are eventfds.
    pub(crate) fn carries_eventfd(&self) -> bool {
        (SET_VRING_KICK..=SET_VRING_ERR).contains(&self.request)
    }

    /// The stage after this message; none: the message doesn't change it.
    pub(crate) fn stage(&self) -> Option<Stage> {
        match self.request {
            GET_QUEUE_NUM => Some(Stage::AskedForQueues),
            // QEMU sends all of these before it checks the number of queues.
            GET_FEATURES | SET_OWNER | SET_VRING_CALL | SET_VRING_ERR | GET_MAX_MEM_SLOTS => None,
            request => Some(Stage::Said(request)),
        }
    }

    /// Whether the front-end wants an answer.
    pub(crate) fn needs_reply(&self) -> bool {
        self.needs_reply
    }

    /// Index and number of a message about one queue.
    pub(crate) fn vring_state(
        message: &[u8; HEADER_BYTES + Self::VRING_STATE_BYTES],
    ) -> (u32, u32) {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| message[at + i]));
        (word(HEADER_BYTES), word(HEADER_BYTES + 4))
    }

    /// The answer to this message: whether it was carried out.
    pub(crate) fn acknowledgement(&self, is_done: bool) -> [u8; HEADER_BYTES + 8] {
        let mut answer = [0; HEADER_BYTES + 8];
        answer[..4].copy_from_slice(&self.request.to_le_bytes());
        answer[4..8].copy_from_slice(&(VERSION | REPLY).to_le_bytes());
        answer[8..12].copy_from_slice(&8u32.to_le_bytes());
        answer[12] = u8::from(!is_done);
        answer
    }

    /// Whether a failure can be reported to the front-end while the connection goes on: it asked
    /// for an answer (and REPLY_ACK is negotiated), and the answer is not a value, which can't
    /// report failure.
    pub(crate) fn can_be_refused(&self) -> bool {
        const ANSWERED_BY_A_VALUE: [u32; 11] = [1, 6, 11, 15, 17, 24, 31, 36, 40, 41, 44];
        self.needs_reply && !ANSWERED_BY_A_VALUE.contains(&self.request)
    }

    /// Checks the body where the `vhost` crate would truncate a value.
    ///
    /// # Errors
    /// A sentence; the connection has to be closed.
    pub(crate) fn check_body(&self, body: &[u8]) -> Result<(), String> {
        if let (true, Some(word)) = (self.carries_eventfd(), body.first_chunk()) {
            let word = u64::from_le_bytes(*word);
            if word & !VRING_FD_BITS != 0 {
                return Err(format!("{} for queue {word:#x}", self.name()));
            }
        }
        Ok(())
    }
}

fn name(request: u32) -> String {
    const NAMES: [&str; 40] = [
        "GET_FEATURES",
        "SET_FEATURES",
        "SET_OWNER",
        "RESET_OWNER",
        "SET_MEM_TABLE",
        "SET_LOG_BASE",
        "SET_LOG_FD",
        "SET_VRING_NUM",
        "SET_VRING_ADDR",
        "SET_VRING_BASE",
        "GET_VRING_BASE",
        "SET_VRING_KICK",
        "SET_VRING_CALL",
        "SET_VRING_ERR",
        "GET_PROTOCOL_FEATURES",
        "SET_PROTOCOL_FEATURES",
        "GET_QUEUE_NUM",
        "SET_VRING_ENABLE",
        "SEND_RARP",
        "NET_SET_MTU",
        "SET_BACKEND_REQ_FD",
        "IOTLB_MSG",
        "SET_VRING_ENDIAN",
        "GET_CONFIG",
        "SET_CONFIG",
        "CREATE_CRYPTO_SESSION",
        "CLOSE_CRYPTO_SESSION",
        "POSTCOPY_ADVISE",
        "POSTCOPY_LISTEN",
        "POSTCOPY_END",
        "GET_INFLIGHT_FD",
        "SET_INFLIGHT_FD",
        "GPU_SET_SOCKET",
        "RESET_DEVICE",
        "VRING_KICK",
        "GET_MAX_MEM_SLOTS",
        "ADD_MEM_REG",
        "REM_MEM_REG",
        "SET_STATUS",
        "GET_STATUS",
    ];
    let idx = usize::try_from(request)
        .ok()
        .and_then(|request| request.checked_sub(1));
    idx.and_then(|idx| NAMES.get(idx))
        .map_or_else(|| format!("message {request}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(request: u32, flags: u32, size: u32) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&request.to_le_bytes());
        header[4..8].copy_from_slice(&flags.to_le_bytes());
        header[8..].copy_from_slice(&size.to_le_bytes());
        header
    }

    #[test]
    fn names_are_those_of_the_protocol() {
        for (request, expected) in [
            (1, "GET_FEATURES"),
            (12, "SET_VRING_KICK"),
            (18, "SET_VRING_ENABLE"),
            (40, "GET_STATUS"),
        ] {
            assert_eq!(name(request), expected);
        }
        assert_eq!(name(0), "message 0");
        assert_eq!(name(u32::MAX), "message 4294967295");
    }

    #[test]
    fn front_end_that_left_is_said_to_have_left_after_what_it_said_last() {
        let stage = |requests: &[u32]| {
            let mut said = requests
                .iter()
                .filter_map(|&request| Header::parse(header(request, 1, 0)).unwrap().stage());
            said.next_back().unwrap_or_default().left_after(1)
        };
        // QEMU 7.2 with two queue pairs, of which the port has one.
        let asked = [1, 15, 16, 17, 36, 3, 1, 13, 14, 13, 14];
        assert_eq!(
            stage(&asked),
            "left after asking for the number of queues; this port has 1"
        );
        assert_eq!(
            stage(&[&asked[..], &[2]].concat()),
            "left after SET_FEATURES"
        );
        assert_eq!(stage(&[1]), "left without a request");
    }

    #[test]
    fn headers_that_no_front_end_sends_are_refused() {
        for (flags, size) in [(0, 0), (2, 0), (3, 0), (5, 0), (0x1, 4097), (0x1, u32::MAX)] {
            assert!(
                Header::parse(header(1, flags, size)).is_err(),
                "{flags:#x} {size}"
            );
        }
        assert_eq!(
            Header::parse(header(1, 0x1, 4096)).unwrap().total_bytes(),
            4108
        );
    }

    #[test]
    fn acknowledgement_is_a_reply_of_eight_bytes_that_says_zero_for_done() {
        let enable = Header::parse(header(18, 0x9, 8)).unwrap();
        assert!(enable.is_vring_enable() && enable.needs_reply());
        let expected = |done: u8| {
            [
                18, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, done, 0, 0, 0, 0, 0, 0, 0,
            ]
        };
        assert_eq!(enable.acknowledgement(true), expected(0));
        assert_eq!(enable.acknowledgement(false), expected(1));
        let mut message = [0; 20];
        (message[12], message[16]) = (3, 1);
        assert_eq!(Header::vring_state(&message), (3, 1));
    }

    #[test]
    fn only_what_is_acknowledged_can_be_refused() {
        let can = |request, flags| {
            Header::parse(header(request, flags, 0))
                .unwrap()
                .can_be_refused()
        };
        assert!(can(2, 0x9), "SET_FEATURES that asks for an answer");
        assert!(!can(2, 0x1), "it does not ask");
        assert!(!can(11, 0x9), "GET_VRING_BASE is answered by a value");
    }

    #[test]
    fn queue_number_of_an_fd_message_is_not_cut_to_eight_bits() {
        let kick = Header::parse(header(12, 0x1, 8)).unwrap();
        assert!(kick.check_body(&0x1ff_u64.to_le_bytes()).is_ok());
        for word in [0x200_u64, 0x1_0001, u64::MAX] {
            assert!(kick.check_body(&word.to_le_bytes()).is_err(), "{word:#x}");
        }
        let other = Header::parse(header(2, 0x1, 8)).unwrap();
        assert!(other.check_body(&u64::MAX.to_le_bytes()).is_ok());
    }
}
