//! A daemon whose VMs are in a file each, and how it is told to change.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::request::{read, request};
use crate::rig::{Daemon, PATIENCE, folder};

/// The keys of the main file of most tests, to which VMs come by `vms.d/NAME.yaml`.
pub(crate) const MAIN: &str = "cores: [CPU]
control: { path: DIR/control.sock }
include: [ \"vms.d/*.yaml\" ]
networks: { blue: { mtu: 9000 }, red: {} }
";

/// A VM with a NIC in a network, at `NAME.sock`; `keys`: more keys of the VM.
pub(crate) fn vm(network: &str, name: &str, keys: &str) -> String {
    format!(
        "{{ {keys} nics: {{ net0: {{ network: {network}, vhost-user: {{ path: DIR/{name}.sock }} \
        }} }} }}"
    )
}

/// One test at a time: they share two CPUs, and measure.
static TURN: Mutex<()> = Mutex::new(());

/// A daemon with a folder for VMs.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    _turn: MutexGuard<'static, ()>,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    InForce,
    /// Why.
    Refused(String),
}

impl World {
    /// A daemon by this command that runs these VMs: name, and what is written of it.
    pub(crate) fn start_by(weir: Command, main: &str, vms: &[(&str, String)]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = Arc::new(folder());
        fs::create_dir(dir.path().join("vms.d")).unwrap();
        vms.iter().for_each(|(name, vm)| write_vm(&dir, name, vm));
        let daemon = Daemon::start_by(dir, main, weir);
        Self {
            daemon,
            _turn: turn,
        }
    }

    /// The daemon is gone, and another one starts with the files that there are.
    pub(crate) fn start_again(&mut self, weir: Command, main: &str) {
        let dir = self.daemon.dir.clone();
        self.daemon = Daemon::start_by(dir, main, weir);
    }

    /// A VM's file as it shall be; not read yet.
    pub(crate) fn write(&self, name: &str, vm: &str) {
        write_vm(&self.daemon.dir, name, vm);
    }

    /// A VM's file is not there any more; not read yet.
    pub(crate) fn erase(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.daemon.path(&format!("vms.d/{name}.yaml"))
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.daemon.path("control.sock")
    }

    /// What the files of VMs say, by name.
    pub(crate) fn vm_files(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(self.daemon.path("vms.d")).unwrap();
        let entries = entries.map(Result::unwrap).filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let text = fs::read_to_string(entry.path()).ok()?;
            (!name.starts_with('.')).then_some((name, text))
        });
        entries.collect()
    }

    /// Lets the files of VMs say this, and no others be there; not read yet.
    pub(crate) fn set_vm_files(&self, files: &BTreeMap<String, String>) {
        let folder = self.daemon.path("vms.d");
        for name in self.vm_files().into_keys() {
            fs::remove_file(folder.join(name)).unwrap();
        }
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    /// Asks for a change of a VM. `DIR` in `body` stands for the daemon's folder.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Outcome {
        let dir = self.daemon.dir.path().display().to_string();
        let body = body.map(|body| body.replace("DIR", &dir));
        let answer = request(&self.control(), method, path, body.as_deref());
        match answer.status {
            200 | 201 => Outcome::InForce,
            _ => Outcome::Refused(answer.body["detail"].to_string()),
        }
    }

    /// The files shall be read.
    pub(crate) fn request_reload(&self) -> Reloading {
        let before = self.marks();
        self.daemon.signal(Signal::HUP);
        Reloading { before }
    }

    /// Has the files read, and waits until that is done.
    pub(crate) fn reload(&self) -> Outcome {
        let reloading = self.request_reload();
        self.outcome(&reloading)
    }

    /// Waits until the files have been read.
    pub(crate) fn outcome(&self, reloading: &Reloading) -> Outcome {
        let begin = Instant::now();
        loop {
            if let Some(outcome) = self.try_outcome(reloading) {
                return outcome;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "the files are not read:\n{}",
                self.daemon.log()
            );
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }

    /// What the log says of it by now.
    pub(crate) fn try_outcome(&self, Reloading { before }: &Reloading) -> Option<Outcome> {
        let now = self.marks();
        if now[0] > before[0] {
            return Some(Outcome::InForce);
        }
        (now[1] > before[1]).then(|| {
            let log = self.daemon.log();
            let why = log.rsplit(NOT_CHANGED).next().unwrap_or_default();
            Outcome::Refused(why.trim_start_matches(": ").to_owned())
        })
    }

    fn marks(&self) -> [usize; 2] {
        let log = self.daemon.log();
        ["is in force", NOT_CHANGED].map(|what| log.matches(what).count())
    }

    /// Number of the topology in force.
    pub(crate) fn number(&self) -> u64 {
        let version = read(&self.control(), "/v1/version");
        version["topology"].as_u64().unwrap()
    }
}

const NOT_CHANGED: &str = "nothing has been changed";

/// A reload that was requested, by what the log had said before.
#[derive(Debug)]
pub(crate) struct Reloading {
    before: [usize; 2],
}

fn write_vm(dir: &TempDir, name: &str, vm: &str) {
    let path = dir.path().join("vms.d").join(format!("{name}.yaml"));
    let vm = vm.replace("DIR", &dir.path().display().to_string());
    // As editors and programs do: at no time is half of it there.
    let draft = dir.path().join("vms.d").join(format!(".{name}"));
    fs::write(&draft, format!("vms: {{ {name}: {vm} }}\n")).unwrap();
    fs::rename(draft, path).unwrap();
}
