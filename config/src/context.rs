//! State that all checks of a file share: the mistakes found so far, and what must be unique.
//!
//! Only the checks have a [`Context`]; those who read files add to [`Mistakes`] alone.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::path::PathBuf;

use crate::address::MacAddr;
use crate::diagnostics::{At, Diagnostic, MISTAKES_MAX, Report, shown};
use crate::object::ObjectKind;
use crate::origin::Place;
use crate::topology::PORTS_MAX;

/// Names that are compared with a misspelt one at most.
pub(crate) const NAMES_COMPARED_MAX: usize = 256;
/// Part of a message: why an MTU is too large.
pub(crate) const XDP_ENDS: &str = "are fetched by XDP, which without multi-buffer ends at 3,498";

/// State of one topology's check.
pub(crate) struct Context<'a> {
    pub(crate) mistakes: &'a mut Mistakes,
    pub(crate) claims: Claims,
    /// NICs and uplinks that there is room for.
    pub(crate) ports_max: usize,
    /// Index of each uplink, by name, with or without mistakes.
    pub(crate) uplinks: BTreeMap<String, usize>,
    /// Networks by name, with or without mistakes.
    pub(crate) networks: BTreeMap<String, NetworkSeen>,
    /// What was seen so far, and where.
    pub(crate) places: Vec<Placed>,
}

/// Something, and where it is written.
pub(crate) type Placed = (ObjectKind, String, At);

/// A network, as the check of a NIC needs it.
#[derive(Clone, Copy)]
pub(crate) struct NetworkSeen {
    pub(crate) idx: usize,
    /// None: the network has mistakes.
    pub(crate) mtu: Option<u16>,
}

/// What must be unique in a topology, each with the description and place of its first user.
#[derive(Default)]
pub(crate) struct Claims {
    pub(crate) vms: HashMap<String, (String, At)>,
    pub(crate) sockets: HashMap<PathBuf, (String, At)>,
    pub(crate) macs: HashMap<(usize, MacAddr), (String, At)>,
    pub(crate) devices: HashMap<String, (String, At)>,
    pub(crate) vlans: HashMap<(Option<String>, Option<u16>), (String, At)>,
    pub(crate) nics_of_network: HashMap<usize, usize>,
    /// NICs and uplinks.
    pub(crate) n_ports: usize,
}

impl<'a> Context<'a> {
    /// Nothing is known yet.
    pub(crate) fn new(mistakes: &'a mut Mistakes) -> Self {
        Self {
            mistakes,
            claims: Claims::default(),
            ports_max: PORTS_MAX,
            uplinks: BTreeMap::new(),
            networks: BTreeMap::new(),
            places: Vec::new(),
        }
    }

    /// Notes where something is written.
    pub(crate) fn place(&mut self, kind: ObjectKind, name: &str, at: At) {
        self.places.push((kind, name.to_owned(), at));
    }

    /// Counts a NIC or an uplink; adds a mistake at the first one that there is no room for.
    pub(crate) fn count_port(&mut self, at: At) {
        self.claims.n_ports += 1;
        let max = self.ports_max;
        if self.claims.n_ports != max + 1 {
            return;
        }
        let message = format!("more than {max} NICs and uplinks, for which `ports` has room");
        let help = if max < PORTS_MAX {
            "raise `ports`, with which the daemon must be restarted, or run a second daemon for \
            the rest"
        } else {
            "run a second daemon for the rest"
        };
        self.mistakes.add(at, message, help);
    }

    /// Enters a device as used by `user`, or adds a mistake that names its first user.
    pub(crate) fn claim_device(&mut self, device: String, user: String, at: At) -> Option<String> {
        let Some((holder, holder_at)) = claim(&mut self.claims.devices, device.clone(), user, at)
        else {
            return Some(device);
        };
        let place = self.mistakes.place(holder_at, at);
        let message = format!(
            "device `{}` already used by {holder}, {place}",
            shown(&device)
        );
        self.mistakes.add(
            at,
            message,
            "name a device only once; several networks may share one uplink, each with its VLAN",
        );
        None
    }
}

/// Enters `key` as used by `user`; if it is used already, returns the first user and its place.
pub(crate) fn claim<K: Eq + Hash>(
    claims: &mut HashMap<K, (String, At)>,
    key: K,
    user: String,
    at: At,
) -> Option<(String, At)> {
    if let Some(first) = claims.get(&key) {
        return Some(first.clone());
    }
    claims.insert(key, (user, at));
    None
}

/// The files read so far and the mistakes found in them; at most [`MISTAKES_MAX`], none twice.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    files: Vec<SourceFile>,
    found: Vec<(At, String, String)>,
}

/// A file, and the offset of each line in its text.
#[derive(Debug)]
struct SourceFile {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl SourceFile {
    fn line(&self, line: usize) -> Option<&str> {
        let start = *self.line_starts.get(line.checked_sub(1)?)?;
        let end = self
            .line_starts
            .get(line)
            .copied()
            .unwrap_or(self.text.len());
        Some(self.text.get(start..end)?.trim_end_matches(['\n', '\r']))
    }
}

impl Mistakes {
    /// Adds a file and returns its index. `text` is only for excerpts, so it may be empty or differ
    /// from the file.
    pub(crate) fn add_file(&mut self, name: String, text: String) -> usize {
        let line_starts = line_starts(&text);
        self.files.push(SourceFile {
            name,
            text,
            line_starts,
        });
        self.files.len() - 1
    }

    /// Adds a mistake: what is wrong, and what to write instead.
    pub(crate) fn add(&mut self, at: At, message: impl Into<String>, help: impl Into<String>) {
        let mistake = (at, message.into(), help.into());
        if self.found.len() < MISTAKES_MAX && !self.found.contains(&mistake) {
            self.found.push(mistake);
        }
    }

    /// The same places, with the paths of their files.
    pub(crate) fn placed(&self, places: Vec<Placed>) -> Vec<(ObjectKind, String, Place)> {
        let file = |at: At| self.files.get(at.file_idx).map_or("", |file| &file.name);
        let place = |(kind, name, at): Placed| {
            let (file, line) = (file(at).into(), at.line);
            (kind, name, Place { file, line })
        };
        places.into_iter().map(place).collect()
    }

    /// How a mistake at `reader` refers to another place: "on line 5", or "in b.yaml:5" in another
    /// file.
    pub(crate) fn place(&self, place: At, reader: At) -> String {
        match self.files.get(place.file_idx) {
            Some(file) if place.file_idx != reader.file_idx => {
                format!("in {}:{}", file.name, place.line)
            }
            _ => format!("on line {}", place.line),
        }
    }

    /// `value` if there is no mistake, else all mistakes.
    pub(crate) fn conclude<T>(mut self, value: Option<T>) -> Result<T, Report> {
        if let (Some(value), true) = (value, self.found.is_empty()) {
            return Ok(value);
        }
        if self.found.is_empty() {
            // No value and no mistake is a bug of a check; it must not look like success.
            self.add(
                At::file(0),
                "this file is not understood",
                "report it: weir should say what is wrong",
            );
        }
        self.found
            .sort_by_key(|(at, ..)| (at.file_idx, at.line, at.column));
        let diagnostics = self
            .found
            .iter()
            .map(|mistake| self.diagnostic(mistake))
            .collect();
        Err(Report::new(diagnostics))
    }

    fn diagnostic(&self, (at, message, help): &(At, String, String)) -> Diagnostic {
        let file = self.files.get(at.file_idx);
        let line = file.and_then(|file| file.line(at.line)).unwrap_or_default();
        Diagnostic::new(*at, file.map_or("", |file| &file.name), line, message, help)
    }
}

/// Offsets of line starts. YAML ends lines at LF, CR LF and a lone CR.
fn line_starts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let ends_line = |idx: usize| {
        bytes[idx] == b'\n' || (bytes[idx] == b'\r' && bytes.get(idx + 1) != Some(&b'\n'))
    };
    std::iter::once(0)
        .chain(
            (0..bytes.len())
                .filter(|&idx| ends_line(idx))
                .map(|idx| idx + 1),
        )
        .collect()
}
