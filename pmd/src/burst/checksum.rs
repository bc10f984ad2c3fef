//! Partial checksums: what a sender on the same machine leaves for a NIC to finish, and a veth
//! hands on unfinished.
//!
//! Such a TCP or UDP checksum is the folded sum of the pseudo-header alone. It is recognised by
//! that, which can spoil no finished one: where a finished checksum has that value, finishing it
//! again gives the same.
//!
//! Source: RFC 1071; the kernel's `skb_checksum_help` and `tcp_v4_check`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "folded sums, and places in a header"
)]

use flowtable::{HEADER_MAX, Header};

use crate::burst::Burst;
use crate::virtio_net::Offload;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// IPv6's hop-by-hop and destination options, which may stand between its header and the
/// transport's.
const OPTIONS: [u8; 2] = [0, 60];
/// Extension headers that are walked past.
const OPTIONS_MAX: usize = 4;
/// Bytes of the longest padding that is none of the sender's making: frames shorter than 60 bytes
/// are filled up to that.
const PADDED_MAX: usize = 60 + 8;

/// Where the transport header of a whole TCP or UDP packet lies, as far as the private header
/// shows.
struct Transport {
    at: usize,
    /// Bytes of it and of what it carries.
    len: usize,
    protocol: u8,
    /// Both addresses, in the private header.
    addresses: std::ops::Range<usize>,
}

/// What is left to be done to a frame of `len` bytes: `None` if its checksum is finished, or if it
/// has none that is known.
///
/// Fragments are whole datagrams' parts, finished by the host that cut them. A UDP checksum of zero
/// means that there is none.
pub(crate) fn partial(header: &Header, len: usize) -> Option<Offload> {
    let bytes = &header.0[..len.min(HEADER_MAX)];
    let transport = transport(bytes, len)?;
    let csum_offset = if transport.protocol == TCP { 16 } else { 6 };
    let there = be16(bytes, transport.at + csum_offset)?;
    let mut sum = sum(&bytes[transport.addresses]);
    sum += u64::from((transport.len as u32).to_be())
        + u64::from(u32::from(transport.protocol).to_be());
    let pseudo = u16::from_be(fold(sum));
    let is_partial = there == pseudo && !(transport.protocol == UDP && there == 0);
    let csum_start = transport.at as u16;
    is_partial.then(|| Offload {
        needs_csum: true,
        csum_start,
        csum_offset: csum_offset as u16,
        ..Offload::default()
    })
}

/// Finishes the checksum that frame `k` still needs, in the private header; its request is done
/// then.
///
/// Reads the frame once to its end. A place beyond the private header, which no frame of
/// [`partial`] names, is left alone.
pub(crate) fn complete(burst: &mut Burst, k: usize) {
    let offload = std::mem::take(&mut burst.offloads[k]);
    burst.with_offload &= !(1 << k);
    let (start, len) = (usize::from(offload.csum_start), burst.lens[k] as usize);
    let place = start + usize::from(offload.csum_offset);
    let in_header = len.min(HEADER_MAX);
    if !offload.needs_csum || place + 2 > in_header {
        return;
    }
    let mut sum = sum(&burst.headers[k].0[start..in_header]);
    let (mut at, mut chunk) = (0, [0; 512]);
    burst.for_each_piece(k, |piece| {
        // What lies in the private header is summed from there.
        let n_summed = (in_header.saturating_sub(at) as u32).min(piece.len());
        let mut piece = piece.behind(n_summed);
        at += n_summed as usize;
        while piece.len() > 0 {
            let n = piece.len().min(chunk.len() as u32);
            piece.read(&mut chunk, n as usize);
            sum += odd(self::sum(&chunk[..n as usize]), at - start);
            at += n as usize;
            piece = piece.behind(n);
        }
        true
    });
    let done = match !fold(sum) {
        // To UDP zero says that there is no checksum; to TCP both mean the same.
        0 => 0xffff,
        done => done,
    };
    burst.headers[k].0[place..place + 2].copy_from_slice(&done.to_ne_bytes());
}

fn transport(bytes: &[u8], len: usize) -> Option<Transport> {
    let mut at = 12;
    let mut kind = be16(bytes, at)?;
    for _ in 0..2 {
        if matches!(kind, 0x8100 | 0x88a8) {
            at += 4;
            kind = be16(bytes, at)?;
        }
    }
    at += 2;
    let (transport, end) = match kind {
        IPV4 => ipv4(bytes, at)?,
        IPV6 => ipv6(bytes, at)?,
        _ => return None,
    };
    let least = if transport.protocol == TCP { 20 } else { 8 };
    if transport.len < least || end > len {
        return None;
    }
    // The sum goes to the frame's end, so nothing may stand there but zeros that fill up a short
    // one.
    let is_whole = end == len || len <= PADDED_MAX && bytes[end..].iter().all(|&byte| byte == 0);
    is_whole.then_some(transport)
}

fn ipv4(bytes: &[u8], at: usize) -> Option<(Transport, usize)> {
    let header_len = usize::from(bytes.get(at)? & 15) * 4;
    let total = usize::from(be16(bytes, at + 2)?);
    let is_fragment = be16(bytes, at + 6)? & 0x3fff != 0;
    let protocol = *bytes.get(at + 9)?;
    let addresses = at + 12..at + 20;
    let is_known = bytes[at] >> 4 == 4 && matches!(protocol, TCP | UDP);
    if !is_known || is_fragment || header_len < 20 || addresses.end > bytes.len() {
        return None;
    }
    Some((
        Transport {
            at: at + header_len,
            len: total.checked_sub(header_len)?,
            protocol,
            addresses,
        },
        at + total,
    ))
}

fn ipv6(bytes: &[u8], at: usize) -> Option<(Transport, usize)> {
    let end = at + 40 + usize::from(be16(bytes, at + 4)?);
    let mut protocol = *bytes.get(at + 6)?;
    let addresses = at + 8..at + 40;
    if bytes[at] >> 4 != 6 || addresses.end > bytes.len() {
        return None;
    }
    let mut at = addresses.end;
    for _ in 0..OPTIONS_MAX {
        if !OPTIONS.contains(&protocol) {
            break;
        }
        protocol = *bytes.get(at)?;
        at += 8 + 8 * usize::from(*bytes.get(at + 1)?);
    }
    let is_known = matches!(protocol, TCP | UDP);
    is_known.then_some(())?;
    Some((
        Transport {
            at,
            len: end.checked_sub(at)?,
            protocol,
            addresses,
        },
        end,
    ))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The sum of 16-bit words in the order they lie in memory, not folded; an odd byte at the end
/// counts as the first of two.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let word =
        |bytes: &[u8]| u64::from(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    words.map(word).sum::<u64>() + word(&last)
}

/// A sum of bytes that begin at this place of the whole: at an odd one, all words are the other way
/// round.
fn odd(sum: u64, at: usize) -> u64 {
    u64::from(if at % 2 == 1 {
        fold(sum).swap_bytes()
    } else {
        fold(sum)
    })
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
#[path = "checksum_tests.rs"]
mod tests;
