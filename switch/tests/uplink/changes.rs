//! Devices in changes of the topology.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use crate::rig::{Daemon, folder};
use crate::space::{must, spaces};

const TOPOLOGY: &str = "cores: [CPU]\ncontrol: { path: DIR/control.sock }\n\
    include: [ \"vms.d/*.yaml\" ]\nnetworks: { blue: {} }\n";

/// A VM that is a host behind a veth, with more keys.
fn vm(keys: &str) -> String {
    format!("nics: {{ n: {{ network: blue, macs: any, afxdp: {{ device: up0{keys} }} }} }}")
}

/// A file that no other can replace, until this is dropped.
struct Busy(PathBuf);

impl Drop for Busy {
    fn drop(&mut self) {
        must(Command::new("umount").arg(&self.0));
    }
}

#[test]
fn device_that_comes_by_a_change_is_attached_and_given_back() {
    let Some(spaces) = spaces(&["sw", "peer"]) else {
        return;
    };
    spaces.veth(("sw", "up0"), ("peer", "p0"), 2);
    let mut daemon = Daemon::start_by(Arc::new(folder()), TOPOLOGY, spaces.weir("sw"));
    for ring in ["", ", ring: 1024", ""] {
        let (status, answer) = daemon.ask("PUT", "/v1/vms/host", &vm(ring));
        assert!(matches!(status, 200 | 201), "{answer}");
        daemon.until_state("host/n", "up");
        assert!(spaces.ip("sw", "-d link show up0").contains("prog/xdp"));
    }
    let (status, answer) = daemon.ask("DELETE", "/v1/vms/host", "");
    assert_eq!(status, 200, "{answer}");
    assert!(!spaces.ip("sw", "-d link show up0").contains("prog/xdp"));
}

/// The device has been given back and attached anew when it turns out that the change can't be
/// kept.
#[test]
fn device_of_a_change_that_is_undone_is_served_as_before() {
    let Some(spaces) = spaces(&["sw", "peer"]) else {
        return;
    };
    spaces.veth(("sw", "up0"), ("peer", "p0"), 2);
    let dir = Arc::new(folder());
    let file = dir.path().join("vms.d/host.yaml");
    fs::create_dir(dir.path().join("vms.d")).unwrap();
    let text = format!("vms: {{ host: {{ {} }} }}\n", vm(""));
    fs::write(&file, &text).unwrap();
    must(Command::new("mount").arg("--bind").args([&file, &file]));
    let _busy = Busy(file.clone());
    let mut daemon = Daemon::start_by(dir, TOPOLOGY, spaces.weir("sw"));
    daemon.until_state("host/n", "up");
    for _ in 0..3 {
        let (status, answer) = daemon.ask("PUT", "/v1/vms/host", &vm(", ring: 1024"));
        let found = (status, &answer["code"]);
        assert_eq!(found, (409, &"cannot-write".into()), "{answer}");
        daemon.until_state("host/n", "up");
        assert!(spaces.ip("sw", "-d link show up0").contains("prog/xdp"));
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    let (_, answer) = daemon.ask("POST", "/v1/reload", "");
    assert_eq!(answer["data"]["changes"], serde_json::json!([]), "{answer}");
}
