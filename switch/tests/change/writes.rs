//! Each step of a change that a request asks for is made to fail: also the file that it is kept in
//! is as it was.

use crate::faults::{Change, Tally, print};
use crate::state::n_eventfds;
use crate::strace::{Maker, can_inject};
use crate::typical::{Two, vms};
use crate::world::{MAIN, Outcome, World, vm};

/// What is asked for, and what undoes it: method, path, body.
pub(crate) struct Asking {
    pub(crate) what: &'static str,
    pub(crate) make: (&'static str, &'static str, Option<String>),
    pub(crate) undo: (&'static str, &'static str, Option<String>),
}

impl Asking {
    pub(crate) fn ask(
        world: &World,
        (method, path, body): &(&'static str, &'static str, Option<String>),
    ) -> Outcome {
        world.ask(method, path, body.as_deref())
    }
}

/// One of each kind, on the VMs of [`vms`].
pub(crate) fn askings() -> [Asking; 4] {
    let rate = |rate: &str| Some(format!("{{ from-vm: {{ rate: {rate} }} }}"));
    let (many, new, gone) = (
        vm("blue", "many", ""),
        vm("blue", "new", ""),
        vm("blue", "gone", ""),
    );
    let more = many.replace(".sock }", ".sock }, queues: 2");
    [
        Asking {
            what: "a VM added",
            make: ("PUT", "/v1/vms/new", Some(new)),
            undo: ("DELETE", "/v1/vms/new", None),
        },
        Asking {
            what: "a VM changed",
            make: ("PUT", "/v1/vms/many", Some(more)),
            undo: ("PUT", "/v1/vms/many", Some(many)),
        },
        Asking {
            what: "a limit changed",
            make: ("PATCH", "/v1/vms/limited/limit", rate("2gbit")),
            undo: ("PATCH", "/v1/vms/limited/limit", rate("1gbit")),
        },
        Asking {
            what: "a VM removed",
            make: ("DELETE", "/v1/vms/gone", None),
            undo: ("PUT", "/v1/vms/gone", Some(gone)),
        },
    ]
}

/// The files of VMs are as the daemon writes them.
pub(crate) fn let_it_write(world: &World) {
    for Asking { what, make, undo } in askings() {
        for asked in [make, undo] {
            assert_eq!(Asking::ask(world, &asked), Outcome::InForce, "{what}");
        }
    }
}

#[test]
fn request_of_which_any_call_fails_is_undone() {
    if !can_inject("request_of_which_any_call_fails_is_undone") {
        return;
    }
    let world = World::start_by(crate::rig::weir(), MAIN, &vms());
    let mut guests = Two::start(&world);
    let_it_write(&world);
    let n_before = n_eventfds(&world);
    for Asking { what, make, undo } in askings() {
        let mut change = Change {
            world: &world,
            make: &|world| Asking::ask(world, &make),
            undo: &|world| Asking::ask(world, &undo),
            maker: Maker::Request,
            gives_back: false,
            more: &|| format!("{:#?}", world.vm_files()),
            is_well: &mut |what| guests.assert_well(&world, what),
        };
        let tally = change.fail_each_call();
        print(&tally, what);
        let Tally {
            n_failed,
            n_refused,
            ..
        } = tally;
        assert!(n_failed >= 10 && n_refused >= 3, "{what}: {tally:?}");
    }
    let n_more = n_eventfds(&world).saturating_sub(n_before);
    assert!(n_more <= 16, "{n_more} eventfds more than before");
}
