//! Which file a VM may be written to by itself.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::diagnostics::shown;
use crate::name;
use crate::object::ObjectKind;
use crate::origin::Place;
use crate::source;
use crate::stamp::Stamp;
use crate::topology::Topology;

/// The folder beside the main file that has a file for each VM that programs write.
const FOLDER: &str = "vms.d";

/// Why a VM can't be written by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoVmFile {
    /// No `include` covers the file it would be in.
    NotIncluded {
        /// That file.
        file: PathBuf,
        /// The main file.
        main: PathBuf,
        /// What to write there in place of its `include`.
        line: String,
    },
    /// It is written in another file.
    Elsewhere {
        /// Its name.
        vm: String,
        /// Where it is.
        place: Place,
        /// The file that it may be moved to.
        file: PathBuf,
    },
    /// There can be no such VM.
    NoName {
        /// What was given as its name.
        vm: String,
    },
    /// Its file has been edited since it was read, so that it is not the VM's alone any more.
    Edited {
        /// That file.
        file: PathBuf,
        /// The end of a sentence about it.
        why: String,
    },
    /// Its file has another VM, too.
    Shared {
        /// The other VM.
        other: String,
        /// Where that is.
        place: Place,
    },
}

impl fmt::Display for NoVmFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotIncluded { file, main, line } => write!(
                f,
                "{} is not included, so the VM would be gone after a restart: write `{line}` into \
                {}, and reload",
                file.display(),
                main.display()
            ),
            Self::Elsewhere { vm, place, file } => write!(
                f,
                "VM `{vm}` is defined in {place}, which belongs to its author: change or remove \
                it there and reload, or move it to {}",
                file.display()
            ),
            Self::NoName { vm } => write!(
                f,
                "`{}` can't be the name of a VM: {}",
                shown(vm),
                name::HELP
            ),
            Self::Edited { file, why } => write!(
                f,
                "{} has been edited since it was read, and {why}: put that right, and reload",
                file.display()
            ),
            Self::Shared { other, place } => write!(
                f,
                "this file has another VM, `{other}` in {place}: move that to a file of its own, \
                and reload"
            ),
        }
    }
}

impl std::error::Error for NoVmFile {}

impl Topology {
    /// The folder of files that have one VM each, as [`Topology::vm_file`] names them.
    pub fn vm_folder(&self) -> PathBuf {
        self.origin.folder().join(FOLDER)
    }

    /// The file that has this VM alone, or that it may be written to if there is no such VM:
    /// `vms.d/NAME.yaml` beside the main file. Reads that file if it has been edited, and no other.
    /// A file that is there is called as it was when it was read.
    ///
    /// # Errors
    /// [`NoVmFile`]: that file is not included or not the VM's alone, or the VM is elsewhere.
    pub fn vm_file(&self, vm: &str) -> Result<PathBuf, NoVmFile> {
        let origin = &self.origin;
        if !name::is_sound(vm) {
            return Err(NoVmFile::NoName { vm: vm.to_owned() });
        }
        let file = self.vm_folder().join(format!("{vm}.yaml"));
        let place = origin.place(ObjectKind::Vm, vm);
        if let Some(place) = place
            && !is_same_file(&place.file, &file)
        {
            return Err(NoVmFile::Elsewhere {
                vm: vm.to_owned(),
                place: place.clone(),
                file,
            });
        }
        if !origin.covers(&file) {
            let pattern = format!("{FOLDER}/*.yaml");
            let patterns = origin.patterns().iter().chain([&pattern]);
            let quoted: Vec<_> = patterns.map(|pattern| format!("{pattern:?}")).collect();
            return Err(NoVmFile::NotIncluded {
                file,
                main: origin.main().to_owned(),
                line: format!("include: [ {} ]", quoted.join(", ")),
            });
        }
        let others = self.vms.iter().filter(|other| other.name != vm);
        for other in others {
            if let Some(place) = origin.place(ObjectKind::Vm, &other.name)
                && is_same_file(&place.file, &file)
            {
                return Err(NoVmFile::Shared {
                    other: other.name.clone(),
                    place: place.clone(),
                });
            }
        }
        let file = place.map_or(file, |place| place.file.clone());
        if !self.is_as_read(&file) {
            let others = source::vms_in(&file).and_then(|vms| {
                let other = vms.into_iter().find(|other| other != vm);
                other.map_or(Ok(()), |other| Err(format!("has VM `{}`", shown(&other))))
            });
            others.map_err(|why| NoVmFile::Edited {
                file: file.clone(),
                why,
            })?;
        }
        Ok(file)
    }

    /// Whether a file is as it was read, or not there.
    fn is_as_read(&self, file: &Path) -> bool {
        let stamp = file.metadata().ok().map(|file| Stamp::of(&file));
        stamp.is_none_or(|stamp| self.origin.files().get(file) == Some(&stamp))
    }
}

/// Whether two paths mean the same file.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    // Most are compared by their names alone: a thousand files need not be looked at.
    a == b
        || a.file_name() == b.file_name()
            && a.canonicalize()
                .is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}
