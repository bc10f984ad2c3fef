//! A topology in which one VM is added, replaced or removed.
//!
//! Everything else is taken as it is in memory, and no file is read: whatever has been edited in
//! other files meanwhile has no say. What must be unique is checked as in a whole file.

use std::path::Path;

use crate::check;
use crate::context::{Mistakes, Placed};
use crate::diagnostics::Report;
use crate::keys::LIMIT;
use crate::object::ObjectKind;
use crate::origin::Origin;
use crate::source;
use crate::topology::{Topology, Vm, port_name};
use crate::walk::{walk_patch, walk_vm};
use crate::written_vm;

/// A topology with one VM added or replaced, and the text of that VM's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The topology; the VM is where it was, or the last.
    pub topology: Topology,
    /// What is to be in the VM's file: YAML with that VM alone, without comments.
    pub text: String,
}

impl Topology {
    /// This topology with the VM `name` as `text` describes it: the mapping below its name, as YAML
    /// or JSON. `text_name` is what a report calls that text; `file` is the file in which the VM
    /// will be, as [`Topology::vm_file`] says.
    ///
    /// # Errors
    /// [`Report`]: all mistakes at once, with the places of both where something is used twice.
    pub fn with_vm(
        &self,
        name: &str,
        text: &str,
        text_name: &str,
        file: &Path,
    ) -> Result<Rewritten, Report> {
        let mut mistakes = Mistakes::default();
        let vm = source::body(text, text_name, &mut mistakes).and_then(|body| {
            walk_vm(name, &body, &mut mistakes);
            check::vm(self, name, body.at, &body, &mut mistakes)
        });
        let (vm, _) = mistakes.conclude(vm)?;
        self.rewritten(name, written_vm::tree(self, &vm), file)
    }

    /// This topology with another limit of the VM `name`: `text` has what is different, as YAML or
    /// JSON. A key that it has takes the place of what was there, and one without a value (`null`)
    /// is removed, as a merge patch does (RFC 7396). None: there is no such VM.
    ///
    /// # Errors
    /// [`Report`], as [`Topology::with_vm`]. A value that is wrong is shown as it would be in
    /// `file`.
    pub fn with_limit(
        &self,
        name: &str,
        text: &str,
        text_name: &str,
        file: &Path,
    ) -> Option<Result<Rewritten, Report>> {
        let vm = self.vms.iter().find(|vm| vm.name == name)?;
        let mut mistakes = Mistakes::default();
        let patch = source::body(text, text_name, &mut mistakes)
            .inspect(|patch| walk_patch(patch, &LIMIT, &mut mistakes));
        let patched = mistakes.conclude(patch).and_then(|patch| {
            let mut tree = written_vm::tree(self, vm);
            written_vm::patch_limit(&mut tree, &patch);
            let mut mistakes = Mistakes::default();
            let found = self.read_back(&written_vm::text(name, tree), file, &mut mistakes);
            let (vm, _) = mistakes.conclude(found)?;
            // In the order in which every such file is written.
            self.rewritten(name, written_vm::tree(self, &vm), file)
        });
        Some(patched)
    }

    /// This topology without the VM `name`; none: it has no such VM.
    pub fn without_vm(&self, name: &str) -> Option<Topology> {
        let idx = self.vms.iter().position(|vm| vm.name == name)?;
        let mut topology = self.clone();
        let vm = topology.vms.remove(idx);
        forget(&mut topology.origin, &vm);
        Some(topology)
    }

    /// With the VM as it will be read from its file.
    fn rewritten(
        &self,
        name: &str,
        tree: written_vm::Tree,
        file: &Path,
    ) -> Result<Rewritten, Report> {
        let text = written_vm::text(name, tree);
        let mut mistakes = Mistakes::default();
        let found = self.read_back(&text, file, &mut mistakes);
        let mut topology = self.clone();
        let former = topology.vms.iter().position(|vm| vm.name == name);
        if let Some(vm) = former.and_then(|idx| topology.vms.get(idx)) {
            forget(&mut topology.origin, vm);
        }
        let vm = found.map(|(vm, places)| {
            topology.origin.add(mistakes.placed(places));
            vm
        });
        let vm = mistakes.conclude(vm)?;
        match former.and_then(|idx| topology.vms.get_mut(idx)) {
            Some(place) => *place = vm,
            None => topology.vms.push(vm),
        }
        Ok(Rewritten { topology, text })
    }

    /// The VM as it will be read from its file, which has this text.
    fn read_back(
        &self,
        text: &str,
        file: &Path,
        mistakes: &mut Mistakes,
    ) -> Option<(Vm, Vec<Placed>)> {
        let file_name = file.display().to_string();
        let root = source::included(file_name, text.as_bytes().to_vec(), mistakes)?;
        let (name, name_node, node) = root.get("vms")?.entries()?.next()?;
        check::vm(self, name, name_node.at, node, mistakes)
    }
}

/// Forgets where a VM and its NICs were.
fn forget(origin: &mut Origin, vm: &Vm) {
    origin.remove(ObjectKind::Vm, &vm.name);
    for nic in &vm.nics {
        origin.remove(ObjectKind::Nic, &port_name(vm, nic));
    }
}
