//! One virtqueue as far as a front-end has set it up.

use std::fs::File;
use std::sync::Arc;

use pmd::GuestFault;
use pmd::ring::QueueSpec;
use pmd::sys::EventFd;

use super::refusal::Result;

/// The kick eventfd of a queue.
#[derive(Clone, Debug, Default)]
pub(super) enum Kick {
    /// Not set: the ring is stopped.
    #[default]
    Missing,
    /// There is none: the ring has to be polled.
    Polled,
    /// The eventfd.
    File(Arc<EventFd>),
}

/// One virtqueue as far as it is set up.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    pub(super) size: Option<u16>,
    pub(super) rings: Option<Rings>,
    pub(super) base: Option<u16>,
    pub(super) kick: Kick,
    pub(super) call: Option<Arc<EventFd>>,
    pub(super) err: Option<Arc<EventFd>>,
    pub(super) is_enabled: bool,
    /// It was enabled and then disabled since it was started: frames that the guest sends on it are
    /// dropped. A ring is left alone until it is first enabled, since its entries may be from
    /// before a crash of this daemon or an earlier one.
    pub(super) discards: bool,
    /// Why it can't be built as it is set up.
    pub(super) broken: Option<String>,
    /// The guest's fault that stopped it, until it is set up again, whatever happens to other
    /// queues.
    pub(super) stopped: Option<GuestFault>,
}

/// Where a ring's parts lie, in the front-end's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rings {
    pub(crate) desc: u64,
    pub(crate) avail: u64,
    pub(crate) used: u64,
}

/// Whether the guest sends on this queue.
pub(super) fn is_sent_by(index: u32) -> bool {
    index % 2 == 1
}

/// What the cores need to poll it; none: it isn't among those that are `ready`.
pub(super) fn spec(ready: u32, index: u16, queue: &Queue) -> Option<QueueSpec> {
    if ready & 1 << index == 0 {
        return None;
    }
    let rings = queue.rings?;
    let kick = match &queue.kick {
        Kick::File(file) => Some(file.clone()),
        Kick::Missing | Kick::Polled => None,
    };
    Some(QueueSpec {
        index,
        size: queue.size?,
        desc: rings.desc,
        avail: rings.avail,
        used: rings.used,
        base: queue.base,
        call: queue.call.clone(),
        kick,
        err: queue.err.clone(),
        discards: queue.discards,
    })
}

/// The eventfd that a file is; none: there is no file.
pub(super) fn eventfd(file: Option<File>) -> Result<Option<Arc<EventFd>>> {
    Ok(file.map(EventFd::from_file).transpose()?.map(Arc::new))
}
