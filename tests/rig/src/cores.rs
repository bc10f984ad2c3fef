//! Cores that come and go, and receive queues that move between them.

use std::time::{Duration, Instant};

use flowtable::PortId;
use pmd::Core;
use pmd::poll::Turn;

use crate::{Rig, STEP};

/// Long enough for the slowest machine; a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

impl Rig {
    /// One more core; gives its number.
    pub fn add_core(&mut self) -> usize {
        let mut core = self.cores.add_core().expect("eventfds");
        core.make_room();
        let id = core.id();
        let place = self.pollers.partition_point(|other| other.id() < id);
        self.pollers.insert(place, core);
        id
    }

    /// Numbers of the cores that turn.
    pub fn turning(&self) -> Vec<usize> {
        self.pollers.iter().map(Core::id).collect()
    }

    /// One turn of the core of this number alone.
    pub fn turn(&mut self, core: usize) -> Turn {
        self.now += STEP;
        let now = self.now;
        let mut cores = self.pollers.iter_mut();
        let core = cores.find(|other| other.id() == core);
        core.map_or_else(Turn::default, |core| core.poll_once(now))
    }

    /// Cores that have ended turn no more.
    pub fn forget_ended(&mut self) {
        self.pollers.retain(|core| !core.is_over());
    }

    /// Removes a core, turning all meanwhile.
    pub fn remove_core(&mut self, id: usize) {
        self.cores.start_remove_core(id).expect("it may go");
        self.until(|rig| rig.cores.try_finish_remove_core(id));
        self.forget_ended();
    }

    /// Moves a receive queue, turning all cores meanwhile.
    pub fn move_queue(&mut self, port: PortId, queue: u16, to: usize) {
        self.cores.start_move(port, queue, to).expect("it may move");
        self.until(|rig| rig.cores.try_finish_move(port, queue));
    }

    /// Turns all cores until that is so. Some of it takes real time: what a device does not send is
    /// waited for by control.
    pub fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.step();
            if is_so(self) {
                return;
            }
        }
        panic!("waited in vain");
    }
}
