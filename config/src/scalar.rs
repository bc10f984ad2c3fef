//! Single values: numbers, choices, devices.
//!
//! Each function takes the node of a key's value. None: a mistake was added, here or, for a value
//! of the wrong kind, by `walk`.

use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::context::Mistakes;
use crate::diagnostics::shown;
use crate::nearest::nearest;
use crate::node::{Node, Value};
use crate::units::BadValue;

/// Longest name of a network device: `IFNAMSIZ` without the closing zero.
const DEVICE_MAX: usize = 15;

/// The default if the key is missing, else what `read` makes of its value.
pub(crate) fn optional<'n, T>(
    node: Option<&'n Node>,
    default: T,
    read: impl FnOnce(&'n Node) -> Option<T>,
) -> Option<T> {
    match node {
        None => Some(default),
        Some(node) => read(node),
    }
}

/// A whole number in plain decimal digits.
pub(crate) fn number(
    node: &Node,
    key: &str,
    range: RangeInclusive<u64>,
    mistakes: &mut Mistakes,
) -> Option<u64> {
    let Value::Text { text, quoted } = &node.value else {
        return None;
    };
    let (min, max) = (range.start(), range.end());
    let is_decimal = text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
    if *quoted && is_decimal {
        mistakes.add(
            node.at,
            format!("`{key}` is a number, not text"),
            format!("write `{key}: {}`, without quotes", shown(text)),
        );
        return None;
    }
    let is_negative = text
        .strip_prefix('-')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    if !is_decimal && !is_negative {
        let message = format!("`{key}` is a whole number, not `{}`", shown(text));
        mistakes.add(
            node.at,
            message,
            format!("write decimal digits only, from {min} to {max}"),
        );
        return None;
    }
    if is_decimal && text.len() > 1 && text.starts_with('0') {
        let message = format!(
            "`{}` begins with a zero, which some readers take for octal",
            shown(text)
        );
        mistakes.add(node.at, message, "write it without the zero");
        return None;
    }
    match text.parse() {
        Ok(value) if range.contains(&value) => Some(value),
        _ => {
            let message = format!("`{key}` is out of range: {}", shown(text));
            mistakes.add(
                node.at,
                message,
                format!("write a number from {min} to {max}"),
            );
            None
        }
    }
}

/// Like [`number`], for 16 bits.
pub(crate) fn small(
    node: &Node,
    key: &str,
    range: RangeInclusive<u16>,
    mistakes: &mut Mistakes,
) -> Option<u16> {
    let range = u64::from(*range.start())..=u64::from(*range.end());
    number(node, key, range, mistakes).and_then(|value| u16::try_from(value).ok())
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(
    node: &Node,
    key: &str,
    choices: &[(&str, T)],
    mistakes: &mut Mistakes,
) -> Option<T> {
    let text = node.text()?;
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Some(*value);
    }
    let names: Vec<_> = choices
        .iter()
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let help = match nearest(text, choices.iter().map(|(name, _)| *name)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("write {}", names.join(" or ")),
    };
    mistakes.add(node.at, format!("`{key}` can't be `{}`", shown(text)), help);
    None
}

/// A value of a type that has a parser.
pub(crate) fn parsed<T: FromStr<Err = BadValue>>(
    node: &Node,
    mistakes: &mut Mistakes,
) -> Option<T> {
    read(node, str::parse, mistakes)
}

/// What `parse` makes of the value.
pub(crate) fn read<T>(
    node: &Node,
    parse: impl FnOnce(&str) -> Result<T, BadValue>,
    mistakes: &mut Mistakes,
) -> Option<T> {
    match parse(node.text()?) {
        Ok(value) => Some(value),
        Err(bad) => {
            mistakes.add(node.at, bad.message, bad.help);
            None
        }
    }
}

/// The name of a network device, by the kernel's rules; the daemon checks whether this host has it.
pub(crate) fn device(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<String> {
    let text = node.text()?;
    let bad = if text.is_empty() || text == "." || text == ".." {
        "is not a name".to_owned()
    } else if text.len() > DEVICE_MAX {
        format!("has {} bytes; the kernel takes {DEVICE_MAX}", text.len())
    } else if let Some(c) = text
        .chars()
        .find(|c| c.is_whitespace() || c.is_control() || "/:%".contains(*c))
    {
        format!("holds `{}`", shown(&c.to_string()))
    } else {
        return Some(text.to_owned());
    };
    let message = format!("`{key}` {bad}: `{}` can't be a network device", shown(text));
    mistakes.add(
        node.at,
        message,
        format!("write a name as `ip link` shows it, as in `{key}: eth1`"),
    );
    None
}

/// `true` or `false`.
pub(crate) fn flag(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<bool> {
    choice(node, key, &[("true", true), ("false", false)], mistakes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::diagnostics::At;

    pub(crate) fn text(text: &str, quoted: bool) -> Node {
        Node {
            at: At::char(0, 1, 1),
            value: Value::Text {
                text: text.into(),
                quoted,
            },
        }
    }

    /// The result, and what was said about it.
    pub(crate) fn tried<T>(read: impl FnOnce(&mut Mistakes) -> Option<T>) -> Result<T, String> {
        let mut mistakes = Mistakes::default();
        mistakes.add_file("f".into(), String::new());
        let value = read(&mut mistakes);
        mistakes.conclude(value).map_err(|report| {
            let first = &report.diagnostics()[0];
            format!("{}; {}", first.message(), first.help())
        })
    }

    #[test]
    fn numbers_are_plain_decimal_digits() {
        let read =
            |written: &str, quoted| tried(|m| number(&text(written, quoted), "queues", 1..=16, m));
        assert_eq!(read("16", false), Ok(16));
        assert!(read("4", true).unwrap_err().contains("without quotes"));
        for bad in [
            "0",
            "17",
            "-1",
            "1.0",
            "0x4",
            "1_0",
            "04",
            "four",
            "",
            "99999999999999999999999",
            "1e1",
            "+4",
        ] {
            assert!(read(bad, false).is_err(), "{bad}");
        }
    }
}
