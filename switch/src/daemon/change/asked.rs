//! Changes that are asked for, one after another.

use std::path::PathBuf;
use std::sync::Mutex;

use config::{Edit, Topology, is_same_file, nearest};
use tracing::info;

use super::reload::needs_restart;
use super::switch::Switch;
use super::vm_file::{FileChange, check};
use crate::api::change::{ChangeReport, FileEdit, PendingFile};
use crate::api::difference::Difference;
use crate::base::lock::lock;
use crate::control::changes::{Asked, Changed, Changes, NotChanged, Wanted};
use crate::plan::difference::difference;

/// What a report calls the body of a request.
const REQUEST: &str = "request";

/// A topology that is wanted, and the file that has to say so.
struct Next {
    topology: Topology,
    file: Option<NextFile>,
}

/// A VM's file, as it is to be; `text` none: it is to be removed.
struct NextFile {
    path: PathBuf,
    text: Option<String>,
}

impl Changes for Mutex<Switch> {
    fn change(&self, asked: &Asked) -> Result<Changed, NotChanged> {
        lock(self).change(asked)
    }
}

impl Switch {
    /// Does what is asked, whole or not at all.
    ///
    /// # Errors
    /// [`NotChanged`]: all is as it was then.
    pub(crate) fn change(&mut self, asked: &Asked) -> Result<Changed, NotChanged> {
        if self.has_ended {
            return Err(NotChanged::Ending);
        }
        if self.is_half_way {
            let why = "an earlier change ended half way by a mistake in weir, which the log \
                describes: restart the daemon";
            return Err(NotChanged::Unable(vec![why.to_owned()]));
        }
        let found = self.present().number;
        match asked.topology {
            Some(expected) if expected != found => {
                return Err(NotChanged::Topology { expected, found });
            }
            _ => {}
        }
        let next = self.next(&asked.wanted)?;
        let difference = difference(&self.topology, &next.topology);
        let wrong = needs_restart(&difference, (&self.topology, &next.topology));
        if !wrong.is_empty() {
            return Err(NotChanged::NeedsRestart(wrong));
        }
        match asked.is_dry_run {
            true => {
                self.plan(&next.topology)?;
                let file = next
                    .file
                    .iter()
                    .try_for_each(|file| check(&file.path, &next.topology));
                file?;
            }
            false => self.put_in_force(next, &difference)?,
        }
        let pending = match asked.wanted {
            Wanted::Reload => Vec::new(),
            _ => self.pending(),
        };
        let report = ChangeReport {
            is_dry_run: asked.is_dry_run,
            difference,
            pending,
        };
        let topology = self.present().number;
        Ok(Changed { topology, report })
    }

    /// The topology that is wanted.
    fn next(&self, wanted: &Wanted) -> Result<Next, NotChanged> {
        let running = &*self.topology;
        match wanted {
            Wanted::Reload => {
                let topology = config::load(&self.file).map_err(NotChanged::Mistakes)?;
                Ok(Next {
                    topology,
                    file: None,
                })
            }
            Wanted::Vm { name, body, is_new } => {
                let name = || name.clone();
                let path = self.vm_file(&name(), &[Edit::Removed])?;
                if *is_new && running.vms.iter().any(|vm| vm.name == name()) {
                    return Err(NotChanged::VmExists { name: name() });
                }
                let written = running.with_vm(&name(), body, REQUEST, &path);
                written
                    .map(|written| Next::written(written, path))
                    .map_err(NotChanged::Mistakes)
            }
            Wanted::Limit { name, body } => {
                let path = self.file_of(name, &[])?;
                let written = running.with_limit(name, body, REQUEST, &path);
                let written = written.ok_or_else(|| self.no_vm(name))?;
                written
                    .map(|written| Next::written(written, path))
                    .map_err(NotChanged::Mistakes)
            }
            Wanted::NoVm { name } => {
                let path = self.file_of(name, &[Edit::Removed])?;
                let topology = running.without_vm(name).ok_or_else(|| self.no_vm(name))?;
                let file = NextFile { path, text: None };
                Ok(Next {
                    topology,
                    file: Some(file),
                })
            }
        }
    }

    /// Puts a topology in force, and writes the file that says so before anybody sees it: what can
    /// fail comes first.
    fn put_in_force(&mut self, next: Next, difference: &Difference) -> Result<(), NotChanged> {
        let Next { topology, file } = next;
        let file = file.map(|file| FileChange::new(&file.path, file.text.as_deref(), &topology));
        let file = file.transpose()?;
        self.apply(topology, !difference.is_empty(), |topology| match file {
            None => Ok(()),
            Some(file) => file.make(topology),
        })?;
        let changes = match difference.changes.len() {
            0 => "no changes".to_owned(),
            1 => "1 change".to_owned(),
            n => format!("{n} changes"),
        };
        info!("topology {} is in force: {changes}", self.present().number);
        Ok(())
    }

    /// The file of a VM that there is.
    fn file_of(&self, vm: &str, allowed: &[Edit]) -> Result<PathBuf, NotChanged> {
        if !self.topology.vms.iter().any(|known| known.name == vm) {
            return Err(self.no_vm(vm));
        }
        self.vm_file(vm, allowed)
    }

    /// The file that is this VM's alone, unless somebody has edited it since it was read, in
    /// another way than these.
    fn vm_file(&self, vm: &str, allowed: &[Edit]) -> Result<PathBuf, NotChanged> {
        let path = self.topology.vm_file(vm).map_err(NotChanged::NoFile)?;
        let edits = self.topology.edited_files().into_iter();
        let mut edits = edits.filter(|(_, edit)| !allowed.contains(edit));
        match edits.find(|(edited, _)| is_same_file(edited, &path)) {
            None => Ok(path),
            Some((file, edit)) => Err(NotChanged::Edited {
                file: file.display().to_string(),
                how: file_edit(edit),
            }),
        }
    }

    fn no_vm(&self, name: &str) -> NotChanged {
        let known = self.topology.vms.iter().map(|vm| vm.name.as_str());
        let help = match nearest(name, known) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "GET /v1/vms lists all VMs".to_owned(),
        };
        let name = name.to_owned();
        NotChanged::NoSuchVm { name, help }
    }

    /// Files that have been edited and wait for a reload.
    fn pending(&self) -> Vec<PendingFile> {
        let edited = self.topology.edited_files().into_iter();
        let pending = edited.map(|(file, edit)| PendingFile {
            file: file.display().to_string(),
            edit: file_edit(edit),
        });
        pending.collect()
    }
}

impl Next {
    fn written(written: config::Rewritten, path: PathBuf) -> Self {
        let text = Some(written.text);
        Self {
            topology: written.topology,
            file: Some(NextFile { path, text }),
        }
    }
}

fn file_edit(edit: Edit) -> FileEdit {
    match edit {
        Edit::Changed => FileEdit::Changed,
        Edit::Added => FileEdit::Added,
        Edit::Removed => FileEdit::Removed,
    }
}
