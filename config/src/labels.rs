//! Checks a VM's `labels`.
//!
//! Their names are those that Prometheus takes for its labels, so that metrics need not rename
//! them, which could make two of them the same.

use std::collections::BTreeMap;

use crate::context::Mistakes;
use crate::diagnostics::shown;
use crate::node::Node;

/// Labels of one VM.
const LABELS_MAX: usize = 16;
/// Bytes.
const NAME_MAX: usize = 64;
const TEXT_MAX: usize = 128;

/// The labels. None: `mistakes` says why, here or by `walk`.
pub(crate) fn labels(
    node: Option<&Node>,
    mistakes: &mut Mistakes,
) -> Option<BTreeMap<String, String>> {
    let Some(node) = node else {
        return Some(BTreeMap::new());
    };
    let mut labels = Some(BTreeMap::new());
    for (idx, (name, name_node, value)) in node.entries()?.enumerate() {
        if idx == LABELS_MAX {
            mistakes.add(
                name_node.at,
                format!("more than {LABELS_MAX} labels of one VM"),
                "keep those that people or metrics need, and the rest elsewhere",
            );
            return None;
        }
        let is_sound = [
            is_name(name, name_node, mistakes),
            is_text(name, value, mistakes),
        ];
        labels = labels.filter(|_| is_sound == [true; 2]).map(|mut labels| {
            labels.insert(name.to_owned(), value.text().unwrap_or_default().to_owned());
            labels
        });
    }
    labels
}

fn is_name(name: &str, node: &Node, mistakes: &mut Mistakes) -> bool {
    let may_hold = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let fits = name.len() <= NAME_MAX
        && name.chars().all(may_hold)
        && name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !fits {
        mistakes.add(
            node.at,
            format!("`{}` can't be the name of a label", shown(name)),
            format!("write at most {NAME_MAX} letters, digits and `_`, a letter first"),
        );
    }
    fits
}

/// For a value of the wrong kind `walk` has added the mistake.
fn is_text(name: &str, node: &Node, mistakes: &mut Mistakes) -> bool {
    let Some(text) = node.text() else {
        return false;
    };
    let bad = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > TEXT_MAX {
        format!("has {} bytes", text.len())
    } else if text.contains(char::is_control) {
        "holds a control character".to_owned()
    } else {
        return true;
    };
    mistakes.add(
        node.at,
        format!("the label `{}` {bad}", shown(name)),
        format!("write a text of 1 to {TEXT_MAX} bytes on one line"),
    );
    false
}
