//! Frames that say which they are, and what has arrived of them.

use super::*;

/// A test frame's place in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Which flow: it is the UDP source port too.
    pub flow: u16,
    /// Number in the flow, from 0.
    pub seq: u64,
}

/// Payload bytes before the pattern: magic, flow, sequence, length, hash.
const STAMP_BYTES: usize = 24;
/// Shortest test frame.
pub const TEST_FRAME_LEAST: usize = UDP_HEADERS + STAMP_BYTES;
const MAGIC: [u8; 2] = *b"wt";

/// A UDP test frame of exactly `len` bytes (66 to 65,000).
pub fn test_frame(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), stamp: Stamp, len: usize) -> Vec<u8> {
    let n = len
        .checked_sub(TEST_FRAME_LEAST)
        .expect("a test frame has at least 66 bytes");
    let mut payload = [
        &MAGIC[..],
        &stamp.flow.to_be_bytes(),
        &stamp.seq.to_be_bytes(),
    ]
    .concat();
    payload.extend(u32::try_from(len).expect("a frame").to_be_bytes());
    payload.extend(pattern(stamp, n));
    let hash = fnv(&payload);
    payload.splice(16..16, hash.to_be_bytes());
    udp_frame(from, to, (stamp.flow, 9), &payload)
}

/// Reads a test frame. None: not one of ours at all. `Err`: one of ours, corrupt.
pub fn read_test_frame(frame: &[u8]) -> Option<Result<Stamp, String>> {
    let payload = frame
        .get(UDP_HEADERS..)
        .filter(|p| p.len() >= STAMP_BYTES && p[..2] == MAGIC)?;
    if frame[12..14] != IPV4 || frame[23] != UDP {
        return None;
    }
    let long = |at: usize| {
        payload[at..at + 8]
            .try_into()
            .map(u64::from_be_bytes)
            .expect("eight bytes")
    };
    let stamp = Stamp {
        flow: u16::from_be_bytes([payload[2], payload[3]]),
        seq: long(4),
    };
    let len = u32::from_be_bytes([payload[12], payload[13], payload[14], payload[15]]);
    let body = [&payload[..16], &payload[24..]].concat();
    if frame.len() != len as usize {
        return Some(Err(format!(
            "{stamp:?}: sent with {len} bytes, arrived with {}",
            frame.len()
        )));
    }
    if fnv(&body) != long(16) || checksum(&[&frame[14..34]]) != 0 {
        return Some(Err(format!("{stamp:?} of {len} bytes is corrupt")));
    }
    Some(Ok(stamp))
}

fn pattern(stamp: Stamp, n: usize) -> impl Iterator<Item = u8> {
    let start = usize::from(stamp.flow) + usize::from(stamp.seq.to_le_bytes()[0]) * 31;
    (start..start + n).map(|i| (i * 7).to_le_bytes()[0])
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Counts what arrives of several flows.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    /// Frames in good shape.
    pub n_good: u64,
    /// Frames of ours with wrong bytes.
    pub n_corrupt: u64,
    /// Frames that came before.
    pub n_duplicate: u64,
    /// Frames that came after a later one of their flow.
    pub n_reordered: u64,
    /// Frames that are not ours.
    pub n_other: u64,
    /// What was wrong first.
    pub first_error: Option<String>,
    flows: HashMap<u16, Flow>,
}

#[derive(Clone, Debug, Default)]
struct Flow {
    /// One past the highest number seen.
    next: u64,
    /// Numbers below it that haven't come.
    missing: std::collections::BTreeSet<u64>,
}

impl Verifier {
    /// Looks at a received frame.
    pub fn take(&mut self, frame: &[u8]) {
        match read_test_frame(frame) {
            None => self.n_other += 1,
            Some(Err(why)) => {
                self.n_corrupt += 1;
                self.first_error.get_or_insert(why);
            }
            Some(Ok(stamp)) => self.take_stamp(stamp),
        }
    }

    /// Frames that are missing, given how many were sent in each flow that was heard of.
    pub fn n_lost(&self, sent: impl Fn(u16) -> u64) -> u64 {
        let lost =
            |(&flow, f): (&u16, &Flow)| f.missing.len() as u64 + sent(flow).saturating_sub(f.next);
        self.flows.iter().map(lost).sum()
    }

    /// Frames that are missing before the last one that came.
    pub fn n_gaps(&self) -> u64 {
        self.n_lost(|_| 0)
    }

    /// Flows heard of.
    pub fn n_flows(&self) -> usize {
        self.flows.len()
    }

    /// Whether nothing came corrupt, twice, or out of order.
    pub fn is_clean(&self) -> bool {
        self.n_corrupt + self.n_duplicate + self.n_reordered == 0
    }

    fn take_stamp(&mut self, stamp: Stamp) {
        let flow = self.flows.entry(stamp.flow).or_default();
        if stamp.seq >= flow.next {
            flow.missing.extend(flow.next..stamp.seq);
            flow.next = stamp.seq + 1;
        } else if flow.missing.remove(&stamp.seq) {
            self.n_reordered += 1;
            self.first_error
                .get_or_insert(format!("{stamp:?} came after {}", flow.next - 1));
        } else {
            self.n_duplicate += 1;
            self.first_error
                .get_or_insert(format!("{stamp:?} came twice"));
            return;
        }
        self.n_good += 1;
    }
}
