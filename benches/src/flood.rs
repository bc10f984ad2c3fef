//! A guest whose frames go to many others.

use flowtable::PortId;
use guest::Options;
use guest::flows::{Flows, Vary};
use guest::lean::{LeanRx, LeanTx};
use guest::stack::Mac;
use pmd::time::Nanos;
use rig::{ALL, ANY, Rig, networks, options};

use crate::{BURST, Spent, lean_rx, lean_tx, step};

/// Time between turns: enough for what copies cost the sender's port.
const TURN: Nanos = 1_000_000;

/// A switch with a sender on port 0, and sinks on all others, of one network.
pub struct Flood {
    rig: Rig,
    tx: LeanTx,
    sinks: Vec<LeanRx>,
}

impl Flood {
    /// Broadcast frames of `len` bytes to `n_sinks` guests.
    pub fn new(len: usize, n_sinks: u16) -> Self {
        let members: Vec<PortId> = (0..=n_sinks).collect();
        let mut rig = Rig::new(1, members.len(), networks(&[&members]));
        let _ = rig.cores.settle();
        let policy = ANY;
        let options = Options {
            line_offset: 52,
            checked: false,
            fifo: true,
            ..options()
        };
        for &port in &members {
            rig.plug(0, policy, options.clone());
            rig.down(port);
        }
        let to = (Mac(ALL), [10, 0, 0, 255].into());
        let tx = lean_tx(
            &mut rig,
            0,
            Flows::new(crate::host(0), to, len, 1, Vary::Ip),
        );
        let sinks = members[1..]
            .iter()
            .map(|&port| lean_rx(&mut rig, port))
            .collect();
        members.iter().for_each(|&port| rig.up(port, 0, policy));
        // A core takes up some of them in a turn.
        members.iter().for_each(|_| _ = rig.step());
        Self { rig, tx, sinks }
    }

    /// Sends so many bursts, whose every frame must reach every sink; busy cycles of the switch.
    /// Frames are those that were sent, not their copies.
    pub fn send(&mut self, n_bursts: u64) -> Spent {
        let mut spent = Spent::default();
        for n in 1..=n_bursts {
            self.tx.poll();
            self.tx.offer(BURST);
            // Copies are made as the port's budget of them allows.
            while spent.n_frames < n * u64::from(BURST) {
                self.rig.now += TURN;
                let turn = step(&mut self.rig);
                assert!(turn.n_frames > 0, "a flood waits for ever");
                spent += turn;
                for sink in &mut self.sinks {
                    let n = sink.poll();
                    assert_eq!(u64::from(n), turn.n_frames, "copies were lost");
                    sink.offer(n);
                }
            }
        }
        spent
    }
}
