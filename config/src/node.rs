//! A YAML tree in which each node has its place in the file.
//!
//! Scalars stay untyped, as the characters of the file, so that checks can report every mistake
//! instead of the parser's first one, and tell `0660` from `660`. Repeated keys are kept. Aliases
//! and merges are resolved, within bounds that keep a small file from growing into a large tree.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Options, Spanned};

use crate::context::Mistakes;
use crate::diagnostics::At;
use crate::syntax;

/// Nesting at most; the schema needs a dozen levels.
const DEPTH_MAX: usize = 32;
/// Parser events that aliases may replay in all; four thousand NICs that share keys by merges stay
/// below it.
const REPLAYED_MAX: usize = 250_000;

/// A value in the file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// What kind of value it is.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Nothing, or `~`.
    Null,
    /// A scalar: a quoted one without its quotes, a plain one as it is written.
    Text { text: String, quoted: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order, repeated keys included.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The scalar's characters, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The sequence's items, if it is one; nothing counts as an empty one.
    pub(crate) fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            Value::Null => Some(&[]),
            _ => None,
        }
    }

    /// Whether it is a mapping; nothing counts as an empty one.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.value, Value::Map(_) | Value::Null)
    }

    /// The mapping's entries whose keys are scalars, if it is a mapping; nothing counts as an empty
    /// one.
    pub(crate) fn entries(&self) -> Option<impl Iterator<Item = (&str, &Node, &Node)>> {
        let entries: &[(Node, Node)] = match &self.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => return None,
        };
        Some(
            entries
                .iter()
                .filter_map(|(key, value)| Some((key.text()?, key, value))),
        )
    }

    /// The value of the first entry with that key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?
            .find(|(name, ..)| *name == key)
            .map(|(.., value)| value)
    }
}

/// Parses a file of one document. None: `mistakes` says why.
pub(crate) fn read(text: &str, file_idx: usize, mistakes: &mut Mistakes) -> Option<Node> {
    match serde_saphyr::from_str_with_options::<Spanned<Tree>>(text, options()) {
        Ok(tree) => Some(Reading { text, file_idx }.node(tree)),
        Err(error) => {
            let at = error
                .location()
                .map_or(At::file(file_idx), |location| place(file_idx, location));
            syntax::explain(&error, text, at, mistakes);
            None
        }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            // A thousand VMs may well share one anchor.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: REPLAYED_MAX },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        leading_zero_numbers_as_strings: true,
        strict_booleans: true,
        // Tags would be ignored otherwise.
        reject_unsupported_tags: true,
        emit_comments: false,
        with_snippet: false,
    }
}

/// A node as the deserialiser gives it, with its kind of locations.
enum Tree {
    Null,
    /// A scalar that the deserialiser reads as text.
    Text(String),
    /// A scalar that it reads as another type; its characters are taken from the file.
    Typed,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<Tree>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Tree, E> {
        Ok(Tree::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Tree, E> {
        Ok(Tree::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Typed)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Typed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}

/// The file being read; turns the deserialiser's locations into [`At`].
struct Reading<'a> {
    text: &'a str,
    file_idx: usize,
}

impl Reading<'_> {
    fn node(&self, tree: Spanned<Tree>) -> Node {
        let at = self.at(tree.referenced, tree.defined);
        let written = self.written(tree.defined);
        let value = match tree.value {
            Tree::Null => Value::Null,
            Tree::Text(text) => Value::Text {
                text,
                quoted: written.starts_with(['"', '\'']),
            },
            Tree::Typed => Value::Text {
                text: written.trim().to_owned(),
                quoted: false,
            },
            Tree::List(items) => {
                Value::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            Tree::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (self.node(key), self.node(value)))
                    .collect(),
            ),
        };
        Node { at, value }
    }

    fn at(&self, referenced: Location, defined: Location) -> At {
        let line = to_usize(defined.line());
        At {
            n_chars: to_usize(referenced.span().len()),
            written_on: (line != to_usize(referenced.line())).then_some(line),
            ..place(self.file_idx, referenced)
        }
    }

    /// The characters at a location.
    fn written(&self, location: Location) -> &str {
        let span = location.span();
        let (Some(start), Some(len)) = (span.byte_offset(), span.byte_len()) else {
            return "";
        };
        let start = to_usize(start);
        self.text
            .get(start..start.saturating_add(to_usize(len)))
            .unwrap_or_default()
    }
}

fn place(file_idx: usize, location: Location) -> At {
    At::char(
        file_idx,
        to_usize(location.line()),
        to_usize(location.column()),
    )
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        let mut mistakes = Mistakes::default();
        read(text, 0, &mut mistakes)
            .unwrap_or_else(|| panic!("{}", mistakes.conclude(None::<()>).unwrap_err()))
    }

    #[test]
    fn scalars_keep_the_characters_of_the_file() {
        for written in [
            "0660",
            "1.50",
            "0x10",
            "yes",
            "true",
            ".nan",
            "99999999999999999999999",
            "-5",
            "52:54:00:00:00:01",
        ] {
            let root = node(&format!("k: {written} # comment\n"));
            assert_eq!(root.get("k").unwrap().text(), Some(written));
        }
    }

    #[test]
    fn quoted_scalars_are_known_as_such() {
        let root = node("a: \"5\"\nb: 5\nc: '5'\n");
        let quoted = |key| {
            matches!(
                root.get(key).unwrap().value,
                Value::Text { quoted: true, .. }
            )
        };
        assert_eq!([quoted("a"), quoted("b"), quoted("c")], [true, false, true]);
    }

    #[test]
    fn repeated_keys_are_kept() {
        assert_eq!(node("a: 1\na: 2\n").entries().unwrap().count(), 2);
    }

    #[test]
    fn aliased_value_knows_where_it_is_used_and_where_it_is_written() {
        let root = node("x-a: &a 5\nb: *a\n");
        let at = root.get("b").unwrap().at;
        assert_eq!((at.line, at.column, at.written_on), (2, 4, Some(1)));
    }

    #[test]
    fn merged_keys_give_way_to_those_written() {
        let root = node("x-a: &a { q: 1, r: 2 }\nb:\n  <<: *a\n  r: 3\n");
        let b = root.get("b").unwrap();
        assert_eq!(
            (b.get("q").unwrap().text(), b.get("r").unwrap().text()),
            (Some("1"), Some("3"))
        );
    }

    #[test]
    fn one_anchor_may_serve_a_thousand_times() {
        let mut text = "x-a: &a { q: 1 }\nvms:\n".to_owned();
        for n in 0..1000 {
            text.push_str(&format!("  vm{n}: {{ <<: *a }}\n"));
        }
        assert_eq!(
            node(&text).get("vms").unwrap().entries().unwrap().count(),
            1000
        );
    }
}
