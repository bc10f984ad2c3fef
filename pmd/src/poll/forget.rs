//! A port that is gone: nothing of it is left on the core, whoever has its id next.

use flowtable::PortId;

use super::core::Core;
use crate::port::views::TXQS_MAX;

impl Core {
    /// Forgets a port that is down and has no addresses any more, so that no frame is decided to go
    /// there.
    #[cold]
    pub(super) fn forget(&mut self, port: PortId) {
        self.changing[usize::from(port)] = 0;
        self.stats.forget(port);
        self.faults.forget(port);
        self.lookup.forget_port(port);
        let first = usize::from(port) * TXQS_MAX;
        let slots = first..first + TXQS_MAX;
        for rxq in &mut self.rxqs {
            rxq.hold.forget_port(&slots);
            rxq.room.forget_port(&slots);
        }
    }
}
