//! Each step of a change that files ask for is made to fail.

use std::process::Command;

use crate::faults::{Change, print};
use crate::rig::weir;
use crate::state::n_eventfds;
use crate::strace::{Maker, can_inject};
use crate::typical::{Two, after, before, vms};
use crate::world::{MAIN, World};

/// The daemon may open 1,024 files, as many do.
fn limited() -> Command {
    let mut command = Command::new("prlimit");
    command.args(["--nofile=1024:1024", weir().get_program().to_str().unwrap()]);
    command
}

#[test]
fn change_of_which_any_call_fails_is_undone() {
    if !can_inject("change_of_which_any_call_fails_is_undone") {
        return;
    }
    let world = World::start_by(limited(), MAIN, &vms());
    let mut guests = Two::start(&world);
    let n_before = n_eventfds(&world);
    let mut change = Change {
        world: &world,
        make: &|world| {
            after(world);
            world.reload()
        },
        undo: &|world| {
            before(world);
            world.reload()
        },
        maker: Maker::Main,
        gives_back: false,
        more: &String::new,
        is_well: &mut |what| guests.assert_well(&world, what),
    };
    let calls = change.fail_each_call();
    let files = change.fail_for_want_of_files();
    let n_more = n_eventfds(&world).saturating_sub(n_before);
    // One for each queue and its guest, while they take long; one for each change would be more.
    assert!(n_more <= 16, "{n_more} eventfds more than before");
    print(&calls, "a call refused");
    print(&files, "files wanting");
    assert!(calls.whys.len() >= 10, "{:#?}", calls.whys);
    assert!(files.whys.len() >= 4, "{:#?}", files.whys);
}
