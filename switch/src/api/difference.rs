//! What is different between two topologies, as values and as text.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All that is different; empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Difference {
    /// In a fixed order: the daemon, uplinks, networks, then VMs, each followed by its NICs; by
    /// name.
    pub(crate) changes: Vec<Change>,
}

/// An object that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ObjectChange)]
pub(crate) struct Change {
    pub(crate) object: ObjectKind,
    /// Its name; a NIC's is `vm/nic`, and the daemon has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub(crate) name: String,
    pub(crate) change: How,
    /// What is interrupted, the greatest first; empty: nothing.
    pub(crate) costs: Vec<Cost>,
    /// The same as a sentence; none: nothing is interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) sentence: Option<String>,
    /// The keys that are different, in the order of the schema. Of an object that was added, those
    /// that are not what holds anyway; of one that was removed, none.
    pub(crate) keys: Vec<KeyChange>,
}

/// A key whose value is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct KeyChange {
    /// As in `limit.from-vm.rate`, below the object.
    pub(crate) key: String,
    /// None: it had no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) before: Option<Value>,
    /// None: it has no value any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) after: Option<Value>,
    pub(crate) cost: Cost,
}

/// A value in the words of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Value {
    One(String),
    List(Vec<String>),
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ObjectKind {
    Daemon,
    Uplink,
    Network,
    Vm,
    Nic,
}

/// How an object is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum How {
    Added,
    Removed,
    Changed,
}

/// What a change interrupts, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cost {
    /// Nothing.
    Nothing,
    /// The NIC's address is no longer its own; the first one that its guest sends from will be.
    ReleasesAddress,
    /// A socket for operators or for metrics is closed after its successor was opened.
    ReopensSocket,
    /// The NIC's guest is disconnected, and connects again.
    ReconnectsNic,
    /// A device is given back and attached again; what is on the way meanwhile is lost.
    ReattachesDevice,
    /// The NIC's guest is disconnected, or a device given back.
    Disconnects,
    /// It can't be done while the daemon runs.
    NeedsRestart,
}

impl Difference {
    /// Whether nothing is different.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The keys that can't be changed while the daemon runs.
    pub(crate) fn needs_restart(&self) -> Vec<&KeyChange> {
        self.changes
            .iter()
            .flat_map(|change| &change.keys)
            .filter(|key| key.cost == Cost::NeedsRestart)
            .collect()
    }
}

impl Cost {
    /// What it means for this kind of object; none: nothing is interrupted.
    pub(crate) fn sentence(self, object: ObjectKind) -> Option<&'static str> {
        match (self, object) {
            (Cost::Nothing, _) => None,
            (Cost::ReleasesAddress, _) => Some("releases its address"),
            (Cost::ReopensSocket, _) => Some("opens the new socket, then closes the old one"),
            (Cost::ReconnectsNic, _) => Some("reconnects this NIC"),
            (Cost::ReattachesDevice, _) => Some("attaches its device anew"),
            (Cost::Disconnects, ObjectKind::Nic) => Some("disconnects this NIC"),
            (Cost::Disconnects, _) => Some("gives its device back"),
            (Cost::NeedsRestart, _) => Some("needs a restart"),
        }
    }
}

/// A line for each object, its keys below it, and how many NICs and devices are interrupted.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no changes\n");
        }
        self.changes.iter().try_for_each(|change| change.fmt(f))?;
        self.summary(f)
    }
}

impl Difference {
    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_with = |cost: Cost| {
            let has = |change: &&Change| change.costs.contains(&cost);
            self.changes.iter().filter(has).count()
        };
        let counts = [
            (Cost::ReconnectsNic, "reconnected"),
            (Cost::ReattachesDevice, "attached anew"),
            (Cost::Disconnects, "disconnected"),
        ];
        let counts: Vec<_> = counts
            .into_iter()
            .map(|(cost, done)| (n_with(cost), done))
            .filter(|(n, _)| *n > 0)
            .map(|(n, done)| format!("{n} {done}"))
            .collect();
        let n = self.changes.len();
        let changes = if n == 1 { "change" } else { "changes" };
        match counts.is_empty() {
            true => writeln!(f, "{n} {changes}; no port is interrupted"),
            false => writeln!(f, "{n} {changes}; ports: {}", counts.join(", ")),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = match self.object {
            ObjectKind::Daemon => "daemon",
            ObjectKind::Uplink => "uplink ",
            ObjectKind::Network => "network ",
            ObjectKind::Vm => "VM ",
            ObjectKind::Nic => "NIC ",
        };
        let change = match self.change {
            How::Added => "added",
            How::Removed => "removed",
            How::Changed => "changed",
        };
        write!(f, "{object}{}: {change}", self.name)?;
        match &self.sentence {
            Some(sentence) => writeln!(f, " ({sentence})")?,
            None => writeln!(f)?,
        }
        self.keys.iter().try_for_each(|key| key.write(self, f))
    }
}

impl KeyChange {
    fn write(&self, of: &Change, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Which of several keys it is that costs something.
        let sentence = self.cost.sentence(of.object).filter(|_| of.keys.len() > 1);
        let cost = sentence.map_or(String::new(), |sentence| format!(" ({sentence})"));
        let key = &self.key;
        match (&self.before, &self.after) {
            (before, after) if key == "rules" => {
                writeln!(f, "  rules:{cost}")?;
                write_rules(items(before.as_ref()), items(after.as_ref()), f)
            }
            (None, Some(after)) if of.change == How::Added => {
                writeln!(f, "  {key}: {}", after.text())
            }
            (before, after) => {
                let text =
                    |value: &Option<Value>| value.as_ref().map_or("not set".into(), Value::text);
                writeln!(f, "  {key}: {} -> {}{cost}", text(before), text(after))
            }
        }
    }
}

/// The rules that are gone and those that are new, each with its place in its list. No list has a
/// rule twice.
fn write_rules(before: &[String], after: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let numbered = |rules: &[String], others: &[String]| {
        let new = rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| !others.contains(rule));
        new.map(|(idx, rule)| format!("{}: {}", idx + 1, printable(rule)))
            .collect::<Vec<_>>()
    };
    for rule in numbered(before, after) {
        writeln!(f, "    - {rule}")?;
    }
    for rule in numbered(after, before) {
        writeln!(f, "    + {rule}")?;
    }
    let kept = |rules: &[String], others: &[String]| {
        let kept = rules.iter().filter(|rule| others.contains(rule));
        kept.cloned().collect::<Vec<_>>()
    };
    if kept(before, after) == kept(after, before) {
        return Ok(());
    }
    writeln!(f, "    the others in another order:")?;
    for (idx, rule) in after
        .iter()
        .enumerate()
        .filter(|(_, rule)| before.contains(rule))
    {
        writeln!(f, "      {}: {}", idx + 1, printable(rule))?;
    }
    Ok(())
}

fn items(value: Option<&Value>) -> &[String] {
    match value {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

impl Value {
    fn text(&self) -> String {
        match self {
            Value::One(text) => printable(text),
            Value::List(items) => format!("[{}]", printable(&items.join(", "))),
        }
    }
}

/// Without characters that control a terminal or the direction of its text: a label may hold some.
fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
    let isolates = |c| matches!(c, '\u{2066}'..='\u{2069}');
    let is_bad = |c: char| c.is_control() || turns(c) || isolates(c);
    text.replace(is_bad, "\u{fffd}")
}
