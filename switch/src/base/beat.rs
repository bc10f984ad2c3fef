//! A sign of life of one thread, for the watchdog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Beats as long as its thread goes on; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beat(Arc<AtomicU64>);

impl Beat {
    /// The thread goes on. To be called several times a second.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was called.
    pub(crate) fn n(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
