//! Ports that have been removed, until their ids are free.

use std::thread::JoinHandle;

use crate::plan::ports::PortSpec;

/// A port that has been removed, whose thread has not ended.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) port: PortSpec,
    /// None: nothing served it.
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Leaving {
    /// Whether nothing uses its id any more but for control's own tables.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}
