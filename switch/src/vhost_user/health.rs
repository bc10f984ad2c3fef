//! The state of a port, and the reason for it.

use std::time::Duration;

use pmd::{Cores, GuestFault};

use super::port::{LastEnd, LinkView, Port};
use super::view::QueueState;
use crate::api::state::State;

/// A guest that has shared no memory this long after its features were negotiated has none to
/// share.
const MEMORY_WITHIN: Duration = Duration::from_secs(1);

const NO_MEMORY: &str = "no shared memory: start it with memory-backend-memfd,share=on";

/// Faults that stopped queues of the present guest. The cores keep a fault until the port comes up
/// again, perhaps with another guest.
pub(crate) fn faults(cores: &Cores, port: &Port, link: &LinkView) -> Vec<(u16, GuestFault)> {
    let mut faults = cores.stopped(port.id());
    faults.retain(|(index, _)| {
        let queue = link.device.queues.get(usize::from(*index));
        queue.is_some_and(|queue| queue.state == QueueState::Runs)
    });
    faults
}

/// The state of a port, and the reason for it.
pub(crate) fn judge(link: &LinkView, faults: &[(u16, GuestFault)]) -> (State, Option<String>) {
    if !link.is_connected {
        let more = link
            .waits_for
            .as_ref()
            .map(|why| format!(": {why}"))
            .unwrap_or_default();
        let last = link.last_end.as_ref().map(|end| match end {
            LastEnd::Closed(why) => format!(" (the last connection was closed: {why})"),
            LastEnd::Left(how) => format!(" (the last front-end {how})"),
        });
        return (
            State::Waiting,
            Some(format!(
                "waiting for guest{more}{}",
                last.unwrap_or_default()
            )),
        );
    }
    let runs = link
        .device
        .queues
        .iter()
        .any(|queue| queue.state == QueueState::Runs);
    let state = if runs {
        State::Impaired
    } else {
        State::Connected
    };
    if let Some((queue, fault)) = faults.first() {
        return (state, Some(format!("queue {queue} stopped: {fault}")));
    }
    let broken = link
        .device
        .queues
        .iter()
        .find_map(|queue| match &queue.state {
            QueueState::Broken(why) => Some(format!("queue {} stopped: {why}", queue.index)),
            _ => None,
        });
    match broken {
        Some(broken) => (state, Some(broken)),
        None if runs => (State::Up, None),
        None => (State::Connected, Some(not_started(link))),
    }
}

/// Text for a port whose guest has not shared memory in time.
pub(crate) fn lacks_memory(link: &LinkView) -> Option<String> {
    let runs = link
        .device
        .queues
        .iter()
        .any(|queue| queue.state == QueueState::Runs);
    let why = (link.is_connected && !runs).then(|| not_started(link))?;
    why.starts_with(NO_MEMORY).then_some(why)
}

/// Why a guest that is connected has no queue that runs.
fn not_started(link: &LinkView) -> String {
    match &link.refusal {
        Some(refusal) if refusal.is_memory => return format!("{NO_MEMORY} ({refusal})"),
        Some(refusal) => return format!("a message of the front-end was refused: {refusal}"),
        None => {}
    }
    if link.device.n_regions == 0 && link.negotiated_for.is_some_and(|time| time > MEMORY_WITHIN) {
        return NO_MEMORY.to_owned();
    }
    "connected, guest's driver not started".to_owned()
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
