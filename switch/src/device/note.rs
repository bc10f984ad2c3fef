//! The saved state of a device, a file in the run directory: used only if weir could have written
//! it.

use std::collections::BTreeMap;

use pmd::sys::link::Channels;
use serde::{Deserialize, Serialize};

use super::offloads::is_switched_off;

/// Suffix of the file's name, after the device's name.
const SUFFIX: &str = ".device";
/// Bytes of the file at most. Two names, a few offloads and numbers are some hundreds.
pub(super) const BYTES_MAX: usize = 4096;
/// A device's name is shorter than that (`IFNAMSIZ`).
const NAME_END: usize = 16;
/// Bytes of [`Note::world`] at most.
const WORLD_MAX: usize = 128;
/// Queues of a device at most; the kernel asks its driver as well.
const QUEUES_MAX: u32 = 1 << 16;

/// The state of a device before it was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// Boot and network namespace in which `index` is valid.
    pub(super) world: String,
    pub(super) index: u32,
    pub(super) device: String,
    /// Offloads that were changed, and their setting before.
    pub(super) features: BTreeMap<String, bool>,
    /// Channels before, if they were changed: rx, tx, other, combined.
    pub(super) channels: Option<[u32; 4]>,
}

impl Note {
    /// The file that it is in.
    pub(super) fn name(&self) -> String {
        name_of(&self.device)
    }

    /// From a file's name and what it holds.
    ///
    /// # Errors
    /// What is wrong with it; such a file must not be acted upon.
    pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let note: Self = serde_json::from_slice(bytes)
            .map_err(|e| format!("it is not a saved device state: {e}"))?;
        note.check(name)
            .map_err(|what| format!("it is not a saved device state: {what}"))?;
        Ok(note)
    }

    fn check(&self, name: &str) -> Result<(), String> {
        let is_name = |name: &str| {
            (1..NAME_END).contains(&name.len())
                && !matches!(name, "." | "..")
                && !name.bytes().any(|byte| {
                    matches!(byte, b'/' | b':')
                        || byte.is_ascii_whitespace()
                        || byte.is_ascii_control()
                })
        };
        if !is_name(&self.device) {
            return Err(format!("no device is called {:?}", self.device));
        }
        if name != self.name() {
            return Err(format!(
                "it is of {}, whose file has another name",
                self.device
            ));
        }
        if self.index == 0 || i32::try_from(self.index).is_err() || self.world.len() > WORLD_MAX {
            return Err("there is no such device".to_owned());
        }
        // weir only switches offloads off, so only `on` can be restored.
        if let Some((feature, _)) = self
            .features
            .iter()
            .find(|&(name, &was)| !was || !is_switched_off(name))
        {
            return Err(format!("weir doesn't switch {feature:?}"));
        }
        let is_possible = |channels: &[u32; 4]| channels.iter().all(|&n| n <= QUEUES_MAX);
        if !self.channels.as_ref().is_none_or(is_possible) {
            return Err("no device has so many queues".to_owned());
        }
        Ok(())
    }

    /// The channels to restore.
    pub(super) fn channels(&self) -> Option<Channels> {
        self.channels.map(|[rx, tx, other, combined]| Channels {
            rx,
            tx,
            other,
            combined,
            ..Channels::default()
        })
    }
}

/// Whether a file has the name of a saved state.
pub(super) fn is_note(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// The file of a device's saved state.
pub(super) fn name_of(device: &str) -> String {
    format!("{device}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Note {
        Note {
            world: "boot net:[1]".to_owned(),
            index: 7,
            device: "eth1".to_owned(),
            features: [("rx-lro".to_owned(), true), ("rx-gro".to_owned(), true)].into(),
            channels: Some([0, 0, 1, 8]),
        }
    }

    fn parsed(name: &str, note: &Note) -> Result<Note, String> {
        Note::parse(name, &serde_json::to_vec(note).unwrap())
    }

    #[test]
    fn note_is_read_as_it_was_written() {
        assert_eq!(parsed("eth1.device", &good()), Ok(good()));
        let before = r#"{"world":"boot net:[1]","index":7,"device":"eth1",
            "features":{"rx-lro":true},"channels":null}"#;
        assert!(
            Note::parse("eth1.device", before.as_bytes()).is_ok(),
            "as earlier versions wrote it"
        );
    }

    #[test]
    fn note_that_says_what_is_never_written_is_not_acted_upon() {
        let of = |change: &dyn Fn(&mut Note)| {
            let mut note = good();
            change(&mut note);
            (note.name(), note)
        };
        let cases: [(&str, (String, Note)); 9] = [
            (
                "weir doesn't switch",
                of(&|note| {
                    note.features
                        .extend([("tx-checksum-ip-generic".to_owned(), true)])
                }),
            ),
            (
                "weir doesn't switch",
                of(&|note| note.features.extend([("rx-lro".to_owned(), false)])),
            ),
            (
                "so many queues",
                of(&|note| note.channels = Some([0, 0, 0, u32::MAX])),
            ),
            (
                "no device is called",
                of(&|note| note.device = "../eth1".to_owned()),
            ),
            (
                "no device is called",
                of(&|note| note.device = String::new()),
            ),
            (
                "no device is called",
                of(&|note| note.device = "a-name-that-is-too-long".to_owned()),
            ),
            (
                "no device is called",
                of(&|note| note.device = "eth1\n".to_owned()),
            ),
            ("no such device", of(&|note| note.index = 0)),
            ("no such device", of(&|note| note.world = "x".repeat(1000))),
        ];
        for (expected, (name, note)) in cases {
            let why = parsed(&name, &note).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
        assert!(
            parsed("eth2.device", &good())
                .unwrap_err()
                .contains("another name"),
            "a note that was renamed"
        );
        let more =
            r#"{"world":"","index":7,"device":"eth1","features":{},"channels":null,"mtu":9000}"#;
        for nonsense in ["", "{", "[]", "null", more, &"[".repeat(100_000)] {
            assert!(Note::parse("eth1.device", nonsense.as_bytes()).is_err());
        }
    }
}
