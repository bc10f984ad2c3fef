//! How values travel between control and a core: bounded queues that neither side ever waits on
//! while holding anything.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use flowtable::{Networks, PortId};

use super::parcel::Parcel;
use crate::port::{PortView, RxQueue};
use crate::sys::EventFd;

/// Values under way at a time, in each direction.
const QUEUE_CAPACITY: usize = 1 << 13;

/// From control to a core. Applied between turns.
#[derive(Debug)]
pub enum Command {
    /// A port is up: frames may go to it.
    Up(Arc<PortView>),
    /// One of its receive queues, for this core to poll.
    Poll(Box<RxQueue>),
    /// A receive queue goes to another core: the core lets go of it, and puts it in there.
    Release(Box<Parcel>),
    /// A receive queue that comes from another core, for this one to poll.
    Take(Box<Parcel>),
    /// The core has nothing to poll any more and shall end; nothing comes after this.
    End,
    /// A port goes: the core lets go of all it has of it, and says so.
    Down(PortId),
    /// A port that is up has changed, but for its queues.
    Replace(Arc<PortView>),
    /// A port that is down is no more, and its id will be another's.
    Forget(PortId),
    /// The core says so when it comes to this.
    Mark(u64),
    /// Other networks than before.
    Networks(Arc<Networks>),
}

/// From a core to control, which frees what comes back.
#[derive(Debug)]
pub enum Reply {
    /// The core no longer uses this view.
    View(Arc<PortView>),
    /// The core no longer polls this queue.
    Queue(Box<RxQueue>),
    /// The core no longer polls the queue in there.
    Released(Box<Parcel>),
    /// The core polls the queue that was in there.
    Taken(Box<Parcel>),
    /// The core has ended, and uses nothing that is shared any more.
    Ended,
    /// The core has nothing of this port any more.
    Down(PortId),
    /// The core has come to this.
    Mark(u64),
    /// The networks of before.
    Networks(Arc<Networks>),
}

/// Both directions of one core.
#[derive(Debug)]
pub struct Mailbox {
    commands: ArrayQueue<Command>,
    replies: ArrayQueue<Reply>,
    wake: EventFd,
}

impl Mailbox {
    /// An empty one.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn new() -> Result<Self, crate::error::SetupError> {
        Ok(Self {
            commands: ArrayQueue::new(QUEUE_CAPACITY),
            replies: ArrayQueue::new(QUEUE_CAPACITY),
            wake: EventFd::new()?,
        })
    }

    /// Control: hands a command over and wakes the core; gives it back when the box is full.
    ///
    /// # Errors
    /// The command, when too many wait.
    pub fn post(&self, command: Command) -> Result<(), Command> {
        let posted = self.commands.push(command);
        self.wake.signal();
        posted
    }

    /// Control: wakes the core.
    pub fn wake(&self) {
        self.wake.signal();
    }

    /// Control: what the core sent back.
    pub fn reply(&self) -> Option<Reply> {
        self.replies.pop()
    }

    /// Core: whether control wants something.
    #[inline(always)]
    pub(crate) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Core: the next command, if there is room for all the replies it may cause.
    pub(crate) fn command(&self, n_replies: usize) -> Option<Command> {
        if self.replies.capacity() - self.replies.len() < n_replies {
            return None;
        }
        self.commands.pop()
    }

    /// Core: sends back. There is room, since [`Mailbox::command`] looked; a reply that finds none
    /// is dropped here.
    pub(crate) fn answer(&self, reply: Reply) {
        let _ = self.replies.push(reply);
    }

    /// What the core sleeps on.
    pub(crate) fn wake_fd(&self) -> &EventFd {
        &self.wake
    }
}
