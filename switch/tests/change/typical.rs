//! A change with some of all in it.

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
    world.erase("gone");
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
