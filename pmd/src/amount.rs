//! How much: frames and bytes.

/// Frames and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Frames on a wire.
    pub n_frames: u64,
    /// Their bytes, without FCS.
    pub n_bytes: u64,
}

/// What a burst may hold: frames are taken as long as those before them stay below both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Frames, at least one.
    pub n_frames: usize,
    /// Bytes, at least one; the frame that crosses them is still taken.
    pub n_bytes: u32,
}

impl Allowance {
    /// More than any burst.
    pub const ALL: Self = Self {
        n_frames: usize::MAX,
        n_bytes: u32::MAX,
    };
}
