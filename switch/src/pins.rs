//! Which guest a sticky address belongs to: kept across connections and daemons, released with the
//! guest.
//!
//! The cores pin addresses to ports (`flowtable::mac::owner`); this records the guest. A guest of a
//! vhost-user port is identified by the file of its memory (device and inode), a container by its
//! network device. Pins are saved in the run directory within a tenth of a second, so that after a
//! crash no other guest gets an address by sending first.

use std::sync::{Arc, Mutex};

use flowtable::mac::entry::Kind;
use flowtable::{Ingress, MacTable, PortId, SourcePolicy};
use hashbrown::HashMap;
use pmd::shm::{FileId, GuestMemory};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::base::folder::Folder;
use crate::base::lock::lock;
use crate::base::process::Process;
use crate::plan::names::Names;

/// The file in the run directory.
const FILE: &str = "pins.json";
/// Bytes of that file at most.
const FILE_BYTES_MAX: usize = 1 << 22;

/// Ports with sticky addresses.
#[derive(Debug)]
pub(crate) struct Pins {
    macs: Arc<MacTable>,
    run_dir: Arc<Folder>,
    world: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    names: Arc<Names>,
    /// The present or last guest of each port.
    guests: HashMap<PortId, Guest>,
    saved: Vec<Pin>,
    /// Why the file can't be written, as last logged.
    logged: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Guest {
    file: Option<FileId>,
    /// The process of its front-end, as far as it is known.
    process: Option<Process>,
}

/// The saved pins, valid in one boot and network namespace: elsewhere files, devices and processes
/// are other ones.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SavedPins {
    world: String,
    pins: Vec<Pin>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    port: String,
    network: String,
    mac: [u8; 6],
    /// Of the memory: device and inode.
    file: (u64, u64),
    process: Option<Process>,
    /// The uplink that it was taken from a short time ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_trial_of: Option<String>,
}

impl Pins {
    /// Restores pins that an earlier daemon saved, for ports that still have the same name and
    /// network. `ingresses`: of all ports.
    pub(crate) fn restore<'i>(
        macs: Arc<MacTable>,
        run_dir: &Arc<Folder>,
        world: String,
        names: Arc<Names>,
        ingresses: impl Iterator<Item = &'i Ingress>,
    ) -> Self {
        let pins = Self {
            macs,
            run_dir: run_dir.clone(),
            world,
            state: Mutex::new(State {
                names: names.clone(),
                ..State::default()
            }),
        };
        let saved = read(run_dir)
            .filter(|saved| saved.world == pins.world)
            .map_or_else(Vec::new, |saved| saved.pins);
        let ingresses: Vec<_> = ingresses
            .filter(|ingress| ingress.source == SourcePolicy::Sticky)
            .collect();
        for pin in saved {
            let is_its = |ingress: &&&Ingress| {
                names.port(ingress.port) == Some(&pin.port)
                    && names.network(ingress.network) == Some(&pin.network)
            };
            if let Some(ingress) = ingresses.iter().find(is_its) {
                pins.restore_pin(ingress, &names, pin);
            }
        }
        pins
    }

    fn restore_pin(&self, ingress: &Ingress, names: &Names, pin: Pin) {
        let (port, network) = (ingress.port, ingress.network);
        let is_single = self.macs.find(network, pin.mac).is_none();
        if pin.process.is_some_and(|process| process.is_gone())
            || !is_single
            || !self.macs.pin(port, network, pin.mac)
        {
            return;
        }
        self.macs
            .learn(network, pin.mac, port, Kind::Sticky, u32::MAX, 0);
        let uplink = pin.on_trial_of.as_ref();
        if let Some(uplink) = uplink.and_then(|name| names.port_id(name)) {
            self.macs.try_again(port, uplink, 0);
        }
        info!(
            "{}: {} is its guest's address, as before",
            pin.port,
            crate::api::mac::mac_text(pin.mac)
        );
        let mut state = lock(&self.state);
        let file = FileId {
            device: pin.file.0,
            inode: pin.file.1,
        };
        state.guests.insert(
            port,
            Guest {
                file: Some(file),
                process: pin.process,
            },
        );
        state.saved.push(pin);
    }

    /// Another topology is in force, with these names. Ports that are no longer in it have been
    /// [`Pins::gone`] before.
    pub(crate) fn rename(&self, names: &Arc<Names>) {
        lock(&self.state).names = names.clone();
    }

    /// A guest has set up its memory at a port that is down. A new guest has no address yet.
    pub(crate) fn meet(&self, ingress: &Ingress, memory: &GuestMemory) {
        self.meet_where(ingress, |file| memory.has_file(file), memory.main_file());
    }

    /// The same for a port that is a device, by its index.
    pub(crate) fn meet_device(&self, ingress: &Ingress, index: u32) {
        let file = FileId {
            device: 0,
            inode: index.into(),
        };
        self.meet_where(ingress, |other| other == file, Some(file));
    }

    fn meet_where(
        &self,
        ingress: &Ingress,
        is_here: impl Fn(FileId) -> bool,
        file: Option<FileId>,
    ) {
        if ingress.source != SourcePolicy::Sticky {
            return;
        }
        let mut state = lock(&self.state);
        let before = state.guests.get(&ingress.port);
        if before.is_some_and(|guest| guest.file.is_none_or(&is_here)) && file.is_some() {
            return;
        }
        if before.is_some() {
            self.macs.unpin(ingress.port);
        }
        state.guests.insert(
            ingress.port,
            Guest {
                file,
                process: None,
            },
        );
    }

    /// The guest of the port is gone for good.
    pub(crate) fn gone(&self, port: PortId) {
        let mut state = lock(&self.state);
        if state.guests.remove(&port).is_some() {
            self.macs.unpin(port);
        }
    }

    /// Releases the pins of guests that ended, and saves changes. Called by the supervisor alone.
    /// `peers`: ports, and the process of each one's front-end as far as it is known; none: not
    /// connected. The iterator is consumed under the lock, so that it is no older than the recorded
    /// guests.
    pub(crate) fn update(&self, peers: impl Iterator<Item = (PortId, Option<Option<Process>>)>) {
        self.release_ended(peers);
        self.save(|text| self.run_dir.write(FILE, text));
    }

    fn release_ended(&self, peers: impl Iterator<Item = (PortId, Option<Option<Process>>)>) {
        let mut state = lock(&self.state);
        for (port, peer) in peers {
            let Some(guest) = state.guests.get_mut(&port) else {
                continue;
            };
            match peer {
                Some(peer) => guest.process = peer,
                // The process of a disconnected front-end may live on, and connect again.
                None if guest.process.is_some_and(|process| process.is_gone()) => {
                    state.guests.remove(&port);
                    self.macs.unpin(port);
                }
                None => {}
            }
        }
    }

    /// Saves changes by `write`, without holding the lock: a disk may be slow.
    fn save(&self, write: impl FnOnce(&[u8]) -> std::io::Result<()>) {
        let Some(changed) = self.changed_pins() else {
            return;
        };
        let written = serde_json::to_vec(&changed)
            .map_err(std::io::Error::from)
            .and_then(|text| write(&text));
        let mut state = lock(&self.state);
        let why = match written {
            Ok(()) => {
                state.saved = changed.pins;
                None
            }
            Err(why) => {
                let path = self.run_dir.path().join(FILE);
                let what = "sticky addresses are lost if this daemon is killed";
                Some(format!(
                    "{what}: cannot write {}: {why}; the folder must be writable",
                    path.display()
                ))
            }
        };
        if let (Some(why), true) = (&why, why != state.logged) {
            warn!("{why}");
        }
        state.logged = why;
    }

    /// The pins to save, if they differ from the saved ones.
    fn changed_pins(&self) -> Option<SavedPins> {
        let state = lock(&self.state);
        let pin = |(port, network, mac): (PortId, u16, [u8; 6])| {
            let guest = state.guests.get(&port)?;
            Some(Pin {
                port: state.names.port(port)?.to_owned(),
                network: state.names.network(network)?.to_owned(),
                mac,
                file: guest.file.map(|file| (file.device, file.inode))?,
                process: guest.process,
                on_trial_of: self
                    .macs
                    .on_trial_of(port)
                    .and_then(|uplink| state.names.port(uplink).map(str::to_owned)),
            })
        };
        let pins: Vec<_> = self.macs.pins().into_iter().filter_map(pin).collect();
        (pins != state.saved).then(|| SavedPins {
            world: self.world.clone(),
            pins,
        })
    }
}

fn read(run_dir: &Folder) -> Option<SavedPins> {
    match run_dir.read(FILE, FILE_BYTES_MAX) {
        Ok(None) => None,
        Ok(Some(text)) => serde_json::from_slice(&text)
            .map_err(|e| {
                let path = run_dir.path().join(FILE);
                warn!(
                    "{} does not hold sticky addresses ({e}): ignored",
                    path.display()
                );
            })
            .ok(),
        Err(why) => {
            warn!("{why}");
            None
        }
    }
}

#[cfg(test)]
#[path = "pins_tests.rs"]
mod tests;
