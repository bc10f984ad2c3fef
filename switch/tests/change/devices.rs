//! Each step of a change of devices is made to fail: those that others have stay theirs, or are
//! theirs again, and nothing is left at any.

use crate::faults::{Change, print};
use crate::space::{Spaces, spaces};
use crate::strace::{Maker, can_inject};
use crate::typical::{Two, vms};
use crate::world::{Outcome, World};

/// An uplink that stays; a device that containers get.
const MAIN: &str = "cores: [CPU]
flows: 4096
control: { path: DIR/control.sock }
include: [ \"vms.d/*.yaml\" ]
uplinks: { up: { device: to-far } }
networks: { blue: { uplink: up }, red: {} }
";

fn with_device(device: &str) -> String {
    format!("{{ nics: {{ net0: {{ network: red, macs: any, afxdp: {{ device: {device} }} }} }} }}")
}

fn with_tap(tap: &str) -> String {
    format!("{{ nics: {{ net0: {{ network: red, macs: any, tap: {{ name: {tap} }} }} }} }}")
}

/// Devices of the switch's namespace: whether they have a program, are promiscuous, and what is
/// switched on.
fn devices(spaces: &Spaces) -> String {
    let links = spaces.ip("sw", "-o -d link show");
    let about = links.lines().map(|link| {
        let words: Vec<_> = link.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|it| *it == word);
            at.and_then(|at| words.get(at + 1)).copied()
        };
        let name = words[1].split(['@', ':']).next().unwrap_or_default();
        let offloads = spaces.run("sw", &format!("ethtool -k {name} | grep -F ': on' || true"));
        format!(
            "{name} program {} promiscuity {:?} {}\n",
            words.contains(&"prog/xdp"),
            after("promiscuity"),
            offloads.split_whitespace().collect::<Vec<_>>().join(" ")
        )
    });
    about.collect()
}

/// Files are changed to these, and read again on request: name, and what is said of the VM, if it
/// is there. No signal comes between the calls of the thread that does it.
fn tell(world: &World, vms: &[(&str, Option<String>)]) -> Outcome {
    for (name, vm) in vms {
        match vm {
            Some(vm) => world.write(name, vm),
            None if world.file(name).exists() => world.erase(name),
            None => {}
        }
    }
    world.ask("POST", "/v1/reload", None)
}

#[test]
fn change_of_devices_of_which_a_step_fails_is_undone() {
    if can_inject("change_of_devices_of_which_a_step_fails_is_undone") {
        fail_calls(8);
    }
}

#[test]
#[ignore = "a minute or two: ./x faults"]
fn change_of_devices_of_which_any_call_fails_is_undone() {
    if can_inject("change_of_devices_of_which_any_call_fails_is_undone") {
        fail_calls(1);
    }
}

/// Of each kind the first of `every` in a row.
fn fail_calls(every: usize) {
    let Some(spaces) = spaces(&["sw", "far"]) else {
        return;
    };
    spaces.veth(("far", "h0"), ("sw", "to-far"), 1);
    spaces.veth(("far", "h1"), ("sw", "to-one"), 1);
    spaces.veth(("far", "h2"), ("sw", "to-two"), 1);
    let mut vms = vms();
    vms.push(("one", with_device("to-one")));
    let mut world = World::start_by(spaces.weir("sw"), MAIN, &vms);
    world.daemon.until_state("one/net0", "up");
    let mut guests = Two::start(&world);
    let (one, two, tap) = (
        || Some(with_device("to-one")),
        || Some(with_device("to-two")),
        || Some(with_tap("tap0")),
    );
    type Vms = [(&'static str, Option<String>); 3];
    let cases: [(&str, bool, Vms, Vms); 2] = [
        (
            "a device and a tap added",
            false,
            [("one", one()), ("two", two()), ("tap", tap())],
            [("one", one()), ("two", None), ("tap", None)],
        ),
        (
            "a device given to another, with one more",
            true,
            [("one", two()), ("two", one()), ("tap", None)],
            [("one", one()), ("two", None), ("tap", None)],
        ),
    ];
    for (what, gives_back, after, before) in cases {
        let mut change = Change {
            world: &world,
            make: &|world| tell(world, &after),
            undo: &|world| tell(world, &before),
            maker: Maker::Request,
            gives_back,
            more: &|| devices(&spaces),
            is_well: &mut |what| guests.assert_well(&world, what),
        };
        // What reads files fails in other tests.
        let tally = change.fail_calls("/vms.d/", every);
        print(&tally, what);
        assert!(tally.whys.len() >= 10, "{what}: {tally:#?}");
    }
}
