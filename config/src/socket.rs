//! The keys of a socket: path, group and mode.
//!
//! Each function takes the node of a value or of the socket. None: a mistake was added, here or,
//! for a value of the wrong kind, by `walk`.

use std::path::{Component, Path, PathBuf};

use crate::context::Mistakes;
use crate::diagnostics::shown;
use crate::node::Node;
use crate::scalar::optional;
use crate::topology::DEFAULT_SOCKET_MODE;
use crate::units::BadValue;

/// Longest path that fits into a `sockaddr_un` with its closing zero.
const SOCKET_PATH_MAX: usize = 107;
/// Longest name of a group that Linux tools make.
const GROUP_MAX: usize = 32;

/// The path of a socket: absolute, short enough for the kernel, normalised so that equal paths
/// compare equal.
pub(crate) fn path(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<PathBuf> {
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

/// Permission bits in octal, with a leading zero so that it is clear.
fn permission_bits(node: &Node, mistakes: &mut Mistakes) -> Option<u32> {
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
pub(crate) fn mode(socket: Option<&Node>, mistakes: &mut Mistakes) -> Option<u32> {
    optional(
        socket.and_then(|node| node.get("mode")),
        DEFAULT_SOCKET_MODE,
        |node| permission_bits(node, mistakes),
    )
}

/// The `group` of a socket.
pub(crate) fn group(socket: Option<&Node>, mistakes: &mut Mistakes) -> Option<Option<String>> {
    optional(socket.and_then(|node| node.get("group")), None, |node| {
        group_name(node, mistakes).map(Some)
    })
}

/// A group by its name or number; the daemon checks whether this host has it.
fn group_name(node: &Node, mistakes: &mut Mistakes) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::tests::{text, tried};

    #[test]
    fn modes_are_octal_with_a_zero() {
        let read = |written: &str| tried(|m| permission_bits(&text(written, true), m));
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
    fn one_socket_path_has_one_spelling() {
        let read = |written: &str| tried(|m| path(&text(written, false), "path", m));
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
        let read = |written: &str| tried(|m| group_name(&text(written, false), m));
        assert_eq!(read("kvm").as_deref(), Ok("kvm"));
        assert_eq!(read("36").as_deref(), Ok("36"));
        for bad in ["", "-1", "a b", "a:b", "x".repeat(33).as_str()] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
