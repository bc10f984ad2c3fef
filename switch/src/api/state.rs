//! States of ports and virtqueues.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The state of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = PortState)]
pub(crate) enum State {
    /// The topology says that it has none: `enabled: false`.
    Disabled,
    /// There is no front-end, or no device.
    Waiting,
    /// There is one, and no queue runs.
    Connected,
    /// Queues run, and one that should doesn't.
    Impaired,
    /// Queues run.
    Up,
}

impl State {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Disabled,
        Self::Waiting,
        Self::Connected,
        Self::Impaired,
        Self::Up,
    ];

    /// As it is in JSON.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Waiting => "waiting",
            Self::Connected => "connected",
            Self::Impaired => "impaired",
            Self::Up => "up",
        }
    }
}

/// The state of a virtqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = QueueState)]
pub(crate) enum RingState {
    /// A core polls it.
    Runs,
    /// The guest's driver has not started it.
    NotStarted,
    /// It is started, and the front-end has not enabled it.
    NotEnabled,
    /// It was disabled after it had run: what the guest sends on it is dropped.
    Discards,
    /// A fault stopped it.
    Stopped,
}

/// Direction of a virtqueue, from the switch's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = QueueDirection)]
pub(crate) enum Direction {
    /// The guest sends on it.
    Rx,
    /// The guest receives on it.
    Tx,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_as_they_are_in_json() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.text());
        }
    }
}
