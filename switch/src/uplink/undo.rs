//! What was changed at a device, noted in the run directory before it is changed, so that it is put back by whoever comes
//! next: the end of this daemon, or after a crash the start of another.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmd::sys::link::{Channels, Ethtool};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::device::Device;
use super::netlink::Netlink;

/// How long what a closed socket still holds may be in the way.
const LETS_GO_WITHIN: Duration = Duration::from_secs(1);
/// What the note's file is called, behind the device's name.
const SUFFIX: &str = ".device";

/// How a device was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undo {
    /// Where and when the index below means anything: this boot, this network namespace.
    world: String,
    index: u32,
    device: String,
    /// Offloads that were changed, as they were asked for.
    features: BTreeMap<String, bool>,
    /// Queues, if they were changed: receiving, sending, other, pairs.
    channels: Option<[u32; 4]>,
    #[serde(skip)]
    path: PathBuf,
}

impl Undo {
    /// Nothing is changed yet, and nothing noted but what an earlier daemon left that could not be put back.
    pub(crate) fn new(run_dir: &Path, device: &Device) -> Self {
        let path = run_dir.join(format!("{}{SUFFIX}", device.name));
        let (index, device) = (device.index, device.name.clone());
        let new = Self { world: world(), index, device, features: BTreeMap::new(), channels: None, path };
        // What could not be put back yet is still how it was.
        read(&new.path).filter(|old| old.world == new.world && old.index == new.index).unwrap_or(new)
    }

    /// These offloads will be changed: this is how they were.
    ///
    /// # Errors
    /// A sentence: the note can't be written.
    pub(crate) fn note_features(&mut self, features: impl IntoIterator<Item = (String, bool)>) -> Result<(), String> {
        for (name, was) in features {
            // What was noted first is how it was.
            self.features.entry(name).or_insert(was);
        }
        self.write()
    }

    /// The queues will be changed: this is how they were.
    ///
    /// # Errors
    /// A sentence: the note can't be written.
    pub(crate) fn note_channels(&mut self, was: &Channels) -> Result<(), String> {
        self.channels.get_or_insert([was.rx, was.tx, was.other, was.combined]);
        self.write()
    }

    fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string(self).map_err(|e| e.to_string())?;
        // Whole or not at all, whenever the daemon is killed.
        let draft = self.path.with_extension("draft");
        let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &self.path));
        written.map_err(|e| {
            let path = self.path.display();
            format!("cannot note in {path} how {} was before: {e}; the folder must be writable", self.device)
        })
    }

    /// Puts everything back and forgets the note. Gives what could not be put back.
    pub(crate) fn undo(self) -> Result<(), String> {
        // Where that fails, the note stays, and the next start tries again.
        self.put_back()?;
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                warn!("cannot remove the note {}: {e}", self.path.display());
            }
            _ => {}
        }
        Ok(())
    }

    fn put_back(&self) -> Result<(), String> {
        if self.features.is_empty() && self.channels.is_none() {
            return Ok(());
        }
        let cannot = |e: &dyn std::fmt::Display| format!("{} could not be put back as it was: {e}", self.device);
        if self.world != world() {
            return Ok(()); // of another boot or namespace: the device is none of ours
        }
        let mut netlink = Netlink::open().map_err(|e| cannot(&e))?;
        let Some(device) = Device::with_index(&mut netlink, self.index).map_err(|e| cannot(&e))? else {
            return Ok(()); // gone, and all that was changed with it
        };
        let ethtool = Ethtool::new().map_err(|e| cannot(&e))?;
        let features: Vec<_> = self.features.iter().map(|(name, was)| (name.as_str(), *was)).collect();
        let features = ethtool.set_features(&device.name, &features).map_err(|e| cannot(&format!("its offloads: {e}")));
        let queues = self.channels.map_or(Ok(()), |[rx, tx, other, combined]| {
            let channels = Channels { rx, tx, other, combined, ..Channels::default() };
            patiently(|_| true, || ethtool.set_channels(&device.name, &channels))
                .map_err(|e| cannot(&format!("its queues: {e}")))
        });
        queues.and(features)
    }
}

fn read(path: &Path) -> Option<Undo> {
    let undo = serde_json::from_str::<Undo>(&fs::read_to_string(path).ok()?).ok()?;
    Some(Undo { path: path.to_owned(), ..undo })
}

/// Tries for a second, as long as `may_pass` says so of the failure: what a process that was killed or a socket that was closed
/// still holds is free after some tens of milliseconds.
pub(crate) fn patiently<T, E>(
    may_pass: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(e) if may_pass(&e) && begin.elapsed() < LETS_GO_WITHIN => std::thread::sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
}

/// Puts back what a daemon that was killed has left in its run directory.
pub(crate) fn repair(run_dir: &Path) {
    let Ok(entries) = fs::read_dir(run_dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if !path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)) {
            continue;
        }
        let Some(undo) = read(&path) else {
            warn!("{} is no note of how a device was before: left alone", path.display());
            continue;
        };
        let device = undo.device.clone();
        match undo.undo() {
            Ok(()) => info!("{device}: put back as it was before a daemon that did not end in order"),
            Err(why) => warn!("{why}"),
        }
    }
}

/// The boot and the network namespace in which an index is what it is.
fn world() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device { index: 0x7fff_fff0, name: "eth1".into(), ..Device::default() }
    }

    #[test]
    fn first_note_of_an_offload_is_how_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut undo = Undo::new(dir.path(), &device());
        undo.note_features([("rx-lro".to_owned(), true)]).unwrap();
        undo.note_features([("rx-lro".to_owned(), false), ("rx-gro".to_owned(), true)]).unwrap();
        undo.note_channels(&Channels { combined: 8, ..Channels::default() }).unwrap();
        undo.note_channels(&Channels { combined: 2, ..Channels::default() }).unwrap();
        let text = fs::read_to_string(dir.path().join("eth1.device")).unwrap();
        let read: Undo = serde_json::from_str(&text).unwrap();
        assert_eq!(read, Undo { path: PathBuf::new(), ..undo });
        assert_eq!(read.features, [("rx-gro".to_owned(), true), ("rx-lro".to_owned(), true)].into());
        assert_eq!(read.channels, Some([0, 0, 0, 8]));
    }

    #[test]
    fn note_is_gone_when_all_is_put_back_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let mut undo = Undo::new(dir.path(), &device());
        undo.note_features([("rx-lro".to_owned(), true)]).unwrap();
        fs::write(dir.path().join("broken.device"), "{").unwrap();
        fs::write(dir.path().join("weir.lock"), "1").unwrap();
        repair(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["broken.device", "weir.lock"]);
    }

    #[test]
    fn folder_that_cannot_be_written_to_is_said_before_anything_is_changed() {
        let mut undo = Undo::new(Path::new("/nonexistent"), &device());
        let why = undo.note_features([("rx-lro".to_owned(), true)]).unwrap_err();
        assert!(why.contains("/nonexistent/eth1.device") && why.contains("writable"), "{why}");
    }
}
