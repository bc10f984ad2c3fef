//! Frames that say which they are, and stations' addresses.

use guest::GuestDriver;
use guest::ring::Desc;

/// A station's address.
pub fn mac(n: u16) -> [u8; 6] {
    let [hi, lo] = n.to_be_bytes();
    [2, 0, 0, 0, hi, lo]
}

/// The broadcast address.
pub const ALL: [u8; 6] = [0xff; 6];

/// A frame of `len` bytes whose payload says which it is.
pub fn frame(dst: [u8; 6], src: [u8; 6], id: u64, len: usize) -> Vec<u8> {
    let mut bytes = [&dst[..], &src, &[0x88, 0xb5], &id.to_be_bytes()].concat();
    let seed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    bytes.extend(
        seed.iter()
            .cycle()
            .take(len.saturating_sub(bytes.len()))
            .enumerate()
            .map(|(i, b)| b ^ i as u8),
    );
    bytes.truncate(len);
    bytes
}

/// Which frame this is, after checking that every byte is as it was sent.
pub fn id_of(bytes: &[u8]) -> u64 {
    let id = u64::from_be_bytes(std::array::from_fn(|i| bytes[14 + i]));
    let (dst, src) = (
        std::array::from_fn(|i| bytes[i]),
        std::array::from_fn(|i| bytes[6 + i]),
    );
    assert_eq!(
        bytes,
        frame(dst, src, id, bytes.len()),
        "frame {id} was changed on its way"
    );
    id
}

/// Sends a frame in memory that no buffer of the driver's is in, so that it can be rewritten.
pub fn send_raw(guest: &mut GuestDriver, bytes: &[u8]) {
    let (addr, len) = (
        rewrite(guest, bytes),
        (guest.options().header_bytes() + bytes.len()) as u32,
    );
    assert!(guest.ring(1).add_raw(1, |_| vec![Desc {
        addr,
        len,
        flags: 0,
        next: 0
    }]));
    guest.publish(1);
}

/// Writes it there, whether it was sent already or not; gives where that is.
pub fn rewrite(guest: &GuestDriver, bytes: &[u8]) -> u64 {
    let (addr, header) = (guest.scratch(), vec![0; guest.options().header_bytes()]);
    guest.memory().write(addr, &[&header[..], bytes].concat());
    addr
}
