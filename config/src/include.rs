//! Which files an `include` names.

use std::path::{Path, PathBuf};

/// Why a pattern names nothing.
pub(crate) enum Unusable {
    /// It is empty.
    Empty,
    /// It is relative, and the folder has no UTF-8 name.
    Folder,
    /// It is not a valid glob, for this reason.
    Glob(&'static str),
}

/// The paths that a pattern matches, sorted, at most `max`. A glob may match none; a plain path
/// matches itself. `folder`: of the main file.
pub(crate) fn expand(folder: &Path, pattern: &str, max: usize) -> Result<Vec<PathBuf>, Unusable> {
    if pattern.is_empty() {
        return Err(Unusable::Empty);
    }
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![folder.join(pattern)]);
    }
    let full = match folder.to_str() {
        Some(_) if Path::new(pattern).is_absolute() => pattern.to_owned(),
        Some("") => pattern.to_owned(),
        Some(folder) => format!("{}/{pattern}", glob::Pattern::escape(folder)),
        None => return Err(Unusable::Folder),
    };
    match glob::glob(&full) {
        // Folders that can't be read match nothing, as in a shell.
        Ok(paths) => Ok(paths.flatten().take(max).collect()),
        Err(error) => Err(Unusable::Glob(error.msg)),
    }
}
