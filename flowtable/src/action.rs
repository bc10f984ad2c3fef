//! What a decision can be, and the table of reasons to drop.

use crate::ids::{NetworkId, PortId};

/// What is done with one frame. Four bytes, copied freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To one port.
    Unicast(PortId),
    /// To every port of this network but the one it came from.
    Flood(NetworkId),
    /// Dropped, and counted under this reason.
    Drop(DropReason),
    /// Dropped: the rules of its destination port deny it. Counted as [`DropReason::Denied`].
    Refused(PortId),
}

impl Action {
    /// As a number, for the flow table.
    #[inline(always)]
    pub(crate) fn bits(self) -> u32 {
        match self {
            Action::Flood(network) => u32::from(network),
            Action::Unicast(port) => 1 << 16 | u32::from(port),
            Action::Drop(reason) => 2 << 16 | reason as u32,
            Action::Refused(port) => 3 << 16 | u32::from(port),
        }
    }

    /// From such a number.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub(crate) fn from_bits(bits: u32) -> Self {
        match bits >> 16 {
            1 => Action::Unicast(bits as u16),
            2 => Action::Drop(DropReason::ALL[usize::from(bits as u16) % DropReason::COUNT]),
            3 => Action::Refused(bits as u16),
            _ => Action::Flood(bits as u16),
        }
    }
}

macro_rules! reasons {
    ($($name:ident $text:literal $sentence:literal;)*) => {
        /// Why a frame was dropped. Each has one counter per port; see [`DropReason::text`] for its
        /// name on the outside.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $sentence] $name),* }

        impl DropReason {
            /// All of them, in the order of their counters.
            pub const ALL: &[DropReason] = &[$(DropReason::$name),*];
            /// How many there are.
            pub const COUNT: usize = DropReason::ALL.len();

            /// The name in reports.
            pub fn text(self) -> &'static str {
                match self { $(DropReason::$name => $text),* }
            }

            /// A sentence for a person.
            pub fn sentence(self) -> &'static str {
                match self { $(DropReason::$name => $sentence),* }
            }
        }
    };
}

reasons! {
    BadChain "bad-chain" "The guest's descriptor chain broke VIRTIO's rules; it was given back \
        unread.";
    BadOffload "bad-offload" "The virtio-net header asked for something that was not negotiated, \
        or made no sense.";
    Runt "runt" "The frame was shorter than an Ethernet header.";
    TooBig "too-big" "The frame was longer than the network's MTU allows, or than the receiver's \
        buffers.";
    LinkLocal "link-local" "The destination was one of 01:80:C2:00:00:0x, which a bridge never \
        forwards.";
    BadSource "bad-source" "The source address was zero or a group address.";
    Spoofed "spoofed" "The source address is not one that this port may send from.";
    NotLearned "not-learned" "The source address is new, and could not be entered among those that \
        this port may send from; the next frame tries again.";
    Tagged "tagged" "The guest sent a VLAN tag into a network that carries none.";
    Denied "denied" "The rules of the NIC that sent it, or of the one it was for, don't let it \
        pass.";
    UnknownVlan "unknown-vlan" "The frame's VLAN, or its lack of a tag, belongs to no network of \
        the uplink it came in by.";
    SamePort "same-port" "The destination is behind the port that the frame came from.";
    NoDestination "no-destination" "Nobody else is in the network, or nobody of them is connected.";
    PortDown "port-down" "The destination's port is not connected.";
    ReceiverFull "receiver-full" "The receiver left no buffers, for longer than frames behind this \
        one could be held back.";
    UplinkFull "uplink-full" "The uplink's transmit ring was full, for longer than frames behind \
        this one could be held back.";
    Limit "limit" "The VM it was for was being sent more than its limit allows.";
    ReceiverStalled "receiver-stalled" "The receiver has added no buffers for a second; until it \
        adds one, what is sent to it is dropped.";
    ReceiverLocked "receiver-locked" "Another core held the receiver's queue for longer than a \
        burst takes, since it was preempted.";
    FloodLimit "flood-limit" "The floods of the port that it came from had made all the copies \
        that they may make in a second.";
    QueueDisabled "queue-disabled" "The guest sent it by a queue that it had disabled.";
}

impl DropReason {
    /// Place of its counter, below [`DropReason::COUNT`].
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_is_small_enough_to_be_copied_freely() {
        assert!(size_of::<Action>() <= 4);
    }

    #[test]
    fn action_comes_back_from_its_bits() {
        let drops = DropReason::ALL.iter().map(|&reason| Action::Drop(reason));
        for action in [
            Action::Flood(0),
            Action::Flood(u16::MAX),
            Action::Unicast(0),
            Action::Unicast(u16::MAX),
            Action::Refused(7),
        ]
        .into_iter()
        .chain(drops)
        {
            assert_eq!(Action::from_bits(action.bits()), action);
        }
    }

    #[test]
    fn every_reason_has_its_own_name_and_place() {
        let names: std::collections::HashSet<_> =
            DropReason::ALL.iter().map(|r| r.text()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
            assert!(reason.sentence().ends_with('.'));
        }
    }
}
