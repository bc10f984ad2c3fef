use std::fs;
use std::path::Path;

use super::*;

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Ports: a and b stick, c has its address from the topology.
const NAMES: [&str; 3] = ["a/n", "b/n", "c/n"];

fn ingress(port: PortId) -> Ingress {
    let source = if port == 2 {
        SourcePolicy::Fixed(B)
    } else {
        SourcePolicy::Sticky
    };
    Ingress {
        port,
        network: 0,
        trunk: None,
        source,
        generation: 1,
    }
}

/// A daemon's, in this folder and world.
fn pins(dir: &Path, world: &str, network: &str) -> (Pins, Arc<MacTable>) {
    let macs = Arc::new(MacTable::new(64, 3, [1, 2]));
    let names = Arc::new(Names {
        ports: NAMES.map(str::to_owned).to_vec(),
        networks: vec![network.to_owned()],
    });
    let ingresses = [0, 1, 2].map(ingress);
    let dir = Arc::new(Folder::open(dir).unwrap());
    (
        Pins::restore(
            macs.clone(),
            &dir,
            world.to_owned(),
            names,
            ingresses.iter(),
        ),
        macs,
    )
}

/// Memory of this inode is at the port, as its guest's longest region or as another.
fn meet(pins: &Pins, port: PortId, inode: u64) {
    let file = FileId { device: 9, inode };
    pins.meet_where(&ingress(port), |other| other == file, Some(file));
}

#[test]
fn pin_survives_connections_and_a_crash_and_ends_with_its_guest() {
    let dir = tempfile::tempdir().unwrap();
    let (first, macs) = pins(dir.path(), "here", "blue");
    meet(&first, 0, 7);
    assert!(macs.pin(0, 0, A));
    meet(&first, 0, 7);
    assert_eq!(macs.pins(), [(0, 0, A)]);
    first.update(std::iter::empty());
    // Killed.
    let (second, macs) = pins(dir.path(), "here", "blue");
    assert_eq!(macs.pins(), [(0, 0, A)]);
    assert_eq!(
        macs.find(0, A).map(|found| (found.port, found.kind)),
        Some((0, Kind::Sticky))
    );
    meet(&second, 0, 7);
    assert_eq!(macs.pins(), [(0, 0, A)]);
    meet(&second, 0, 8);
    assert_eq!(
        (macs.pins(), macs.find(0, A)),
        (vec![], None),
        "another guest"
    );
    second.update(std::iter::empty());
    assert_eq!(pins(dir.path(), "here", "blue").1.pins(), []);
}

#[test]
fn pin_of_another_boot_or_network_or_port_is_no_pin() {
    let dir = tempfile::tempdir().unwrap();
    let (first, macs) = pins(dir.path(), "here", "blue");
    meet(&first, 1, 7);
    macs.pin(1, 0, A);
    first.update(std::iter::empty());
    assert_eq!(pins(dir.path(), "there", "blue").1.pins(), []);
    assert_eq!(pins(dir.path(), "here", "red").1.pins(), []);
    let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
    for other in ["c/n", "d/n"] {
        fs::write(dir.path().join(FILE), text.replace("b/n", other)).unwrap();
        assert_eq!(pins(dir.path(), "here", "blue").1.pins(), [], "{other}");
    }
    fs::write(dir.path().join(FILE), "{").unwrap();
    assert_eq!(pins(dir.path(), "here", "blue").1.pins(), []);
}

#[test]
fn pin_of_a_process_that_ended_is_no_pin() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (first, macs) = pins(dir.path(), "here", "blue");
    meet(&first, 0, 7);
    macs.pin(0, 0, A);
    lock(&first.state).guests.get_mut(&0).unwrap().process =
        Process::of(i32::try_from(child.id()).unwrap());
    first.update(std::iter::empty());
    assert_eq!(pins(dir.path(), "here", "blue").1.pins(), [(0, 0, A)]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(pins(dir.path(), "here", "blue").1.pins(), []);
}

#[test]
fn trial_goes_on_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (first, macs) = pins(dir.path(), "here", "blue");
    meet(&first, 0, 7);
    macs.pin(0, 0, A);
    first.update(std::iter::empty());
    assert_eq!(pins(dir.path(), "here", "blue").1.on_trial_of(0), None);
    macs.try_again(0, 1, 0);
    first.update(std::iter::empty());
    assert_eq!(pins(dir.path(), "here", "blue").1.on_trial_of(0), Some(1));
    macs.age(61, 300);
    first.update(std::iter::empty());
    assert_eq!(pins(dir.path(), "here", "blue").1.on_trial_of(0), None);
}

#[test]
fn two_ports_have_no_pin_in_common() {
    let dir = tempfile::tempdir().unwrap();
    let (first, macs) = pins(dir.path(), "here", "blue");
    for port in [0, 1] {
        meet(&first, port, 7 + u64::from(port));
        macs.pin(port, 0, A);
    }
    first.update(std::iter::empty());
    assert_eq!(pins(dir.path(), "here", "blue").1.pins(), [(0, 0, A)]);
}

#[test]
fn container_is_its_device() {
    let dir = tempfile::tempdir().unwrap();
    let (pins, macs) = pins(dir.path(), "here", "blue");
    pins.meet_device(&ingress(0), 4);
    macs.pin(0, 0, A);
    pins.meet_device(&ingress(0), 4);
    assert_eq!(macs.pins(), [(0, 0, A)], "it was down for a moment");
    pins.meet_device(&ingress(0), 5);
    assert_eq!(macs.pins(), []);
    macs.pin(0, 0, A);
    pins.gone(0);
    assert_eq!(macs.pins(), []);
}

#[test]
fn port_does_not_wait_for_a_note_that_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let (pins, macs) = pins(dir.path(), "here", "blue");
    meet(&pins, 0, 7);
    macs.pin(0, 0, A);
    let mut is_written = false;
    pins.save(|_| {
        // As a port's thread does while a disk takes its time.
        is_written = true;
        assert!(pins.state.try_lock().is_ok(), "a port would wait");
        meet(&pins, 1, 8);
        Ok(())
    });
    assert!(is_written);
}
