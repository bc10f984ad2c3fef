//! Which guest an address has stuck to: kept beyond a connection and beyond this daemon, and given
//! up with the guest.
//!
//! The cores pin (`flowtable::mac::owner`); here it is known to whom. A guest of a vhost-user port
//! is known by the file that its memory is, by device and inode, whatever connections there are; a
//! container by its device. Pins are noted in the run directory a tenth of a second after they are
//! made, so that whoever sends first after a crash takes nobody's address.

use hashbrown::HashMap;
use std::sync::{Arc, Mutex};

use flowtable::mac::entry::Kind;
use flowtable::{Ingress, MacTable, PortId, SourcePolicy};
use pmd::shm::{FileId, GuestMemory};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::base::folder::Folder;
use crate::base::lock::lock;
use crate::base::process::Process;

/// The note's name in the run directory.
const NOTE: &str = "pins.json";
/// Bytes of the longest.
const NOTE_MAX: usize = 1 << 22;

/// All ports whose first address sticks.
#[derive(Debug)]
pub(crate) struct Pins {
    macs: Arc<MacTable>,
    run_dir: Arc<Folder>,
    world: String,
    /// Names of all ports and networks, by id.
    ports: Vec<String>,
    networks: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Who is, or was last, at a port.
    guests: HashMap<PortId, Guest>,
    noted: Vec<Pin>,
    /// What was said of a note that can't be written.
    said: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Guest {
    file: Option<FileId>,
    /// The process of its front-end, as far as it is known.
    process: Option<Process>,
}

/// The note: what stuck to whom in this boot and network namespace, in which files, devices and
/// processes are what they are.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
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
    /// Takes up what an earlier daemon noted, as far as its ports are still what they were.
    /// `ingresses`: of all ports.
    pub(crate) fn restore<'i>(
        macs: Arc<MacTable>,
        run_dir: &Arc<Folder>,
        world: String,
        names: (Vec<String>, Vec<String>),
        ingresses: impl Iterator<Item = &'i Ingress>,
    ) -> Self {
        let (ports, networks) = names;
        let pins = Self {
            macs,
            run_dir: run_dir.clone(),
            world,
            ports,
            networks,
            state: Mutex::default(),
        };
        let noted = read(run_dir)
            .filter(|note| note.world == pins.world)
            .map_or_else(Vec::new, |note| note.pins);
        let ingresses: Vec<_> = ingresses
            .filter(|ingress| ingress.source == SourcePolicy::Sticky)
            .collect();
        for pin in noted {
            let is_its = |ingress: &&&Ingress| {
                let names = (
                    pins.ports.get(usize::from(ingress.port)),
                    pins.networks.get(usize::from(ingress.network)),
                );
                names == (Some(&pin.port), Some(&pin.network))
            };
            if let Some(ingress) = ingresses.iter().find(is_its) {
                pins.take_up(ingress, pin);
            }
        }
        pins
    }

    fn take_up(&self, ingress: &Ingress, pin: Pin) {
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
        let id = |uplink: &String| self.ports.iter().position(|name| name == uplink);
        let uplink = pin.on_trial_of.as_ref().and_then(id);
        if let Some(Ok(uplink)) = uplink.map(PortId::try_from) {
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
        state.noted.push(pin);
    }

    /// A guest's memory is at the port, which is down. One that wasn't there before has no address
    /// yet.
    pub(crate) fn meet(&self, ingress: &Ingress, memory: &GuestMemory) {
        self.meet_where(ingress, |file| memory.has_file(file), memory.main_file());
    }

    /// The same of a device with this index, for a port that is one.
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

    /// Whoever was at the port is gone for good.
    pub(crate) fn gone(&self, port: PortId) {
        let mut state = lock(&self.state);
        if state.guests.remove(&port).is_some() {
            self.macs.unpin(port);
        }
    }

    /// Looks who ended, and notes what changed. Called by the supervisor alone. `peers`: ports
    /// whose address sticks, and the process of each one's front-end, as far as it is known; none:
    /// nobody is connected. It is drawn upon under the lock, so that what it says of a port is no
    /// older than what is known of that port's guest.
    pub(crate) fn look(&self, peers: impl Iterator<Item = (PortId, Option<Option<Process>>)>) {
        self.look_at(peers);
        self.note(|text| self.run_dir.write(NOTE, text));
    }

    fn look_at(&self, peers: impl Iterator<Item = (PortId, Option<Option<Process>>)>) {
        let mut state = lock(&self.state);
        for (port, peer) in peers {
            let Some(guest) = state.guests.get_mut(&port) else {
                continue;
            };
            match peer {
                Some(peer) => guest.process = peer,
                // Of a front-end that has gone, the process may live on, and connect again.
                None if guest.process.is_some_and(|process| process.is_gone()) => {
                    state.guests.remove(&port);
                    self.macs.unpin(port);
                }
                None => {}
            }
        }
    }

    /// Notes what changed, by `write`. Ports don't wait for that: a disk may take its time.
    fn note(&self, write: impl FnOnce(&[u8]) -> std::io::Result<()>) {
        let Some(note) = self.new_note() else { return };
        let written = serde_json::to_vec(&note)
            .map_err(std::io::Error::from)
            .and_then(|text| write(&text));
        let mut state = lock(&self.state);
        let why = match written {
            Ok(()) => {
                state.noted = note.pins;
                None
            }
            Err(why) => {
                let path = self.run_dir.path().join(NOTE);
                let what = "addresses that stuck are forgotten if this daemon is killed";
                Some(format!(
                    "{what}: cannot write {}: {why}; the folder must be writable",
                    path.display()
                ))
            }
        };
        if let (Some(why), true) = (&why, why != state.said) {
            warn!("{why}");
        }
        state.said = why;
    }

    /// What is to be noted, if that isn't what is.
    fn new_note(&self) -> Option<Note> {
        let state = lock(&self.state);
        let pin = |(port, network, mac): (PortId, u16, [u8; 6])| {
            let guest = state.guests.get(&port)?;
            Some(Pin {
                port: self.ports.get(usize::from(port))?.clone(),
                network: self.networks.get(usize::from(network))?.clone(),
                mac,
                file: guest.file.map(|file| (file.device, file.inode))?,
                process: guest.process,
                on_trial_of: self
                    .macs
                    .on_trial_of(port)
                    .and_then(|uplink| self.ports.get(usize::from(uplink)).cloned()),
            })
        };
        let pins: Vec<_> = self.macs.pins().into_iter().filter_map(pin).collect();
        (pins != state.noted).then(|| Note {
            world: self.world.clone(),
            pins,
        })
    }
}

fn read(run_dir: &Folder) -> Option<Note> {
    match run_dir.read(NOTE, NOTE_MAX) {
        Ok(None) => None,
        Ok(Some(text)) => serde_json::from_slice(&text)
            .map_err(|e| {
                let path = run_dir.path().join(NOTE);
                warn!(
                    "{} is no note of addresses that stuck ({e}): left alone",
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
