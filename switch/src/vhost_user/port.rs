//! A port of a VM: its specification, and the state of its front-end's connection, shared by
//! control threads.
//!
//! Its control thread writes it, the supervisor and reports read it; polling cores never touch it.

use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowtable::PortId;
use pmd::shm::{Damage, GuestMemory};
use pmd::sys::peer_process;

use super::changes::Changes;
use super::closing::Closing;
use super::refusal::Refusal;
use super::view::DeviceView;
use crate::base::lock::lock;
use crate::base::log::PortLog;
use crate::base::process::Process;
use crate::plan::ports::{CurrentSpec, PortKind, PortSpec, SocketSpec};

/// A NIC of a VM.
#[derive(Debug)]
pub(crate) struct Port {
    id: PortId,
    /// What the topology says of it.
    pub(crate) spec: CurrentSpec,
    /// Its socket.
    pub(crate) socket: SocketSpec,
    /// The state of the connection.
    pub(crate) link: Link,
    /// How often its front-end may change its queues.
    pub(crate) changes: Changes,
    /// Files of its front-end that are closing.
    pub(crate) closing: Closing,
    /// Files of other connections, refused or given up.
    pub(crate) refusing: Closing,
    /// Its log.
    pub(crate) log: PortLog,
}

impl Port {
    /// A port with a vhost-user socket; none: it has none.
    pub(crate) fn new(spec: &PortSpec) -> Option<Self> {
        let PortKind::Socket(socket) = &spec.kind else {
            return None;
        };
        Some(Self {
            socket: socket.clone(),
            link: Link::default(),
            changes: Changes::default(),
            closing: Closing::default(),
            refusing: Closing::default(),
            log: PortLog::new(&spec.name),
            id: spec.id(),
            spec: CurrentSpec::new(spec),
        })
    }

    /// Its place in every per-port table.
    pub(crate) fn id(&self) -> PortId {
        #[cfg(test)]
        crate::base::looks::look();
        self.id
    }
}

/// A port's connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    state: Mutex<LinkState>,
    n_connects: AtomicU64,
    n_refused: AtomicU64,
}

#[derive(Debug, Default)]
struct LinkState {
    stream: Option<UnixStream>,
    /// Why the connection is being closed from our side.
    closing: Option<String>,
    /// A message is being handled since then.
    busy_since: Option<Instant>,
    view: DeviceView,
    /// Damage of the memory. Not the memory itself, which its last owner unmaps.
    damage: Option<Arc<Damage>>,
    /// The process of the front-end, if it can be seen from here.
    peer: Option<Process>,
    features_since: Option<Instant>,
    refusal: Option<Refusal>,
    waits_for: Option<String>,
    last_end: Option<LastEnd>,
}

impl Link {
    /// A front-end has connected. `stream`: another handle of its connection, by which it can be
    /// closed.
    pub(crate) fn connected(&self, stream: UnixStream) {
        self.n_connects.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        let last_end = state.last_end.take();
        let peer = peer_process(stream.as_fd()).and_then(Process::of);
        *state = LinkState {
            stream: Some(stream),
            last_end,
            peer,
            ..LinkState::default()
        };
    }

    /// The front-end is gone. Returns the reason if weir closed the connection.
    pub(crate) fn disconnected(&self) -> Option<String> {
        let mut state = lock(&self.state);
        let closing = state.closing.take();
        *state = LinkState::default();
        closing
    }

    /// How the last connection ended, for the operator; none: normally.
    pub(crate) fn set_last_end(&self, end: Option<LastEnd>) {
        lock(&self.state).last_end = end;
    }

    /// What the port waits for while there is no connection, beyond "waiting for guest".
    pub(crate) fn set_waits_for(&self, why: Option<String>) {
        lock(&self.state).waits_for = why;
    }

    /// Another front-end was refused.
    pub(crate) fn count_refused(&self) {
        self.n_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes the connection; its thread notices, and cleans up.
    pub(crate) fn close(&self, why: impl Into<String>) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if let Some(stream) = &state.stream {
            state.closing.get_or_insert(why.into());
            // It fails if the peer has closed already, which is fine.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether the connection is being closed from our side. What the front-end had sent before is
    /// still in the socket then.
    pub(crate) fn is_closing(&self) -> bool {
        lock(&self.state).closing.is_some()
    }

    /// A message is being handled from now on.
    pub(crate) fn begin_message(&self) {
        lock(&self.state).busy_since = Some(Instant::now());
    }

    /// The message is done; `view`: the state of the device.
    pub(crate) fn end_message(&self, view: DeviceView, memory: Option<&Arc<GuestMemory>>) {
        let mut state = lock(&self.state);
        state.busy_since = None;
        state.features_since = view
            .features
            .and(state.features_since.or_else(|| Some(Instant::now())));
        state.damage = memory.map(|memory| memory.damage().clone());
        state.view = view;
    }

    /// A message was refused.
    pub(crate) fn set_refusal(&self, refusal: Refusal) {
        lock(&self.state).refusal = Some(refusal);
    }

    /// For how long the present message has been handled.
    pub(crate) fn busy_for(&self) -> Duration {
        lock(&self.state)
            .busy_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether the front-end cut its memory short.
    pub(crate) fn is_damaged(&self) -> bool {
        lock(&self.state)
            .damage
            .as_ref()
            .is_some_and(|damage| damage.is_done())
    }

    /// The process of the front-end, as far as it is visible. None: not connected.
    pub(crate) fn peer(&self) -> Option<Option<Process>> {
        let state = lock(&self.state);
        state.stream.as_ref().map(|_| state.peer)
    }

    /// A snapshot for reports.
    pub(crate) fn view(&self) -> LinkView {
        #[cfg(test)]
        crate::base::looks::look();
        let state = lock(&self.state);
        LinkView {
            is_connected: state.stream.is_some(),
            n_connects: self.n_connects.load(Ordering::Relaxed),
            n_refused: self.n_refused.load(Ordering::Relaxed),
            device: state.view.clone(),
            negotiated_for: state.features_since.map(|since| since.elapsed()),
            refusal: state.refusal.clone(),
            waits_for: state.waits_for.clone(),
            last_end: state.last_end.clone(),
        }
    }
}

/// How a connection ended, if not normally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LastEnd {
    /// weir closed it, for this reason.
    Closed(String),
    /// The front-end left before any queue ran: the end of a sentence about it.
    Left(String),
}

/// A connection as an operator sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkView {
    pub(crate) is_connected: bool,
    pub(crate) n_connects: u64,
    pub(crate) n_refused: u64,
    pub(crate) device: DeviceView,
    /// Time since features were negotiated.
    pub(crate) negotiated_for: Option<Duration>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) waits_for: Option<String>,
    pub(crate) last_end: Option<LastEnd>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supervisor_keeps_no_memory_that_it_would_have_to_unmap() {
        let (link, memory) = (Link::default(), Arc::new(GuestMemory::default()));
        link.end_message(DeviceView::default(), Some(&memory));
        assert!(!link.is_damaged());
        assert_eq!(
            (Arc::strong_count(&memory), Arc::weak_count(&memory)),
            (1, 0)
        );
    }
}
