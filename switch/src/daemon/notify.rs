//! What the service manager is told: ready, reloading, stopping, a sentence about the state, and
//! that the daemon is well. All of it is sent by the watchdog's thread ([`super::watchdog`]), so
//! that nobody else waits for a manager that doesn't read.
//!
//! Source: sd_notify(3).

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

/// Messages that wait to be sent at most.
const MESSAGES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Ready,
    /// With the time, in microseconds of `CLOCK_MONOTONIC`, if it could be read.
    Reloading(Option<i128>),
    Stopping,
    Ports {
        n_up: usize,
        n: usize,
    },
}

/// For those who have something to tell; clones tell the same manager. Without a manager nobody is
/// told.
#[derive(Clone, Debug)]
pub(crate) struct Notify(SyncSender<Message>);

/// The other end, for the watchdog.
#[derive(Debug)]
pub(super) struct Inbox(Receiver<Message>);

impl Notify {
    /// Both ends.
    pub(super) fn new() -> (Self, Inbox) {
        let (sender, receiver) = sync_channel(MESSAGES_MAX);
        (Self(sender), Inbox(receiver))
    }

    /// The control socket answers, and every port listens.
    pub(crate) fn ready(&self) {
        self.post(Message::Ready);
    }

    /// The topology is being changed, until the value is dropped.
    #[must_use = "it ends when it is dropped"]
    pub(crate) fn reloading(&self) -> Reloading {
        let usec = match NotifyState::monotonic_usec_now() {
            Ok(NotifyState::MonotonicUsec(usec)) => Some(usec),
            _ => None,
        };
        self.post(Message::Reloading(usec));
        Reloading(self.clone())
    }

    /// The daemon ends. The last that is told.
    pub(crate) fn stopping(&self) {
        self.post(Message::Stopping);
    }

    /// So many of the ports are up.
    pub(crate) fn ports(&self, n_up: usize, n: usize) {
        self.post(Message::Ports { n_up, n });
    }

    fn post(&self, message: Message) {
        // It fails if the watchdog has ended, or if the manager reads nothing.
        let _ = self.0.try_send(message);
    }
}

/// Says that the daemon is ready again, when it is dropped.
#[derive(Debug)]
pub(crate) struct Reloading(Notify);

impl Drop for Reloading {
    fn drop(&mut self) {
        self.0.ready();
    }
}

impl Inbox {
    /// The next message, if one comes before `until`.
    ///
    /// # Errors
    /// When nobody is left who could send one.
    pub(super) fn next(&self, until: Instant) -> Result<Option<Message>, ()> {
        let time = until.saturating_duration_since(Instant::now());
        match self.0.recv_timeout(time) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }
}

/// The manager. To be used by one thread, which waits if the manager doesn't read.
#[derive(Debug, Default)]
pub(super) struct Manager {
    status: String,
    has_failed: bool,
}

impl Manager {
    /// How often it wants to hear that all is well; none: it doesn't.
    pub(super) fn wants_to_hear_within() -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|time| !time.is_zero())
    }

    pub(super) fn ready(&mut self) {
        self.send(&[NotifyState::Ready]);
    }

    pub(super) fn reloading(&mut self, usec: Option<i128>) {
        let time = usec.map(NotifyState::MonotonicUsec);
        let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(time).collect();
        self.send(&states);
    }

    pub(super) fn stopping(&mut self) {
        self.send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// A sentence about the state, if it is another than before.
    pub(super) fn status(&mut self, text: String) {
        if text != self.status {
            self.send(&[NotifyState::Status(&text)]);
            self.status = text;
        }
    }

    pub(super) fn all_is_well(&mut self) {
        self.send(&[NotifyState::Watchdog]);
    }

    fn send(&mut self, states: &[NotifyState<'_>]) {
        match sd_notify::notify(states) {
            Ok(()) => self.has_failed = false,
            Err(e) if !self.has_failed => {
                self.has_failed = true;
                warn!("cannot notify the service manager (NOTIFY_SOCKET): {e}");
            }
            Err(_) => {}
        }
    }
}
