//! Names that users choose, restricted to what is safe in paths, tables and `vm/nic`.

/// What to write in place of another.
pub(crate) const HELP: &str =
    "write at most 64 letters, digits, `-`, `_` and `.`, a letter or digit first";

/// Whether it can be a name.
pub(crate) fn is_sound(name: &str) -> bool {
    let may_hold = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.len() <= 64
        && name.chars().all(may_hold)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}
