//! A change with some of all in it.

use guest::{Guest, Options};

use crate::rig::{PATIENCE, exchange, introduce};
use crate::world::{World, vm};

/// Two VMs with guests, who stay; one that goes, one that gets another number of queues, one whose
/// limit changes.
pub(crate) fn before(world: &World) {
    for name in ["c", "d"] {
        if world.file(name).exists() {
            world.erase(name);
        }
    }
    for (name, vm) in vms() {
        world.write(name, &vm);
    }
}

/// The VMs of before.
pub(crate) fn vms() -> Vec<(&'static str, String)> {
    let limit = "limit: { from-vm: { rate: 1gbit } },";
    let names = ["a", "b", "gone", "many"];
    let mut vms: Vec<_> = names.map(|name| (name, vm("blue", name, ""))).into();
    vms.push(("limited", vm("blue", "limited", limit)));
    vms
}

/// Two more come.
pub(crate) fn after(world: &World) {
    if world.file("gone").exists() {
        world.erase("gone");
    }
    let with = |name: &str, socket: &str, keys: &str| {
        let vm = vm("blue", name, "");
        let vm = vm.replace(".sock }", &format!(".sock{socket} }}{keys}"));
        world.write(name, &vm);
    };
    with("a", ", mode: \"0600\"", "");
    with("b", "", ", rules: [ { deny: { to-vm: { proto: tcp } } } ]");
    with("c", ", group: \"65534\", mode: \"0640\"", "");
    with("d", "", ", mac: 02:00:00:00:00:0d");
    with("many", "", ", queues: 2");
    let limit = "limit: { from-vm: { rate: 2gbit } },";
    world.write("limited", &vm("blue", "limited", limit));
}

/// Guests of the two that stay.
pub(crate) struct Two([Guest; 2]);

impl Two {
    pub(crate) fn start(world: &World) -> Self {
        let mut guests = ["a", "b"].map(|name| {
            let socket = format!("{name}.sock");
            world.daemon.guest(&socket, Options::default())
        });
        let [a, b] = &mut guests;
        introduce((1, a), (2, b));
        Self(guests)
    }

    /// They forward, and have connected once.
    pub(crate) fn assert_well(&mut self, world: &World, after: &str) {
        let [a, b] = &mut self.0;
        exchange((1, &mut *a), (2, &mut *b), 8);
        exchange((2, b), (1, a), 8);
        for port in ["a/net0", "b/net0"] {
            let connections = &world.daemon.port(port)["connection"]["connections"];
            assert_eq!(*connections, 1, "{port} after {after}");
        }
    }

    /// They find another daemon with what they have, and go on.
    pub(crate) fn reconnect(&mut self, world: &mut World) {
        let [a, b] = &mut self.0;
        for guest in [&mut *a, &mut *b] {
            guest.reconnect(PATIENCE).unwrap();
        }
        for port in ["a/net0", "b/net0"] {
            world.daemon.until_state(port, "up");
        }
        introduce((1, &mut *a), (2, &mut *b));
        exchange((2, b), (1, a), 8);
    }
}
