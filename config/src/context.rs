//! What a file's checks share: the mistakes found so far, and what must be unique.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::path::PathBuf;

use crate::address::MacAddr;
use crate::diagnostics::{At, Diagnostic, MISTAKES_MAX, Report, shown};

/// Names looked through for one that is near a misspelt one.
pub(crate) const NAMES_COMPARED_MAX: usize = 256;
/// Why an MTU can be too large.
pub(crate) const XDP_ENDS: &str = "are fetched by XDP, which without multi-buffer ends at 3,498";

/// What is known of a topology while it is checked.
pub(crate) struct Context<'a> {
    pub(crate) mistakes: &'a mut Mistakes,
    pub(crate) claims: Claims,
    /// Index of each uplink in the file, whether it was found to be right or not.
    pub(crate) uplinks: BTreeMap<String, usize>,
    /// Index of each network in the file, whether it was found to be right or not.
    pub(crate) networks: BTreeMap<String, NetworkSeen>,
}

/// What the check of a NIC needs to know of its network.
#[derive(Clone, Copy)]
pub(crate) struct NetworkSeen {
    pub(crate) idx: usize,
    /// None: it isn't right.
    pub(crate) mtu: Option<u16>,
}

/// What only one may have, and who has it: a word for people and its place.
#[derive(Default)]
pub(crate) struct Claims {
    pub(crate) vms: HashMap<String, (String, At)>,
    pub(crate) sockets: HashMap<PathBuf, (String, At)>,
    pub(crate) macs: HashMap<(usize, MacAddr), (String, At)>,
    pub(crate) devices: HashMap<String, (String, At)>,
    pub(crate) vlans: HashMap<(Option<String>, Option<u16>), (String, At)>,
    pub(crate) nics_of_network: HashMap<usize, usize>,
    pub(crate) n_nics: usize,
}

impl Context<'_> {
    /// Claims a device for `who`, or notes who has it.
    pub(crate) fn claim_device(&mut self, device: String, who: String, at: At) -> Option<String> {
        let Some((holder, holder_at)) = claim(&mut self.claims.devices, device.clone(), who, at) else {
            return Some(device);
        };
        let place = self.mistakes.place(holder_at, at);
        let message = format!("device `{}` is that of {holder} already, {place}", shown(&device));
        self.mistakes.add(
            at,
            message,
            "name a device only once; several networks may share one uplink, each with its VLAN",
        );
        None
    }
}

/// Claims `key` for `who`; or returns who has it.
pub(crate) fn claim<K: Eq + Hash>(
    claims: &mut HashMap<K, (String, At)>,
    key: K,
    who: String,
    at: At,
) -> Option<(String, At)> {
    if let Some(holder) = claims.get(&key) {
        return Some(holder.clone());
    }
    claims.insert(key, (who, at));
    None
}

/// The files read so far and the mistakes found in them.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    files: Vec<SourceFile>,
    found: Vec<(At, String, String)>,
}

/// A file and where its lines are.
#[derive(Debug)]
struct SourceFile {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl SourceFile {
    fn line(&self, line: usize) -> Option<&str> {
        let start = *self.line_starts.get(line.checked_sub(1)?)?;
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        Some(self.text.get(start..end)?.trim_end_matches(['\n', '\r']))
    }
}

impl Mistakes {
    /// Takes a file that mistakes may be in. The text is for showing lines, so it may be empty or not quite the file's.
    pub(crate) fn add_file(&mut self, name: String, text: String) -> usize {
        let line_starts = line_starts(&text);
        self.files.push(SourceFile { name, text, line_starts });
        self.files.len() - 1
    }

    /// Notes a mistake: what is wrong, and what to write instead.
    pub(crate) fn add(&mut self, at: At, message: impl Into<String>, help: impl Into<String>) {
        let mistake = (at, message.into(), help.into());
        if self.found.len() < MISTAKES_MAX && !self.found.contains(&mistake) {
            self.found.push(mistake);
        }
    }

    /// How a mistake at `reader` names another place: "on line 5", or "in b.yaml:5" if that is another file.
    pub(crate) fn place(&self, place: At, reader: At) -> String {
        match self.files.get(place.file_idx) {
            Some(file) if place.file_idx != reader.file_idx => format!("in {}:{}", file.name, place.line),
            _ => format!("on line {}", place.line),
        }
    }

    /// `value` if nothing was wrong, else all that was.
    pub(crate) fn conclude<T>(mut self, value: Option<T>) -> Result<T, Report> {
        if let (Some(value), true) = (value, self.found.is_empty()) {
            return Ok(value);
        }
        if self.found.is_empty() {
            // No value without a mistake noted: a hole in the checks, which must not look like success.
            self.add(At::file(0), "this file is not understood", "report it: weir should say what is wrong");
        }
        self.found.sort_by_key(|(at, ..)| (at.file_idx, at.line, at.column));
        let diagnostics = self.found.iter().map(|mistake| self.diagnostic(mistake)).collect();
        Err(Report::new(diagnostics))
    }

    fn diagnostic(&self, (at, message, help): &(At, String, String)) -> Diagnostic {
        let file = self.files.get(at.file_idx);
        let line = file.and_then(|file| file.line(at.line)).unwrap_or_default();
        Diagnostic::new(*at, file.map_or("", |file| &file.name), line, message, help)
    }
}

/// Where lines start. YAML ends them at LF, CR LF and a lone CR.
fn line_starts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let ends_line = |idx: usize| bytes[idx] == b'\n' || (bytes[idx] == b'\r' && bytes.get(idx + 1) != Some(&b'\n'));
    std::iter::once(0).chain((0..bytes.len()).filter(|&idx| ends_line(idx)).map(|idx| idx + 1)).collect()
}
