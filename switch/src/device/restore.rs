//! What was changed at a device, noted in the run directory before it is changed, so that it is put
//! back by whoever comes next: the end of this daemon, or after a crash the start of another.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pmd::sys::link::{Channels, Ethtool};
use tracing::{info, warn};

use super::netlink::link::Device;
use super::netlink::socket::Netlink;
use super::note::{self, Note};
use crate::base::folder::Folder;

/// How long what a closed socket still holds may be in the way.
const LETS_GO_WITHIN: Duration = Duration::from_secs(1);
/// Files that are no notes of ours, of which each is said: somebody may have put in thousands.
const SAID_MAX: usize = 8;

/// How a device was before, and where that is noted.
#[derive(Clone, Debug)]
pub(crate) struct Undo {
    note: Note,
    folder: Arc<Folder>,
}

impl Undo {
    /// Nothing is changed yet, and nothing noted but what an earlier daemon left that could not be
    /// put back.
    pub(crate) fn new(folder: &Arc<Folder>, device: &Device) -> Self {
        let new = Note {
            world: world(),
            index: device.index,
            device: device.name.clone(),
            features: BTreeMap::new(),
            channels: None,
        };
        // What could not be put back yet is still how it was.
        let left = read(folder, &new.name()).ok().flatten();
        let note = left
            .filter(|old| old.world == new.world && old.index == new.index)
            .unwrap_or(new);
        Self {
            note,
            folder: folder.clone(),
        }
    }

    /// These offloads will be changed, which were on.
    ///
    /// # Errors
    /// A sentence: the note can't be written.
    pub(crate) fn note_features(
        &mut self,
        were_on: impl IntoIterator<Item = String>,
    ) -> Result<(), String> {
        self.note
            .features
            .extend(were_on.into_iter().map(|name| (name, true)));
        self.write()
    }

    /// The queues will be changed: this is how they were.
    ///
    /// # Errors
    /// A sentence: the note can't be written.
    pub(crate) fn note_channels(&mut self, was: &Channels) -> Result<(), String> {
        // What was noted first is how it was.
        self.note
            .channels
            .get_or_insert([was.rx, was.tx, was.other, was.combined]);
        self.write()
    }

    fn write(&self) -> Result<(), String> {
        let bytes = serde_json::to_vec(&self.note).map_err(|e| e.to_string())?;
        self.folder.write(&self.note.name(), &bytes).map_err(|e| {
            let (path, device) = (self.folder.path().join(self.note.name()), &self.note.device);
            format!(
                "cannot note in {} how {device} was before: {e}; the folder must be writable, and \
                nobody else's file in the way",
                path.display()
            )
        })
    }

    /// Puts everything back and forgets the note. Gives what could not be put back.
    pub(crate) fn undo(self) -> Result<(), String> {
        // Where that fails, the note stays, and the next start tries again.
        put_back(&self.note)?;
        if let Err(e) = self.folder.remove(&self.note.name()) {
            warn!(
                "cannot remove the note {}: {e}",
                self.folder.path().join(self.note.name()).display()
            );
        }
        Ok(())
    }
}

fn put_back(note: &Note) -> Result<(), String> {
    if note.features.is_empty() && note.channels.is_none() {
        return Ok(());
    }
    let cannot =
        |e: &dyn std::fmt::Display| format!("{} could not be put back as it was: {e}", note.device);
    if note.world != world() {
        return Ok(()); // of another boot or namespace: the device is none of ours
    }
    let mut netlink = Netlink::open().map_err(|e| cannot(&e))?;
    let Some(device) = Device::with_index(&mut netlink, note.index).map_err(|e| cannot(&e))? else {
        return Ok(()); // gone, and all that was changed with it
    };
    let ethtool = Ethtool::new().map_err(|e| cannot(&e))?;
    let features: Vec<_> = note
        .features
        .iter()
        .map(|(name, was)| (name.as_str(), *was))
        .collect();
    let features = ethtool
        .set_features(&device.name, &features)
        .map_err(|e| cannot(&format!("its offloads: {e}")));
    let queues = note.channels().map_or(Ok(()), |channels| {
        patiently(|_| true, || ethtool.set_channels(&device.name, &channels))
            .map_err(|e| cannot(&format!("its queues: {e}")))
    });
    queues.and(features)
}

/// The note of this name, if there is one.
///
/// # Errors
/// A sentence: it is none, or it isn't this daemon's own.
fn read(folder: &Folder, name: &str) -> Result<Option<Note>, String> {
    let bytes = folder.read(name, note::BYTES_MAX)?;
    bytes
        .map(|bytes| Note::parse(name, &bytes).map_err(|why| format!("{name:?}: {why}")))
        .transpose()
}

/// Tries for a second, as long as `may_pass` says so of the failure: what a process that was killed
/// or a socket that was closed still holds is free after some tens of milliseconds.
pub(crate) fn patiently<T, E>(
    may_pass: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(e) if may_pass(&e) && begin.elapsed() < LETS_GO_WITHIN => {
                std::thread::sleep(Duration::from_millis(20))
            }
            done => return done,
        }
    }
}

/// Puts back what a daemon that was killed has left in its run directory.
pub(crate) fn repair(folder: &Arc<Folder>) {
    folder.sweep();
    let mut n_others = 0;
    for name in folder
        .names()
        .into_iter()
        .filter(|name| note::is_note(name))
    {
        let note = match read(folder, &name) {
            Ok(Some(note)) => note,
            Ok(None) => continue,
            Err(why) => {
                n_others += 1;
                if n_others <= SAID_MAX {
                    warn!("left alone: {why}");
                }
                continue;
            }
        };
        let device = note.device.clone();
        match (Undo {
            note,
            folder: folder.clone(),
        })
        .undo()
        {
            Ok(()) => {
                info!("{device}: put back as it was before a daemon that did not end in order")
            }
            Err(why) => warn!("{why}"),
        }
    }
    if n_others > SAID_MAX {
        warn!(
            "left alone: {} more files that are no notes of this daemon's",
            n_others - SAID_MAX
        );
    }
}

/// The boot and the network namespace in which an index is what it is.
pub(crate) fn world() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn device() -> Device {
        Device {
            index: 0x7fff_fff0,
            name: "eth1".into(),
            ..Device::default()
        }
    }

    fn folder() -> (tempfile::TempDir, Arc<Folder>) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        (dir, folder)
    }

    #[test]
    fn first_note_of_queues_is_how_they_were() {
        let (_dir, folder) = folder();
        let mut undo = Undo::new(&folder, &device());
        undo.note_features(["rx-lro".to_owned()]).unwrap();
        undo.note_features(["rx-lro".to_owned(), "rx-gro".to_owned()])
            .unwrap();
        undo.note_channels(&Channels {
            combined: 8,
            ..Channels::default()
        })
        .unwrap();
        undo.note_channels(&Channels {
            combined: 2,
            ..Channels::default()
        })
        .unwrap();
        let read = read(&folder, "eth1.device").unwrap().unwrap();
        assert_eq!(read, undo.note);
        assert_eq!(
            read.features,
            [("rx-gro".to_owned(), true), ("rx-lro".to_owned(), true)].into()
        );
        assert_eq!(read.channels, Some([0, 0, 0, 8]));
        assert_eq!(
            Undo::new(&folder, &device()).note,
            undo.note,
            "what could not be put back is still how it was"
        );
    }

    #[test]
    fn note_is_gone_when_all_is_put_back_and_nothing_else_is_touched() {
        let (dir, folder) = folder();
        let mut undo = Undo::new(&folder, &device());
        undo.note_features(["rx-lro".to_owned()]).unwrap();
        fs::write(dir.path().join("broken.device"), "{").unwrap();
        fs::write(dir.path().join("weir.lock"), "1").unwrap();
        fs::write(dir.path().join(".eth2.device.1.draft"), "{").unwrap();
        fs::set_permissions(
            dir.path().join(".eth2.device.1.draft"),
            fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        repair(&folder);
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["broken.device", "weir.lock"]);
    }

    #[test]
    fn what_others_put_in_place_of_a_note_is_not_acted_upon_and_not_written_through() {
        let (dir, folder) = folder();
        let (elsewhere, note) = (tempfile::tempdir().unwrap(), dir.path().join("eth1.device"));
        let victim = elsewhere.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &note).unwrap();
        // As the drafts of earlier versions were called, and one that is being looked for.
        symlink(&victim, dir.path().join("eth1.draft")).unwrap();
        symlink(&victim, dir.path().join(".eth1.device.draft")).unwrap();
        repair(&folder);
        assert!(note.is_symlink(), "left alone");
        let mut undo = Undo::new(&folder, &device());
        undo.note_features(["rx-lro".to_owned()]).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!note.is_symlink() && fs::read_to_string(&note).unwrap().contains("rx-lro"));
        // A note that was given another name, to be put back at another device.
        fs::rename(&note, dir.path().join("eth2.device")).unwrap();
        assert!(
            read(&folder, "eth2.device")
                .unwrap_err()
                .contains("another name")
        );
    }

    #[test]
    fn folder_that_cannot_be_written_to_is_said_before_anything_is_changed() {
        let (dir, folder) = folder();
        let mut undo = Undo::new(&folder, &device());
        drop(dir);
        let why = undo.note_features(["rx-lro".to_owned()]).unwrap_err();
        assert!(
            why.contains("/eth1.device") && why.contains("writable"),
            "{why}"
        );
    }
}
