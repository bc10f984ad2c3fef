//! The state of a device before it is changed: saved in the run directory first, and restored when
//! this daemon stops or, after a crash, when the next one starts.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use pmd::sys::link::{Channels, Ethtool};
use tracing::{info, warn};

use super::netlink::link::Device;
use super::netlink::socket::Netlink;
use super::note::{self, Note};
use crate::base::folder::Folder;

/// How long to retry while a closed socket still holds the device.
const RELEASES_WITHIN: Duration = Duration::from_secs(1);
/// Invalid files that are logged one by one: there may be thousands.
const LOGGED_MAX: usize = 8;

/// The state of a device before it is changed, and the folder that it is saved in.
#[derive(Clone, Debug)]
pub(crate) struct SavedState {
    note: Note,
    folder: Arc<Folder>,
}

impl SavedState {
    /// Nothing is changed or saved yet, except what an earlier daemon could not restore.
    pub(crate) fn new(folder: &Arc<Folder>, device: &Device) -> Self {
        let new = Note {
            world: world(),
            index: device.index,
            device: device.name.clone(),
            features: BTreeMap::new(),
            channels: None,
        };
        // What could not be restored is still the original state.
        let left = read(folder, &new.name()).ok().flatten();
        let note = left
            .filter(|old| old.world == new.world && old.index == new.index)
            .unwrap_or(new);
        Self {
            note,
            folder: folder.clone(),
        }
    }

    /// Saves that these offloads were on, before they are switched off.
    ///
    /// # Errors
    /// A sentence: the file can't be written.
    pub(crate) fn save_features(
        &mut self,
        were_on: impl IntoIterator<Item = String>,
    ) -> Result<(), String> {
        self.note
            .features
            .extend(were_on.into_iter().map(|name| (name, true)));
        self.write()
    }

    /// Saves the channels before they are changed.
    ///
    /// # Errors
    /// A sentence: the file can't be written.
    pub(crate) fn save_channels(&mut self, was: &Channels) -> Result<(), String> {
        // The state that was saved first is the original one.
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
                "cannot save the state of {device} in {}: {e}; the folder must be writable, and \
                hold no other user's file of that name",
                path.display()
            )
        })
    }

    /// Restores the device and removes the file. Returns what could not be restored.
    pub(crate) fn restore(self) -> Result<(), String> {
        // If this fails, the file stays, and the next start tries again.
        restore(&self.note)?;
        if let Err(e) = self.folder.remove(&self.note.name()) {
            warn!(
                "cannot remove {}: {e}",
                self.folder.path().join(self.note.name()).display()
            );
        }
        Ok(())
    }
}

fn restore(note: &Note) -> Result<(), String> {
    if note.features.is_empty() && note.channels.is_none() {
        return Ok(());
    }
    let cannot = |e: &dyn std::fmt::Display| format!("{} could not be restored: {e}", note.device);
    if note.world != world() {
        return Ok(()); // of another boot or namespace, where the index means another device
    }
    let mut netlink = Netlink::open().map_err(|e| cannot(&e))?;
    let Some(device) = Device::with_index(&mut netlink, note.index).map_err(|e| cannot(&e))? else {
        return Ok(()); // gone, and its changes with it
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
        retry(|_| true, || ethtool.set_channels(&device.name, &channels))
            .map_err(|e| cannot(&format!("its queues: {e}")))
    });
    queues.and(features)
}

/// The saved state in the file of this name, if there is one.
///
/// # Errors
/// A sentence: it is invalid, or it isn't this daemon's own.
fn read(folder: &Folder, name: &str) -> Result<Option<Note>, String> {
    let bytes = folder.read(name, note::BYTES_MAX)?;
    bytes
        .map(|bytes| Note::parse(name, &bytes).map_err(|why| format!("{name:?}: {why}")))
        .transpose()
}

/// Retries for up to a second while `may_pass` accepts the error: what a killed process or a closed
/// socket holds is released within tens of milliseconds.
pub(crate) fn retry<T, E>(
    may_pass: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(e) if may_pass(&e) && begin.elapsed() < RELEASES_WITHIN => {
                std::thread::sleep(Duration::from_millis(20))
            }
            done => return done,
        }
    }
}

/// Restores devices whose state a killed daemon left in the run directory.
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
                if n_others <= LOGGED_MAX {
                    warn!("ignored: {why}");
                }
                continue;
            }
        };
        let device = note.device.clone();
        match (SavedState {
            note,
            folder: folder.clone(),
        })
        .restore()
        {
            Ok(()) => {
                info!("{device}: restored after an unclean exit")
            }
            Err(why) => warn!("{why}"),
        }
    }
    if n_others > LOGGED_MAX {
        warn!(
            "ignored: {} more files that are not saved device states",
            n_others - LOGGED_MAX
        );
    }
}

/// Names the boot and the network namespace in which a device's index is valid: this process's,
/// read once, so that a lack of file descriptors later makes no note one of another world.
pub(crate) fn world() -> String {
    static WORLD: LazyLock<String> = LazyLock::new(|| {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/net").unwrap_or_default();
        format!("{} {}", boot.trim(), namespace.display())
    });
    WORLD.clone()
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
        let mut undo = SavedState::new(&folder, &device());
        undo.save_features(["rx-lro".to_owned()]).unwrap();
        undo.save_features(["rx-lro".to_owned(), "rx-gro".to_owned()])
            .unwrap();
        undo.save_channels(&Channels {
            combined: 8,
            ..Channels::default()
        })
        .unwrap();
        undo.save_channels(&Channels {
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
            SavedState::new(&folder, &device()).note,
            undo.note,
            "what could not be put back is still how it was"
        );
    }

    #[test]
    fn note_is_gone_when_all_is_put_back_and_nothing_else_is_touched() {
        let (dir, folder) = folder();
        let mut undo = SavedState::new(&folder, &device());
        undo.save_features(["rx-lro".to_owned()]).unwrap();
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
        let mut undo = SavedState::new(&folder, &device());
        undo.save_features(["rx-lro".to_owned()]).unwrap();
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
        let mut undo = SavedState::new(&folder, &device());
        drop(dir);
        let why = undo.save_features(["rx-lro".to_owned()]).unwrap_err();
        assert!(
            why.contains("/eth1.device") && why.contains("writable"),
            "{why}"
        );
    }
}
