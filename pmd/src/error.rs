//! Mistakes: [`SetupError`] is for a person, [`GuestFault`] is what a guest broke. A drop is no
//! error: see [`flowtable::DropReason`].

use std::fmt;

/// What was tried, on what, why it failed and what to do about it. Only on control threads, or
/// before a core starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupError {
    text: String,
    /// Whether the front-end gave memory of a kind that cannot be shared: another way to start the
    /// guest mends that.
    pub is_memory: bool,
}

impl SetupError {
    /// With a whole sentence for a person.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_memory: false,
        }
    }

    /// The same, about memory of a kind that cannot be shared.
    pub fn memory(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_memory: true,
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SetupError {}

/// The smallest answer that a fault can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// The chain goes back with length 0 and is counted; the queue runs on.
    DropChain,
    /// The queue's indexes mean nothing any more: it is left alone until it is set up again.
    StopQueue,
    /// Nothing of this front-end can be trusted: its connection is closed, and it may come back.
    CloseConnection,
}

macro_rules! faults {
    ($($name:ident $grade:ident $sentence:literal;)*) => {
        /// What a guest or its front-end did. This table says which answer each fault gets.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum GuestFault { $(#[doc = $sentence] $name),* }

        impl GuestFault {
            /// All of them, in the order of their numbers.
            pub const ALL: &[GuestFault] = &[$(GuestFault::$name),*];

            /// How it is answered.
            pub fn grade(self) -> Grade {
                match self { $(GuestFault::$name => Grade::$grade),* }
            }

            /// A sentence for a person.
            pub fn sentence(self) -> &'static str {
                match self { $(GuestFault::$name => $sentence),* }
            }
        }
    };
}

faults! {
    NextOutOfRange DropChain "a descriptor's next field is beyond the ring";
    ChainTooLong DropChain "a chain has more descriptors than the ring, or more than 1,024";
    OutsideMemory DropChain "a buffer lies outside the memory that the guest shares";
    WrongDirection DropChain "a buffer is writable where it must be readable, or the other way \
        round";
    TooLong DropChain "a chain holds more bytes than any frame";
    TooShort DropChain "a chain is shorter than the virtio-net header";
    BadIndirect DropChain "an indirect table is malformed, or was not negotiated";
    HeadOutOfRange StopQueue "descriptor out of range in the available ring";
    AvailTooFar StopQueue "the available index is further ahead than the ring is long, or went \
        back";
    MemoryGone CloseConnection "the file behind the guest's memory was cut short, or its large \
        pages can't be had";
}

impl GuestFault {
    /// Its place in [`GuestFault::ALL`].
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The fault with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for GuestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_their_faults() {
        for &fault in GuestFault::ALL {
            assert_eq!(GuestFault::from_number(fault.number()), Some(fault));
        }
        assert_eq!(GuestFault::from_number(200), None);
    }
}
