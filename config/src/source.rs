//! Reads the main file and those it includes into trees.
//!
//! An include is a path or a glob, relative to the folder of the main file. Included files can't
//! include others, so the main file names all that belongs to the topology.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::context::Mistakes;
use crate::diagnostics::{At, shown};
use crate::include::{self, Unusable};
use crate::keys::{INCLUDED, TOPOLOGY};
use crate::node::{self, Node};
use crate::stamp::Stamp;
use crate::topology::PORTS_MAX;
use crate::walk::walk;

/// Size of one file at most.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Files that one topology may include: as many as there may be VMs.
const INCLUDES_MAX: usize = PORTS_MAX;

/// The trees of the main file and of the included ones, these sorted by path within an include.
pub(crate) struct Sources {
    /// The main file's path, as it was given.
    pub(crate) path: PathBuf,
    pub(crate) main: Node,
    pub(crate) included: Vec<Node>,
    /// All files that were read.
    pub(crate) files: Vec<(PathBuf, Stamp)>,
}

/// Reads a file and those it includes. None: the main file can't be used; `mistakes` says why.
pub(crate) fn load(path: &Path, mistakes: &mut Mistakes) -> Option<Sources> {
    let (text, stamp) = match read_file(path) {
        Ok(read) => read,
        Err(error) => {
            let file_idx = mistakes.add_file(path.display().to_string(), String::new());
            let message = format!("this file can't be read: {error}");
            mistakes.add(
                At::file(file_idx),
                message,
                "give the path of a topology file that you may read",
            );
            return None;
        }
    };
    let main = main_tree(path.display().to_string(), text, mistakes)?;
    let mut includes = Includes::new(path, mistakes);
    let included = includes.read(&main);
    let mut files = includes.files;
    files.push((path.to_owned(), stamp));
    Some(Sources {
        path: path.to_owned(),
        main,
        included,
        files,
    })
}

/// Reads a text, which can't include files.
pub(crate) fn parse(text: &str, name: &str, mistakes: &mut Mistakes) -> Option<Sources> {
    let main = main_tree(name.to_owned(), text.as_bytes().to_vec(), mistakes)?;
    for entry in main
        .get("include")
        .and_then(Node::items)
        .unwrap_or_default()
    {
        mistakes.add(
            entry.at,
            "a text that is not a file can't include files",
            "put the VMs into the text",
        );
    }
    Some(Sources {
        path: name.into(),
        main,
        included: Vec::new(),
        files: Vec::new(),
    })
}

/// Reads the text of an included file.
pub(crate) fn included(name: String, bytes: Vec<u8>, mistakes: &mut Mistakes) -> Option<Node> {
    let root = tree(name, bytes, mistakes)?;
    walk(&root, &INCLUDED, mistakes);
    Some(root)
}

/// Reads a text that is not a file: YAML, or JSON.
pub(crate) fn body(text: &str, name: &str, mistakes: &mut Mistakes) -> Option<Node> {
    // YAML is all JSON but for pairs of escapes, tabs and a few more; JSON that has some is written
    // without.
    let is_json = text.trim_start().starts_with('{');
    let json = is_json
        .then(|| serde_json::from_str::<serde_json::Value>(text).ok())
        .flatten()
        .filter(|_| text.contains(['\t', '\\']))
        .map(|json| format!("{json:#}"));
    let text = json.as_deref().unwrap_or(text);
    let file_idx = mistakes.add_file(name.to_owned(), text.to_owned());
    let root = node::read(text, file_idx, mistakes)?;
    if matches!(root.value, node::Value::Null) {
        mistakes.add(
            At::file(file_idx),
            "this is empty",
            "write a mapping, as in `{ \"nics\": { … } }`",
        );
        return None;
    }
    Some(root)
}

fn main_tree(name: String, bytes: Vec<u8>, mistakes: &mut Mistakes) -> Option<Node> {
    let main = tree(name, bytes, mistakes)?;
    walk(&main, &TOPOLOGY, mistakes);
    Some(main)
}

/// Parses one file; an empty one is a mistake.
fn tree(name: String, bytes: Vec<u8>, mistakes: &mut Mistakes) -> Option<Node> {
    let (text, bad_byte) = decoded(bytes);
    let file_idx = mistakes.add_file(name, text.clone());
    if let Some((byte, line, column)) = bad_byte {
        let message = format!("this is not UTF-8 text: byte 0x{byte:02x}");
        mistakes.add(
            At::char(file_idx, line, column),
            message,
            "save the file as UTF-8",
        );
        return None;
    }
    let root = node::read(&text, file_idx, mistakes)?;
    if matches!(root.value, node::Value::Null) {
        mistakes.add(
            At::file(file_idx),
            "this file is empty",
            "see examples/quickstart.yaml for what to write",
        );
        return None;
    }
    Some(root)
}

/// The text without a byte order mark, and the first byte that is not UTF-8, if any, with its line
/// and column.
fn decoded(bytes: Vec<u8>) -> (String, Option<(u8, usize, usize)>) {
    let (text, bad_byte) = match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let valid_up_to = error.utf8_error().valid_up_to();
            let bytes = error.as_bytes();
            let before = String::from_utf8_lossy(bytes.get(..valid_up_to).unwrap_or_default());
            let last_line = before.rsplit(['\n', '\r']).next().unwrap_or_default();
            let place = (
                before.matches('\n').count() + 1,
                last_line.chars().count() + 1,
            );
            let bad_byte = bytes.get(valid_up_to).map(|&byte| (byte, place.0, place.1));
            (String::from_utf8_lossy(bytes).into_owned(), bad_byte)
        }
    };
    match text.strip_prefix('\u{feff}') {
        Some(rest) => (rest.to_owned(), bad_byte),
        None => (text, bad_byte),
    }
}

/// The file's bytes, and which version of it they are.
fn read_file(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it has more than {} MiB",
            FILE_BYTES_MAX >> 20
        )));
    }
    Ok((bytes, Stamp::of(&metadata)))
}

/// The same for one that a glob found: that may match a pipe, and reading one could block forever.
fn read_regular(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let is_special = |at: std::fs::Metadata| !at.is_file() && !at.is_dir();
    if path.metadata().is_ok_and(is_special) {
        return Err(io::Error::other("it is not a regular file"));
    }
    read_file(path)
}

/// Names of the VMs in an included file, mistaken or not.
///
/// # Errors
/// Why it can't be read: the end of a sentence.
pub(crate) fn vms_in(file: &Path) -> Result<Vec<String>, String> {
    let (bytes, _) = read_regular(file).map_err(|e| format!("can't be read: {e}"))?;
    let mut mistakes = Mistakes::default();
    let root = tree(file.display().to_string(), bytes, &mut mistakes);
    let root = mistakes.conclude(root).map_err(|report| {
        let first = report.diagnostics().first();
        let why = first.map_or("", |diagnostic| diagnostic.message());
        format!("can't be understood: {why}")
    })?;
    let vms = root.get("vms").and_then(Node::entries).into_iter();
    Ok(vms.flatten().map(|(name, ..)| name.to_owned()).collect())
}

/// The includes of one main file.
struct Includes<'a> {
    folder: &'a Path,
    /// Files already read: globs may overlap.
    seen: HashSet<PathBuf>,
    /// The main file, which must not include itself.
    main: PathBuf,
    /// Those that were read.
    files: Vec<(PathBuf, Stamp)>,
    mistakes: &'a mut Mistakes,
}

impl<'a> Includes<'a> {
    fn new(main: &'a Path, mistakes: &'a mut Mistakes) -> Self {
        let folder = main.parent().unwrap_or(Path::new(""));
        Self {
            folder,
            seen: HashSet::new(),
            main: canonical(main),
            files: Vec::new(),
            mistakes,
        }
    }

    fn read(&mut self, main: &Node) -> Vec<Node> {
        let mut included = Vec::new();
        for entry in main
            .get("include")
            .and_then(Node::items)
            .unwrap_or_default()
        {
            let Some(pattern) = entry.text() else {
                continue;
            };
            for path in self.expand(pattern, entry.at) {
                if self.seen.len() >= INCLUDES_MAX {
                    let message = format!("more than {INCLUDES_MAX} files are included");
                    self.mistakes
                        .add(entry.at, message, "put several VMs into one file");
                    return included;
                }
                included.extend(self.read_one(&path, entry.at));
            }
        }
        included
    }

    /// The paths that a pattern matches.
    fn expand(&mut self, pattern: &str, at: At) -> Vec<PathBuf> {
        const HELP: &str = "write a path or a glob, as in \"vms.d/*.yaml\"";
        let (message, help) = match include::expand(self.folder, pattern, INCLUDES_MAX + 1) {
            Ok(paths) => return paths,
            Err(Unusable::Empty) => ("this include names nothing".to_owned(), HELP),
            Err(Unusable::Folder) => (
                "the folder of this file has no UTF-8 name".to_owned(),
                "include files by an absolute glob",
            ),
            Err(Unusable::Glob(why)) => {
                let message = format!("`{}` is not a valid glob: {why}", shown(pattern));
                (message, HELP)
            }
            Err(Unusable::Unreadable(folder, why)) => {
                let message = format!(
                    "the folder {} can't be read: {why}",
                    shown(&folder.display().to_string())
                );
                let help = "see that weir may read it; a folder that is not there includes nothing";
                (message, help)
            }
        };
        self.mistakes.add(at, message, help);
        Vec::new()
    }

    fn read_one(&mut self, path: &Path, at: At) -> Option<Node> {
        let name = path.display().to_string();
        let unique = canonical(path);
        if unique == self.main {
            self.mistakes.add(
                at,
                "this file includes itself",
                "keep included files in a folder of their own, as in \"vms.d/*.yaml\"",
            );
            return None;
        }
        if !self.seen.insert(unique) {
            return None;
        }
        match read_regular(path) {
            Ok((bytes, stamp)) => {
                self.files.push((path.to_owned(), stamp));
                included(name, bytes, self.mistakes)
            }
            Err(error) => {
                let message = format!("{} can't be read: {error}", shown(&name));
                self.mistakes.add(
                    at,
                    message,
                    "correct the path, or use a glob that may match nothing",
                );
                None
            }
        }
    }
}

/// The canonical path; the path itself if there is no such file.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
