//! Single values: numbers, choices, paths, names.
//!
//! Each function takes the node of a key's value. None: a mistake was added, here or, for a value
//! of the wrong kind, by `raw`.

use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::context::Mistakes;
use crate::diagnostics::shown;
use crate::nearest::nearest;
use crate::node::{Node, Value};
use crate::topology::DEFAULT_SOCKET_MODE;
use crate::units::BadValue;

/// Longest path that fits into a `sockaddr_un` with its closing zero.
const SOCKET_PATH_MAX: usize = 107;
/// Longest name of a network device: `IFNAMSIZ` without the closing zero.
const DEVICE_MAX: usize = 15;
/// Longest name of a group that Linux tools make.
const GROUP_MAX: usize = 32;

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

/// Permission bits in octal, with a leading zero so that it is clear.
fn mode(node: &Node, mistakes: &mut Mistakes) -> Option<u32> {
    let text = node.text()?;
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
    let is_octal =
        |digits: &&str| !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match digits
        .filter(is_octal)
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
    {
        Some(mode) if mode <= 0o777 => Some(mode),
        Some(_) => {
            mistakes.add(
                node.at,
                format!("`mode` has bits beyond 0777: {}", shown(text)),
                "write permission bits only, as in \"0660\"",
            );
            None
        }
        None => {
            let is_bare = text.len() == 3 && is_octal(&text);
            let example = if is_bare {
                format!("0{text}")
            } else {
                "0660".to_owned()
            };
            let message = if is_bare {
                "`mode` is octal, and begins with a zero"
            } else {
                "`mode` is octal permission bits"
            };
            mistakes.add(node.at, message, format!("write `mode: \"{example}\"`"));
            None
        }
    }
}

/// The `mode` of a socket, or the default.
pub(crate) fn socket_mode(socket: Option<&Node>, mistakes: &mut Mistakes) -> Option<u32> {
    optional(
        socket.and_then(|node| node.get("mode")),
        DEFAULT_SOCKET_MODE,
        |node| mode(node, mistakes),
    )
}

/// The `group` of a socket.
pub(crate) fn socket_group(
    socket: Option<&Node>,
    mistakes: &mut Mistakes,
) -> Option<Option<String>> {
    optional(socket.and_then(|node| node.get("group")), None, |node| {
        group(node, mistakes).map(Some)
    })
}

/// A group by its name or number; the daemon checks whether this host has it.
fn group(node: &Node, mistakes: &mut Mistakes) -> Option<String> {
    let text = node.text()?;
    let may_hold = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = (1..=GROUP_MAX).contains(&text.len())
        && text.chars().all(may_hold)
        && !text.starts_with(['-', '.']);
    if fits {
        return Some(text.to_owned());
    }
    mistakes.add(
        node.at,
        format!("`{}` can't be a group", shown(text)),
        "write a group's name or number, as in `group: kvm`",
    );
    None
}

/// The name of a network device, by the kernel's rules; the daemon checks whether this host has it.
pub(crate) fn device(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<String> {
    let text = node.text()?;
    let bad = if text.is_empty() || text == "." || text == ".." {
        "is no name".to_owned()
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

/// The path of a socket: absolute, short enough for the kernel, normalised so that equal paths
/// compare equal.
pub(crate) fn socket_path(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<PathBuf> {
    let text = node.text()?;
    match checked_path(text) {
        Ok(path) => Some(path),
        Err(bad) => {
            mistakes.add(node.at, format!("`{key}` {}", bad.message), bad.help);
            None
        }
    }
}

fn checked_path(text: &str) -> Result<PathBuf, BadValue> {
    let path = Path::new(text);
    if text.is_empty() {
        return Err(BadValue::new(
            "is empty",
            "write an absolute path, as in /run/weir/web-net0.sock",
        ));
    }
    if text.contains(char::is_control) {
        return Err(BadValue::new(
            "holds a control character",
            "write a plain path, as in /run/weir/web-net0.sock",
        ));
    }
    if !path.is_absolute() {
        let name = path
            .file_name()
            .map_or("web-net0.sock".into(), |name| name.to_string_lossy());
        return Err(BadValue::new(
            "is not absolute",
            format!("write all of it, as in /run/weir/{}", shown(&name)),
        ));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(BadValue::new("holds `..`", "write the path without it"));
    }
    if text.ends_with('/') || path.file_name().is_none() {
        return Err(BadValue::new(
            "names a folder",
            format!(
                "add the socket's name, as in {}/web-net0.sock",
                shown(text.trim_end_matches('/'))
            ),
        ));
    }
    // Removes doubled slashes and dots.
    let path: PathBuf = path.components().collect();
    let n_bytes = path.as_os_str().len();
    if n_bytes > SOCKET_PATH_MAX {
        let message =
            format!("has {n_bytes} bytes; the kernel takes {SOCKET_PATH_MAX} for a socket");
        return Err(BadValue::new(message, "use a shorter folder or name"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::At;

    fn text(text: &str, quoted: bool) -> Node {
        Node {
            at: At::char(0, 1, 1),
            value: Value::Text {
                text: text.into(),
                quoted,
            },
        }
    }

    /// The result, and what was said about it.
    fn tried<T>(read: impl FnOnce(&mut Mistakes) -> Option<T>) -> Result<T, String> {
        let mut mistakes = Mistakes::default();
        mistakes.add_file("f".into(), String::new());
        let value = read(&mut mistakes);
        mistakes.conclude(value).map_err(|report| {
            let first = &report.diagnostics()[0];
            format!("{}; {}", first.message(), first.help())
        })
    }

    #[test]
    fn modes_are_octal_with_a_zero() {
        let read = |written: &str| tried(|m| mode(&text(written, true), m));
        assert_eq!(read("0660"), Ok(0o660));
        assert_eq!(read("0o666"), Ok(0o666));
        assert_eq!(read("00"), Ok(0));
        assert!(read("660").unwrap_err().contains("\"0660\""));
        for bad in [
            "",
            "0",
            "0o",
            "0888",
            "rw-rw----",
            "432",
            "01777",
            "00000000000000000777777",
            "0x1b0",
            "0+60",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
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

    #[test]
    fn one_socket_path_has_one_spelling() {
        let read = |written: &str| tried(|m| socket_path(&text(written, false), "path", m));
        assert_eq!(
            read("/run//weir/./a.sock"),
            Ok(PathBuf::from("/run/weir/a.sock"))
        );
        assert!(read(&format!("/{}", "x".repeat(106))).is_ok());
        assert!(
            read(&format!("/{}", "x".repeat(107)))
                .unwrap_err()
                .contains("108 bytes")
        );
        for bad in [
            "",
            "a.sock",
            "./a",
            "/",
            "/run/weir/",
            "/run/../a",
            "/a\0b",
            "/run/..",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn groups_are_names_or_numbers() {
        let read = |written: &str| tried(|m| group(&text(written, false), m));
        assert_eq!(read("kvm").as_deref(), Ok("kvm"));
        assert_eq!(read("36").as_deref(), Ok("36"));
        for bad in ["", "-1", "a b", "a:b", "x".repeat(33).as_str()] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
