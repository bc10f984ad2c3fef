//! Netlink messages and attributes, parsed from the kernel's bytes; callers interpret them.
//!
//! Source: `linux/netlink.h`, `linux/rtnetlink.h`; rtnetlink(7).

use std::io;

/// Bytes of a message's header.
pub(super) const HEADER: usize = 16;

/// Kinds of message.
pub(crate) mod kind {
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;
    pub(crate) const NEW_LINK: u16 = 16;
    pub(crate) const DEL_LINK: u16 = 17;
    pub(crate) const GET_LINK: u16 = 18;
    pub(crate) const GET_ADDR: u16 = 22;
    pub(crate) const GET_ROUTE: u16 = 26;
}

/// One message from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    /// After the header: a struct by the kind, then attributes.
    pub(crate) body: Vec<u8>,
}

/// Sequence number, flags and message of each message. Ends at the first incomplete one.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u32, u16, Message)> + '_ {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let whole = bytes.get(..len).filter(|whole| whole.len() >= HEADER)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        let message = Message {
            kind: u16_at(whole, 4)?,
            body: whole[HEADER..].to_vec(),
        };
        Some((u32_at(whole, 8)?, u16_at(whole, 6)?, message))
    })
}

/// The error that a message is, if it is one.
pub(super) fn refusal(message: &Message) -> Option<io::Error> {
    if message.kind != kind::ERROR {
        return None;
    }
    let code = u32_at(&message.body, 0).unwrap_or(0).cast_signed();
    (code != 0).then(|| io::Error::from_raw_os_error(code.wrapping_neg()))
}

/// The attributes in `bytes`: number and value. Ends at the first incomplete one.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(4..len)?;
        // The two highest bits are flags.
        let number = u16_at(bytes, 2)? & 0x3fff;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((number, value))
    })
}

/// An attribute as bytes, padded to align the next.
pub(crate) fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), number.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The 16 bits at this place, in the machine's order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The 32 bits at this place, in the machine's order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The 64 bits at this place, in the machine's order.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Text that ends with a zero, or with the bytes.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_as_they_were_written() {
        let bytes = [
            attribute(3, b"eth1\0"),
            attribute(4, &7u32.to_ne_bytes()),
            attribute(5, b""),
        ]
        .concat();
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(
            read,
            [(3, &b"eth1\0"[..]), (4, &7u32.to_ne_bytes()), (5, b"")]
        );
        assert_eq!(text(read[0].1), "eth1");
    }

    #[test]
    fn broken_bytes_end_the_list() {
        let whole = attribute(3, b"eth1");
        for bytes in [
            &whole[..6],
            &[3, 0, 1, 0, 9, 9],
            &[255, 255, 1, 0],
            &[0; 8],
            &[4],
        ] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
        for bytes in [
            &[16, 0, 0, 0][..],
            &[0; 64],
            &[255; 64],
            &[8, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(messages(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn refusal_carries_the_kernels_number() {
        let message = |code: i32| Message {
            kind: kind::ERROR,
            body: code.to_ne_bytes().to_vec(),
        };
        assert_eq!(refusal(&message(-19)).unwrap().raw_os_error(), Some(19));
        assert!(refusal(&message(0)).is_none(), "an acknowledgement");
    }
}
