//! The state of a front-end's device, for reports.

/// A device as an operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceView {
    /// None: the guest's driver has not chosen yet.
    pub(crate) features: Option<u64>,
    pub(crate) protocol: u64,
    pub(crate) n_regions: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) queues: Vec<QueueView>,
}

/// A virtqueue as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueView {
    pub(crate) index: usize,
    pub(crate) size: Option<u16>,
    pub(crate) state: QueueState,
    pub(crate) has_kick: bool,
    pub(crate) has_call: bool,
}

/// Whether a virtqueue is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QueueState {
    /// A core polls it.
    Runs,
    /// Not started by the guest's driver, or not all of it is set up.
    Stopped,
    /// Started, but the front-end has not enabled it.
    Disabled,
    /// Disabled after it had run: frames that the guest sends on it are dropped.
    Discards,
    /// It can't run as it is set up.
    Broken(String),
}
