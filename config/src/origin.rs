//! Where a topology was written: which file and line each thing of it comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::object::ObjectKind;
use crate::stamp::Stamp;

/// Where a topology was written. It is no part of what the topology says: any two are equal.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    main: PathBuf,
    /// As `include` has them.
    patterns: Vec<String>,
    places: BTreeMap<(ObjectKind, String), Place>,
    /// The files, as they were read.
    files: BTreeMap<PathBuf, Stamp>,
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as found from the main file's path.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl Origin {
    /// `patterns`: as `include` has them; `files`: all that were read.
    pub(crate) fn new(
        main: PathBuf,
        patterns: Vec<String>,
        files: impl Iterator<Item = (PathBuf, Stamp)>,
    ) -> Self {
        Self {
            main,
            patterns,
            places: BTreeMap::new(),
            files: files.collect(),
        }
    }

    /// Enters places, in place of older ones.
    pub(crate) fn add(&mut self, places: impl IntoIterator<Item = (ObjectKind, String, Place)>) {
        let places = places.into_iter();
        self.places
            .extend(places.map(|(kind, name, place)| ((kind, name), place)));
    }

    /// Forgets where something was.
    pub(crate) fn remove(&mut self, kind: ObjectKind, name: &str) {
        self.places.remove(&(kind, name.to_owned()));
    }

    /// The main file.
    pub fn main(&self) -> &Path {
        &self.main
    }

    /// Where something is written; a NIC's name is `vm/nic`, and the place of the daemon is that of
    /// its control socket's path. None: nowhere, it is a default.
    pub fn place(&self, kind: ObjectKind, name: &str) -> Option<&Place> {
        self.places.get(&(kind, name.to_owned()))
    }

    /// Whether `include` covers a file of this path, there or not.
    pub fn covers(&self, file: &Path) -> bool {
        let options = MatchOptions {
            require_literal_separator: true,
            ..MatchOptions::default()
        };
        let (folder, file) = (tidy(self.folder()), tidy(file));
        let folder = Pattern::escape(&folder.to_string_lossy());
        let covers = |pattern: &String| {
            if !pattern.contains(['*', '?', '[']) {
                return tidy(&self.folder().join(pattern)) == file;
            }
            let full = Path::new(&folder).join(tidy(Path::new(pattern)));
            Pattern::new(&full.to_string_lossy())
                .is_ok_and(|pattern| pattern.matches_path_with(&file, options))
        };
        self.patterns.iter().any(covers)
    }

    /// Takes note that `file` was written for this topology; `open`: the file, under whatever name
    /// it has before it takes that one.
    ///
    /// # Errors
    /// The file's state can't be read.
    pub fn written(&mut self, file: &Path, open: &File) -> io::Result<()> {
        let stamp = Stamp::of(&open.metadata()?);
        self.files.insert(file.to_owned(), stamp);
        Ok(())
    }

    /// Whether a file is as it was read or written: the `named` one, of which this was found.
    pub fn is_as_read(&self, named: &Path, found: &Metadata) -> bool {
        self.files.get(named) == Some(&Stamp::of(found))
    }

    /// The files, as they were found from the main file's path.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Takes note that `file` was removed for this topology.
    pub fn removed(&mut self, file: &Path) {
        self.files.remove(file);
    }

    /// The files, as they were read or written.
    pub(crate) fn files(&self) -> &BTreeMap<PathBuf, Stamp> {
        &self.files
    }

    /// The patterns of `include`.
    pub(crate) fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// The folder of the main file.
    pub(crate) fn folder(&self) -> &Path {
        self.main.parent().unwrap_or(Path::new(""))
    }
}

/// The path without `./` and doubled slashes.
fn tidy(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(main: &str, patterns: &[&str]) -> Origin {
        Origin {
            main: main.into(),
            patterns: patterns
                .iter()
                .map(|pattern| (*pattern).to_owned())
                .collect(),
            ..Origin::default()
        }
    }

    #[test]
    fn include_covers_what_it_would_find() {
        for (main, pattern, file, covers) in [
            ("/etc/weir.yaml", "vms.d/*.yaml", "/etc/vms.d/a.yaml", true),
            (
                "/etc/weir.yaml",
                "./vms.d//*.yaml",
                "/etc/vms.d/a.yaml",
                true,
            ),
            ("/etc/weir.yaml", "vms.d/*.yaml", "/etc/vms.d/a.yml", false),
            (
                "/etc/weir.yaml",
                "vms.d/*.yaml",
                "/etc/vms.d/x/a.yaml",
                false,
            ),
            ("/etc/weir.yaml", "*.yaml", "/etc/vms.d/a.yaml", false),
            ("/etc/weir.yaml", "**/*.yaml", "/etc/vms.d/a.yaml", true),
            (
                "/etc/weir.yaml",
                "/etc/vms.d/[ab].yaml",
                "/etc/vms.d/a.yaml",
                true,
            ),
            (
                "/etc/weir.yaml",
                "/srv/vms.d/*.yaml",
                "/etc/vms.d/a.yaml",
                false,
            ),
            ("/etc/weir.yaml", "vms.d/a.yaml", "/etc/vms.d/a.yaml", true),
            ("/etc/weir.yaml", "vms.d/b.yaml", "/etc/vms.d/a.yaml", false),
            ("weir.yaml", "vms.d/*.yaml", "vms.d/a.yaml", true),
            ("./weir.yaml", "vms.d/*.yaml", "./vms.d/a.yaml", true),
            (
                "/e[1]/weir.yaml",
                "vms.d/*.yaml",
                "/e[1]/vms.d/a.yaml",
                true,
            ),
            ("/e[1]/weir.yaml", "vms.d/*.yaml", "/e1/vms.d/a.yaml", false),
            ("/etc/weir.yaml", "vms.d/a***b", "/etc/vms.d/a.yaml", false),
        ] {
            let found = origin(main, &[pattern]).covers(Path::new(file));
            assert_eq!(found, covers, "{main} {pattern} {file}");
        }
        assert!(!origin("/etc/weir.yaml", &[]).covers(Path::new("/etc/vms.d/a.yaml")));
    }

    #[test]
    fn two_origins_are_the_same_topology() {
        assert_eq!(origin("/a", &["x"]), origin("/b", &[]));
    }
}
