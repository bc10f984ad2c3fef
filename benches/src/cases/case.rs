//! One thing that is measured.

use crate::{BURST, Spent};

/// Deals with so many frames or a few more, and says how many those were and how long they took.
pub type Run = Box<dyn FnMut(u64) -> Spent>;

/// One thing that is measured.
pub struct Case {
    /// What it is called.
    pub name: String,
    /// Bytes of a frame, where each goes somewhere.
    pub frame_bytes: Option<u64>,
    make: Box<dyn Fn() -> Run>,
}

impl Case {
    /// A case whose frames have no length that matters. `make` sets it up.
    pub(super) fn new(name: impl Into<String>, make: impl Fn() -> Run + 'static) -> Self {
        Self {
            name: name.into(),
            frame_bytes: None,
            make: Box::new(make),
        }
    }

    /// One that moves frames of so many bytes.
    pub(super) fn of_frames(
        name: impl Into<String>,
        len: usize,
        make: impl Fn() -> Run + 'static,
    ) -> Self {
        Self {
            frame_bytes: Some(len as u64),
            ..Self::new(name, make)
        }
    }

    /// Sets it up, which may take seconds and hundreds of megabytes.
    pub fn make(&self) -> Run {
        (self.make)()
    }
}

/// A run by whole bursts.
pub(super) fn by_bursts<T: 'static>(
    mut world: T,
    bursts: impl Fn(&mut T, u64) -> Spent + 'static,
) -> Run {
    Box::new(move |n_frames| bursts(&mut world, n_frames.div_ceil(u64::from(BURST))))
}
