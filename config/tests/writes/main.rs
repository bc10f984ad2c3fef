//! Topologies in which one VM is added, replaced or removed while all else stays in memory.
//!
//! - `vms`: requests for whole VMs; `limits`: for limits
//! - `files`: where a VM may be written
//! - `random`: what is written reads back, and any request is survived

mod files;
mod limits;
mod random;
mod vms;

use std::fs;
use std::path::{Path, PathBuf};

use config::{Report, Rewritten, Topology, load};
use tempfile::TempDir;

const MAIN: &str = r#"cores: [0]
ports: 6
control: { path: /run/weir/control.sock }
include: [ "vms.d/*.yaml" ]
uplinks: { up0: { device: eth1 } }
networks: { blue: {}, big: { mtu: 9000 } }
vms:
  db:
    nics:
      net0: { network: blue, mac: "52:54:00:00:00:01", vhost-user: { path: /run/db.sock } }
      net1: { network: blue, tap: { name: tap7 } }
"#;

const WEB: &str = r"vms:
  web:
    labels: { owner: shop }
    limit: { from-vm: { rate: 1gbit, packets: 10kpps }, to-vm: { rate: 2gbit } }
    nics:
      net0: { network: blue, vhost-user: { path: /run/web.sock } }
";

/// A folder with a topology, and what it was when it was loaded.
struct Rig {
    folder: TempDir,
    topology: Topology,
}

impl Rig {
    fn new(main: &str, files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in [("weir.yaml", main)].iter().chain(files) {
            write(&folder.path().join(name), text);
        }
        let topology = loaded(&folder);
        Self { folder, topology }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn with_vm(&self, name: &str, text: &str) -> Result<Rewritten, Report> {
        let file = self.path(&format!("vms.d/{name}.yaml"));
        self.topology.with_vm(name, text, "the request", &file)
    }

    fn with_limit(&self, text: &str) -> Result<Rewritten, Report> {
        let file = self.path("vms.d/web.yaml");
        self.topology
            .with_limit("web", text, "the request", &file)
            .unwrap()
    }

    /// Line, column and message of what is wrong, all in `file`.
    fn found(&self, result: Result<Rewritten, Report>, file: &str) -> Vec<(usize, usize, String)> {
        let report = result.map(|_| ()).unwrap_err();
        report
            .diagnostics()
            .iter()
            .map(|d| {
                assert_eq!(d.file(), file, "{report}");
                (d.line(), d.column(), d.message().to_owned())
            })
            .collect()
    }

    fn assert_wrong(&self, name: &str, text: &str, expected: &[(usize, usize, &str)]) {
        let found = self.found(self.with_vm(name, text), "the request");
        let fits = found.len() == expected.len()
            && found.iter().zip(expected).all(|(f, e)| {
                (f.0, f.1) == (e.0, e.1)
                    && f.2
                        .contains(&e.2.replace("DIR", self.folder.path().to_str().unwrap()))
            });
        assert!(fits, "expected {expected:#?}\nfound {found:#?}\nin {text}");
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn loaded(folder: &TempDir) -> Topology {
    load(&folder.path().join("weir.yaml")).unwrap_or_else(|report| panic!("{report}"))
}

/// What the topology says, whatever the order of its VMs.
fn said(topology: &Topology) -> Vec<String> {
    let mut said: Vec<_> = topology
        .objects()
        .iter()
        .map(|object| format!("{object:?}"))
        .collect();
    said.sort();
    said
}

fn names(topology: &Topology) -> Vec<&str> {
    topology.vms.iter().map(|vm| vm.name.as_str()).collect()
}

fn rig() -> Rig {
    Rig::new(MAIN, &[("vms.d/web.yaml", WEB)])
}
