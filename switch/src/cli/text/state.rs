//! States of ports and virtqueues.

use crate::api::port::QueueReport;
use crate::api::state::{RingState, State};

/// The state's name.
pub(super) fn state(state: State) -> &'static str {
    state.text()
}

/// The state of a virtqueue, and why.
pub(super) fn ring_state(queue: &QueueReport) -> String {
    match (queue.state, &queue.sentence) {
        (RingState::Runs, _) => "runs".to_owned(),
        (RingState::NotStarted, _) => "not started".to_owned(),
        (RingState::NotEnabled, _) => "not enabled".to_owned(),
        (RingState::Discards, _) => "disabled: what comes is dropped".to_owned(),
        (RingState::Stopped, None) => "stopped".to_owned(),
        (RingState::Stopped, Some(why)) => format!("stopped: {why}"),
    }
}
