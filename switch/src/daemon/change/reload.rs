//! Keys that can't be changed while the daemon runs.

use config::Topology;

use crate::api::difference::{Difference, KeyChange};

/// A sentence for each key that can't be changed while the daemon runs.
pub(super) fn needs_restart(
    difference: &Difference,
    (before, after): (&Topology, &Topology),
) -> Vec<String> {
    let sentence = |key: &KeyChange| {
        format!(
            "`{}` can't be changed while the daemon runs: restart it, or set the key back",
            key.key
        )
    };
    let keys = difference.needs_restart().into_iter();
    let moves = other_run_dir(before, after);
    keys.map(sentence).chain(moves).collect()
}

/// A sentence, if the control socket would be in another folder: this daemon's lock is in the one,
/// and what it leaves for the next, and its successor would not find them in the other.
fn other_run_dir(before: &Topology, after: &Topology) -> Option<String> {
    let (old, new) = (before.run_dir(), after.run_dir());
    (old != new).then(|| {
        format!(
            "`control.path` can't be moved from {} to {} while the daemon runs, which keeps notes \
            beside it: choose another name in the same folder, or restart",
            old.display(),
            new.display()
        )
    })
}
