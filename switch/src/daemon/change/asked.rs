//! Changes that are asked for, one after another.

use std::path::PathBuf;
use std::sync::Mutex;

use config::{Edit, Topology, is_same_file};
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
    /// Files that have been edited, and are not read for it.
    pending: Vec<PendingFile>,
}

/// A VM's file, as it is to be; `text` none: it is to be removed.
struct NextFile {
    path: PathBuf,
    text: Option<String>,
}

/// A file that is a VM's alone, and others that have been edited.
type OwnFile = (PathBuf, Vec<PendingFile>);

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
        let Next {
            topology,
            file,
            pending,
        } = self.next(&asked.wanted)?;
        let difference = difference(&self.topology, &topology);
        let wrong = needs_restart(&difference, (&self.topology, &topology));
        if !wrong.is_empty() {
            return Err(NotChanged::NeedsRestart(wrong));
        }
        match asked.is_dry_run {
            true => {
                self.plan(&topology)?;
                if let Some(file) = &file {
                    check(&file.path, &topology)?;
                }
            }
            false => self.put_in_force(topology, file, &difference)?,
        }
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
                let topology = config::load(running.origin.main()).map_err(NotChanged::Mistakes)?;
                Ok(Next {
                    topology,
                    file: None,
                    pending: Vec::new(),
                })
            }
            Wanted::Vm { name, body, is_new } => {
                let (path, pending) = self.own_file(name, &[Edit::Removed])?;
                if *is_new && self.has_vm(name) {
                    return Err(NotChanged::VmExists { name: name.clone() });
                }
                let written = running.with_vm(name, body, REQUEST, &path);
                written
                    .map(|written| Next::written(written, (path, pending)))
                    .map_err(NotChanged::Mistakes)
            }
            Wanted::Limit { name, body } => {
                let (path, pending) = self.file_of(name, &[])?;
                let written = running.with_limit(name, body, REQUEST, &path);
                let written = written.ok_or_else(|| NotChanged::no_vm(name, running))?;
                written
                    .map(|written| Next::written(written, (path, pending)))
                    .map_err(NotChanged::Mistakes)
            }
            Wanted::NoVm { name } => {
                let (path, pending) = self.file_of(name, &[Edit::Removed])?;
                let topology = running.without_vm(name);
                let topology = topology.ok_or_else(|| NotChanged::no_vm(name, running))?;
                Ok(Next {
                    topology,
                    file: Some(NextFile { path, text: None }),
                    pending,
                })
            }
        }
    }

    /// Puts a topology in force, and writes the file that says so before anybody sees it: what can
    /// fail comes first.
    fn put_in_force(
        &mut self,
        topology: Topology,
        file: Option<NextFile>,
        difference: &Difference,
    ) -> Result<(), NotChanged> {
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
    fn file_of(&self, vm: &str, allowed: &[Edit]) -> Result<OwnFile, NotChanged> {
        if !self.has_vm(vm) {
            return Err(NotChanged::no_vm(vm, &self.topology));
        }
        self.own_file(vm, allowed)
    }

    fn has_vm(&self, name: &str) -> bool {
        self.topology.vms.iter().any(|vm| vm.name == name)
    }

    /// The file that is this VM's alone, unless somebody has edited it since it was read, in
    /// another way than these.
    fn own_file(&self, vm: &str, allowed: &[Edit]) -> Result<OwnFile, NotChanged> {
        let path = self.topology.vm_file(vm).map_err(NotChanged::NoFile)?;
        let mut pending = Vec::new();
        for (edited, edit) in self.topology.edited_files() {
            let (is_own, how) = (is_same_file(&edited, &path), file_edit(edit));
            let file = edited.display().to_string();
            match is_own {
                true if !allowed.contains(&edit) => return Err(NotChanged::Edited { file, how }),
                true => {}
                false => pending.push(PendingFile { file, edit: how }),
            }
        }
        Ok((path, pending))
    }
}

impl Next {
    fn written(written: config::Rewritten, (path, pending): OwnFile) -> Self {
        let text = Some(written.text);
        Self {
            topology: written.topology,
            file: Some(NextFile { path, text }),
            pending,
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
