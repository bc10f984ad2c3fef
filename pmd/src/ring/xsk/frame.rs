//! A frame of UMEM, and its owner.

/// Bytes of a frame of UMEM.
pub(crate) const FRAME_BYTES: usize = 4096;
/// Bytes in front of the packet, which the kernel wants for itself (`XDP_PACKET_HEADROOM`).
pub(crate) const HEADROOM: usize = 256;
/// The longest packet that fits.
#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
pub(crate) const PACKET_MAX: u32 = (FRAME_BYTES - HEADROOM) as u32;

/// A received packet, from the receive ring until it is given back. It owns its frame.
#[derive(Debug)]
pub(crate) struct RxFrame {
    pub(super) number: u32,
    pub(super) at: usize,
    pub(super) len: u32,
}

/// A frame to be sent, from the free list until it is put into the transmit ring. Whoever has it
/// owns it.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost"]
pub(crate) struct TxFrame {
    pub(super) number: u32,
}
