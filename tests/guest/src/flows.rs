//! Frames for load: one UDP frame as a template, and sixteen bytes of it that change from flow to
//! flow, or from frame to frame.

use std::net::Ipv4Addr;

use crate::numbers;
use crate::stack::{Mac, checksum, udp_frame};

/// What differs between flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vary {
    /// Both ports, and source address after 65,536 of them: another flow to whoever tells flows
    /// apart by the source, by the service, or by all five words.
    #[default]
    Ip,
    /// Source MAC.
    Mac,
    /// Nothing: one flow, whose frames are [numbered](crate::numbers).
    Number,
}

/// A frame in `n` variants, one after another.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    template: Vec<u8>,
    vary: Vary,
    n: u64,
    next: u64,
    word: u128,
}

/// Bytes 24 to 40 of the frame: IP checksum, addresses, ports, UDP length.
const IP_AT: usize = 24;
/// Bytes 0 to 16: both MACs, EtherType, first bytes of the IP header.
const MAC_AT: usize = 0;

impl Flows {
    /// Highest offset of the changing bytes.
    pub const MOST_OFFSET: usize = numbers::AT;

    /// Frames of `len` bytes (without FCS, at least 60) from one guest to another, in `n` flows;
    /// numbered ones are one flow, whatever `n` is.
    pub fn new(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), len: usize, n: u64, vary: Vary) -> Self {
        let template = udp_frame(from, to, (1024, 9), &vec![0; len.max(60) - 42]);
        let mut flows = Self {
            template,
            vary,
            n: if vary == Vary::Number {
                u64::MAX
            } else {
                n.max(1)
            },
            next: 0,
            word: 0,
        };
        flows.restart();
        flows
    }

    /// The first flow's frame.
    pub fn template(&self) -> &[u8] {
        &self.template
    }

    /// Number of flows, or of frames with numbers.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Where in the frame to write which sixteen bytes for the next flow.
    #[inline]
    pub fn next_word(&mut self) -> (usize, u128) {
        if self.next == self.n {
            self.restart();
        } else if self.vary == Vary::Ip && self.next & 0xffff == 0 && self.next > 0 {
            self.word = self.ip_word(self.next >> 16);
        }
        let low = u128::from(self.next & 0xffff);
        self.next += 1;
        match self.vary {
            // The ports, big-endian, are bytes 10 to 13 of the word.
            Vary::Ip => (
                IP_AT,
                self.word | ((((low >> 8) | (low & 0xff) << 8) * 0x1_0001) << 80),
            ),
            // The source MAC's last four bytes, any order will do.
            Vary::Mac => (
                MAC_AT,
                self.word | u128::from((self.next - 1) & 0xffff_ffff) << 64,
            ),
            Vary::Number => (numbers::AT, self.word | u128::from(self.next - 1)),
        }
    }

    fn restart(&mut self) {
        self.next = 0;
        self.word = match self.vary {
            Vary::Ip => self.ip_word(0),
            Vary::Mac if self.n > 1 => self.bytes(MAC_AT) & !(0xffff_ffff << 64),
            Vary::Mac => self.bytes(MAC_AT),
            Vary::Number => numbers::word(numbers::source(&self.template)),
        };
    }

    /// Checksum and addresses for the source address plus `add`, ports 0.
    fn ip_word(&self, add: u64) -> u128 {
        let mut header: [u8; 20] = self.template[14..34]
            .try_into()
            .expect("a frame has an IP header");
        let source = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
        let add = u32::try_from(add & 0xffff_ffff).expect("masked");
        header[12..16].copy_from_slice(&source.wrapping_add(add).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut bytes: [u8; 16] = self.template[IP_AT..IP_AT + 16]
            .try_into()
            .expect("a frame is long enough");
        bytes[..10].copy_from_slice(&header[10..20]);
        if self.n > 1 {
            bytes[10..14].fill(0);
            return u128::from_le_bytes(bytes);
        }
        // One flow keeps the template's ports: `next` is 0 each time.
        u128::from_le_bytes(bytes)
    }

    fn bytes(&self, at: usize) -> u128 {
        u128::from_le_bytes(
            self.template[at..at + 16]
                .try_into()
                .expect("a frame is long enough"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn frames(n: u64, vary: Vary, take: u64) -> Vec<Vec<u8>> {
        let ip = |last| Ipv4Addr::new(10, 0, 0, last);
        let mut flows = Flows::new(
            (Mac([2, 0, 0, 0, 0, 1]), ip(1)),
            (Mac([2, 0, 0, 0, 0, 2]), ip(2)),
            64,
            n,
            vary,
        );
        let frame = |_| {
            let (at, word) = flows.next_word();
            let mut frame = flows.template().to_vec();
            frame[at..at + 16].copy_from_slice(&word.to_le_bytes());
            frame
        };
        (0..take).map(frame).collect()
    }

    #[test]
    fn one_flow_is_the_template() {
        for vary in [Vary::Ip, Vary::Mac] {
            let all = frames(1, vary, 5);
            assert!(all.iter().all(|f| f == &all[0]));
            assert_eq!(&all[0][..12], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        }
    }

    #[test]
    fn numbered_frames_are_taken_for_what_they_are() {
        let frames = frames(1, Vary::Number, 40);
        let mut numbers = numbers::Numbers::of(Mac([2, 0, 0, 0, 0, 1]));
        let word = |frame: &Vec<u8>| {
            let bytes = &frame[numbers::AT..numbers::AT + 16];
            u128::from_le_bytes(bytes.try_into().unwrap())
        };
        for frame in &frames[..10] {
            numbers.take(word(frame));
        }
        assert!(numbers.is_clean() && numbers.n_good == 10, "{numbers:?}");
        for n in [15, 12, 12] {
            numbers.take(word(&frames[n]));
        }
        assert_eq!((numbers.n_missing, numbers.n_late), (5, 2));
        numbers.take(0);
        assert_eq!((numbers.n_good, numbers.n_other), (11, 1));
    }

    #[test]
    #[cfg_attr(miri, ignore)]
    fn flows_differ_where_they_shall_and_come_round_again() {
        for (vary, source) in [(Vary::Ip, 24..38), (Vary::Mac, 6..12)] {
            let all = frames(70_000, vary, 70_003);
            assert_eq!(all[..70_000].iter().collect::<HashSet<_>>().len(), 70_000);
            assert_eq!(all[..3], all[70_000..]);
            for frame in &all {
                assert_eq!(frame[..source.start], all[0][..source.start]);
                assert_eq!(frame[source.end..], all[0][source.end..]);
                assert_eq!(checksum(&[&frame[14..34]]), 0, "IP header checksum");
                assert!(
                    vary == Vary::Mac || frame[34..36] == frame[36..38],
                    "both ports"
                );
            }
        }
    }
}
