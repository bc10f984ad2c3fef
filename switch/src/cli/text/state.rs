//! The state of a port.

use crate::api::state::State;

/// The state's name.
pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Disabled => "disabled",
        State::Waiting => "waiting",
        State::Connected => "connected",
        State::Impaired => "impaired",
        State::Up => "up",
    }
}
