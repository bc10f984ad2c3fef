//! The topology's files are read again.

use config::Topology;
use tracing::info;

use super::switch::Switch;
use crate::api::difference::{Change, Difference, KeyChange, ObjectKind};
use crate::plan::difference::difference;

/// What a reload did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// Number of the topology that is in force.
    pub(crate) number: u64,
    pub(crate) difference: Difference,
}

impl Switch {
    /// Reads the files again and puts in force what they say. `is_dry`: says what that would do,
    /// and does nothing.
    ///
    /// # Errors
    /// What is wrong, as text for people. All is as it was then.
    pub(crate) fn reload(&mut self, is_dry: bool) -> Result<Reloaded, String> {
        let topology = config::load(&self.file).map_err(|report| report.to_string())?;
        self.change(topology, is_dry)
    }

    /// Puts this topology in force, unless `is_dry`.
    fn change(&mut self, topology: Topology, is_dry: bool) -> Result<Reloaded, String> {
        let difference = difference(&self.topology, &topology);
        let wrong = needs_restart(&difference);
        if !wrong.is_empty() {
            return Err(format!("error: {}", wrong.join("\nerror: ")));
        }
        if !is_dry && !difference.is_empty() {
            self.apply(topology)
                .map_err(|wrong| format!("error: {}", wrong.join("\nerror: ")))?;
        }
        let number = self.present().number;
        if !is_dry {
            let changes = match difference.changes.len() {
                0 => "no changes".to_owned(),
                1 => "1 change".to_owned(),
                n => format!("{n} changes"),
            };
            info!("topology {number} is in force: {changes}");
        }
        Ok(Reloaded { number, difference })
    }
}

/// Settings of the daemon that are in force until it is restarted.
const UNTIL_RESTART: [&str; 4] = ["cores", "idle", "control", "metrics"];

/// A sentence for each key that can't be changed while the daemon runs.
fn needs_restart(difference: &Difference) -> Vec<String> {
    let sentence = |key: &KeyChange| {
        format!(
            "`{}` can't be changed while the daemon runs: restart it, or set the key back; \
            nothing has been changed",
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
