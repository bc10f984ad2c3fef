//! The state of a port.

use serde::{Deserialize, Serialize};

/// The state of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// The topology says that it has none: `enabled: false`.
    Disabled,
    /// There is no front-end.
    Waiting,
    /// There is one, and no queue runs.
    Connected,
    /// Queues run, and one that should doesn't.
    Impaired,
    /// Queues run.
    Up,
}
