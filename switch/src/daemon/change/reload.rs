//! Keys that can't be changed while the daemon runs.

use crate::api::difference::{Change, Difference, KeyChange, ObjectKind};

/// Settings of the daemon that are in force until it is restarted.
const UNTIL_RESTART: [&str; 4] = ["cores", "idle", "control", "metrics"];

/// A sentence for each key that can't be changed while the daemon runs.
pub(super) fn needs_restart(difference: &Difference) -> Vec<String> {
    let sentence = |key: &KeyChange| {
        format!(
            "`{}` can't be changed while the daemon runs: restart it, or set the key back",
            key.key
        )
    };
    let is_of_daemon = |change: &&Change| change.object == ObjectKind::Daemon;
    let is_so =
        |key: &&KeyChange| UNTIL_RESTART.contains(&key.key.split('.').next().unwrap_or_default());
    let of_daemon = difference.changes.iter().filter(is_of_daemon);
    let later = of_daemon.flat_map(|change| &change.keys).filter(is_so);
    let keys = difference.needs_restart().into_iter().chain(later);
    keys.map(sentence).collect()
}
