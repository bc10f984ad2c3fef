//! Which files an `include` names.

use std::io;
use std::path::{Path, PathBuf};

/// Why a pattern names nothing.
pub(crate) enum Unusable {
    /// It is empty.
    Empty,
    /// It is relative, and the folder has no UTF-8 name.
    Folder,
    /// It is not a valid glob, for this reason.
    Glob(&'static str),
    /// This folder, in which it may match files, can't be read.
    Unreadable(PathBuf, io::Error),
}

/// The paths that a pattern matches, sorted, at most `max`. A glob may match none, and its folder
/// need not be there; but one that can't be read is an error: else all VMs in it would be taken for
/// removed as soon as a daemon has no file descriptor left. A plain path matches itself. `folder`:
/// of the main file.
pub(crate) fn expand(folder: &Path, pattern: &str, max: usize) -> Result<Vec<PathBuf>, Unusable> {
    if pattern.is_empty() {
        return Err(Unusable::Empty);
    }
    if !has_wildcards(pattern) {
        return Ok(vec![folder.join(pattern)]);
    }
    let (below, name) = pattern.rsplit_once('/').unwrap_or((".", pattern));
    if !has_wildcards(below) && !name.contains("**") {
        let below = if below.is_empty() { "/" } else { below };
        let name = glob::Pattern::new(name).map_err(|error| Unusable::Glob(error.msg))?;
        let folder = match below {
            "." => folder.to_owned(),
            below => folder.join(below),
        };
        return in_folder(&folder, &name, max);
    }
    let full = match folder.to_str() {
        Some(_) if Path::new(pattern).is_absolute() => pattern.to_owned(),
        Some("") => pattern.to_owned(),
        Some(folder) => format!("{}/{pattern}", glob::Pattern::escape(folder)),
        None => return Err(Unusable::Folder),
    };
    in_folders(&full, max)
}

/// Files in any folders that match.
fn in_folders(full: &str, max: usize) -> Result<Vec<PathBuf>, Unusable> {
    let paths = glob::glob(full).map_err(|error| Unusable::Glob(error.msg))?;
    // The glob takes what it can't look at for what is not there.
    let beginning = literal_folder(full);
    let unreadable = |folder: &Path, error| Unusable::Unreadable(folder.to_owned(), error);
    if let Err(error) = beginning.metadata()
        && !is_absence(&error)
    {
        return Err(unreadable(beginning, error));
    }
    let mut found = Vec::new();
    for path in paths.take(max) {
        match path {
            Ok(path) => found.push(path),
            // It was removed meanwhile.
            Err(error) if is_absence(error.error()) => {}
            Err(error) => {
                let folder = error.path().to_owned();
                return Err(Unusable::Unreadable(folder, error.into()));
            }
        }
    }
    Ok(found)
}

/// Files of a folder whose names match.
fn in_folder(folder: &Path, name: &glob::Pattern, max: usize) -> Result<Vec<PathBuf>, Unusable> {
    let unreadable = |error| Unusable::Unreadable(folder.to_owned(), error);
    // That of the main file, if it was given by its name alone.
    let opened = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = match opened.read_dir() {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?.file_name();
        if entry.to_str().is_some_and(|entry| name.matches(entry)) {
            found.push(folder.join(entry));
        }
    }
    found.sort();
    found.truncate(max);
    Ok(found)
}

fn has_wildcards(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// The folder in which all matches of a glob are, whatever its wildcards stand for.
fn literal_folder(glob: &str) -> &Path {
    let literal = glob.split(['*', '?', '[']).next().unwrap_or_default();
    let folder = literal.rsplit_once('/').map_or("", |(folder, _)| folder);
    match (folder, glob.starts_with('/')) {
        ("", true) => Path::new("/"),
        ("", false) => Path::new("."),
        _ => Path::new(folder),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
