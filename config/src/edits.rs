//! Which files of a topology have been edited since they were read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::include::expand;
use crate::stamp::Stamp;
use crate::topology::{PORTS_MAX, Topology};

/// What has become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It has been written, or another has taken its place; what it says may be the same.
    Changed,
    /// It is included, and was not there.
    Added,
    /// It is gone.
    Removed,
}

impl Topology {
    /// The files of this topology that have been edited since they were read or written for it, and
    /// those that `include` finds now; by path. No file is read: whether one was edited is told by
    /// its identity, its size and the time of its last change.
    pub fn edited_files(&self) -> Vec<(PathBuf, Edit)> {
        let mut edited = Vec::new();
        let mut known = HashSet::new();
        for (file, stamp) in self.origin.files() {
            match stamp_of(file) {
                None => edited.push((file.clone(), Edit::Removed)),
                Some(now) => {
                    known.insert(now.id);
                    if now != *stamp {
                        edited.push((file.clone(), Edit::Changed));
                    }
                }
            }
        }
        for pattern in self.origin.patterns() {
            let found = expand(self.origin.folder(), pattern, PORTS_MAX).unwrap_or_default();
            for file in found {
                // By another path it may be known, or found by another pattern.
                if stamp_of(&file).is_some_and(|now| known.insert(now.id)) {
                    edited.push((file, Edit::Added));
                }
            }
        }
        edited.sort_by(|(a, _), (b, _)| a.cmp(b));
        edited
    }
}

fn stamp_of(file: &Path) -> Option<Stamp> {
    file.metadata().ok().map(|file| Stamp::of(&file))
}
