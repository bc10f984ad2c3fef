//! Compares a tree with the table of keys: reports every key that is unknown, repeated, of the
//! wrong kind or not supported yet.

use std::collections::HashMap;

use crate::context::Mistakes;
use crate::diagnostics::{At, shown};
use crate::keys::Kind::{self, List, Map, Names, Scalar, Scalars, Texts};
use crate::keys::{INCLUDED, Key, Shape, TOPOLOGY, VM};
use crate::name;
use crate::nearest::nearest;
use crate::node::{Node, Value};

/// Compares the root of a file with `shape`. Keys that begin with `x-` are free for anchors.
pub(crate) fn walk(root: &Node, shape: &'static Shape, mistakes: &mut Mistakes) {
    Walk { mistakes }.map(root, shape, true);
}

/// Compares the mapping of one VM, and its name.
pub(crate) fn walk_vm(name: &str, body: &Node, mistakes: &mut Mistakes) {
    let mut walk = Walk { mistakes };
    walk.name(name, body.at, &VM);
    walk.map(body, &VM, false);
}

/// Compares a patch of a mapping, in which keys without a value stand for their removal.
pub(crate) fn walk_patch(patch: &Node, shape: &'static Shape, mistakes: &mut Mistakes) {
    let mut walk = Walk { mistakes };
    walk.removals(patch, shape);
    walk.map(&without_nulls(patch), shape, false);
}

fn without_nulls(node: &Node) -> Node {
    let value = match &node.value {
        Value::Map(entries) => {
            let kept = entries
                .iter()
                .filter(|(_, value)| !matches!(value.value, Value::Null));
            let kept = kept.map(|(key, value)| (key.clone(), without_nulls(value)));
            Value::Map(kept.collect())
        }
        value => value.clone(),
    };
    Node { at: node.at, value }
}

struct Walk<'a> {
    mistakes: &'a mut Mistakes,
}

impl Walk<'_> {
    fn value(&mut self, key: &str, node: &Node, kind: &'static Kind) {
        match kind {
            Scalar => self.scalar(key, node),
            Scalars => match &node.value {
                Value::List(items) => items.iter().for_each(|item| self.scalar(key, item)),
                _ => self.scalar(key, node),
            },
            List(kind) => self.list(key, node, kind),
            Map(shape) => self.map(node, shape, false),
            Names(shape) => self.names(key, node, shape),
            Texts => self.texts(key, node),
        }
    }

    fn scalar(&mut self, key: &str, node: &Node) {
        match node.value {
            Value::Text { .. } => {}
            Value::Null => self.mistakes.add(
                node.at,
                format!("`{key}` has no value"),
                format!("write one, as in `{key}: …`, or remove the key"),
            ),
            Value::List(_) | Value::Map(_) => self.mistakes.add(
                node.at,
                format!("`{key}` is a single value, not {}", kind_of(node)),
                format!("write the value after the colon, as in `{key}: …`"),
            ),
        }
    }

    fn list(&mut self, key: &str, node: &Node, kind: &'static Kind) {
        let Some(items) = node.items() else {
            let help = match node.text() {
                Some(text) => format!("write `{key}: [{}]`", shown(text)),
                None => format!("write `{key}: [ … ]`"),
            };
            return self.mistakes.add(
                node.at,
                format!("`{key}` is a list, not {}", kind_of(node)),
                help,
            );
        };
        for item in items {
            self.value(key, item, kind);
        }
    }

    fn map(&mut self, node: &Node, shape: &'static Shape, is_root: bool) {
        let Some(entries) = self.entries_of(node, shape) else {
            return;
        };
        for (key, key_node, value) in entries {
            match shape.key(key) {
                Some(_) if shape.lacks_yet(key) => self.mistakes.add(
                    key_node.at,
                    format!("`{key}` is not supported by this version"),
                    format!("remove `{key}` and what is below it"),
                ),
                Some(Key(_, kind, _)) => self.value(key, value, kind),
                None if is_root && key.starts_with("x-") => {}
                None => self.unknown(key, key_node.at, shape),
            }
        }
    }

    /// Reports unknown and repeated keys, those without a value included.
    fn removals(&mut self, node: &Node, shape: &'static Shape) {
        let entries = self.entries_of(node, shape);
        for (key, key_node, value) in entries.into_iter().flatten() {
            match shape.key(key) {
                None => self.unknown(key, key_node.at, shape),
                Some(Key(_, Map(inner), _)) if node.is_map() => self.removals(value, inner),
                Some(_) => {}
            }
        }
    }

    fn names(&mut self, key: &str, node: &Node, shape: &'static Shape) {
        let help = format!(
            "write names below it, and the keys of {} below each",
            shape.what
        );
        let Some(entries) = self.entries(node, &format!("`{key}`"), help) else {
            return;
        };
        for (name, name_node, value) in entries {
            self.name(name, name_node.at, shape);
            self.map(value, shape, false);
        }
    }

    /// The check of what holds the words decides which words there may be.
    fn texts(&mut self, key: &str, node: &Node) {
        let help = format!("write words and their values below it, as in `{key}: {{ a: b }}`");
        let entries = self.entries(node, &format!("`{key}`"), help);
        for (word, _, value) in entries.into_iter().flatten() {
            self.scalar(word, value);
        }
    }

    fn entries_of<'n>(
        &mut self,
        node: &'n Node,
        shape: &Shape,
    ) -> Option<impl Iterator<Item = (&'n str, &'n Node, &'n Node)> + use<'n>> {
        let help = format!("write its keys below it: {}", ticked(shape.names()));
        self.entries(node, shape.what, help)
    }

    /// The entries of a mapping; reports keys that are repeated or no scalars.
    fn entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        help: String,
    ) -> Option<impl Iterator<Item = (&'n str, &'n Node, &'n Node)> + use<'n>> {
        let Some(entries) = node.entries() else {
            self.mistakes.add(
                node.at,
                format!(
                    "{what} is a mapping of keys to values, not {}",
                    kind_of(node)
                ),
                help,
            );
            return None;
        };
        if let Value::Map(all) = &node.value {
            for (key, _) in all.iter().filter(|(key, _)| key.text().is_none()) {
                self.mistakes.add(
                    key.at,
                    format!("{} can't be a key", kind_of(key)),
                    "write a name before the colon",
                );
            }
        }
        let mut first: HashMap<&str, At> = HashMap::new();
        for (key, key_node, _) in node.entries()? {
            let first_at = *first.entry(key).or_insert(key_node.at);
            if first_at != key_node.at {
                let place = self.mistakes.place(first_at, key_node.at);
                self.mistakes.add(
                    key_node.at,
                    format!("`{}` is here twice; the first is {place}", shown(key)),
                    "keep one of them, or rename one",
                );
            }
        }
        Some(entries)
    }

    fn unknown(&mut self, key: &str, at: At, shape: &Shape) {
        let key_shown = shown(key);
        let message = format!("unknown key `{key_shown}` in {}", shape.what);
        let help = if shape.what == INCLUDED.what && TOPOLOGY.key(key).is_some() {
            format!("move `{key}` into the main file; an included file holds only `vms`")
        } else if let Some(meant) = nearest(key, shape.names()) {
            format!("did you mean `{meant}`?")
        } else if let Some(owner) = TOPOLOGY.owner_of(key) {
            format!(
                "`{key}` is a key of {}; here there are {}",
                owner.what,
                ticked(shape.names())
            )
        } else {
            format!("remove it; the keys here are {}", ticked(shape.names()))
        };
        self.mistakes.add(at, message, help);
    }

    fn name(&mut self, name: &str, at: At, shape: &Shape) {
        if !name::is_sound(name) {
            let message = format!("`{}` can't be the name of {}", shown(name), shape.what);
            self.mistakes.add(at, message, name::HELP);
        }
    }
}

fn kind_of(node: &Node) -> &'static str {
    match node.value {
        Value::Null => "nothing",
        Value::Text { .. } => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}

fn ticked<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
