//! Looks after ports and addresses ten times a second: what the polling cores found out and may not
//! act upon themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flowtable::mac::owner::Moves;
use flowtable::{PortId, SourcePolicy};
use pmd::error::Grade;
use pmd::time::seconds;
use pmd::{Fleet, GuestFault};

use super::tsc::ClockWatch;
use crate::base::log::Notes;
use crate::base::process::Process;
use crate::base::stop::Stop;
use crate::control::sources::Sources;
use crate::vhost_user::health;
use crate::vhost_user::port::Port;

const EVERY: Duration = Duration::from_millis(100);
/// Between two looks at what changes slowly.
const SLOWLY: Duration = Duration::from_secs(1);
/// Between two lines about what may go on and on.
const SELDOM: Duration = Duration::from_secs(600);
/// Seconds after which an address that no longer sends is forgotten.
const MAC_AGE: u32 = 300;
/// A message that takes longer holds up its port's thread, not just itself.
const MESSAGE_WITHIN: Duration = Duration::from_secs(5);

/// Looks until the end is requested.
pub(crate) fn run(sources: &Sources, stop: &Stop) {
    let Sources {
        fleet,
        pins,
        ports,
        devices,
        rates,
        vms,
        loads,
        clock,
        ..
    } = sources;
    let mut looked: Option<Instant> = None;
    let mut said = vec![Said::default(); ports.len()];
    let mut watch = ClockWatch::default();
    let mut said_of_devices = vec![Moves::default(); devices.len()];
    while !stop.sleep(EVERY) {
        let is_due = looked.is_none_or(|at| at.elapsed() >= SLOWLY);
        for (port, said) in ports.iter().zip(&mut said) {
            close_if_hopeless(fleet, port);
            if is_due {
                report_faults(fleet, port, said);
                report_moves(fleet, port.id(), &port.notes, &mut said.moves);
            }
        }
        pins.look(sticky_peers(ports));
        if is_due {
            for (port, said) in devices.iter().zip(&mut said_of_devices) {
                report_moves(fleet, port.id(), &port.notes, said);
            }
            looked = Some(Instant::now());
            watch.see(clock.check());
            // The cores write the same clock's seconds into the table.
            fleet.age(seconds(clock.now()), MAC_AGE);
            rates.sample(fleet, sources.names.len());
            vms.sample(clock.now());
            loads.sample(fleet, clock);
        }
    }
    pins.look(sticky_peers(ports));
}

fn sticky_peers(ports: &[Arc<Port>]) -> impl Iterator<Item = (PortId, Option<Option<Process>>)> {
    let ports = ports
        .iter()
        .filter(|port| port.spec.ingress.source == SourcePolicy::Sticky);
    ports.map(|port| (port.id(), port.link.peer()))
}

fn close_if_hopeless(fleet: &Fleet, port: &Port) {
    if let Some(fault) = hopeless_fault(fleet, port) {
        port.link.close(fault.sentence());
    }
    if port.link.is_damaged() {
        port.link.close(GuestFault::MemoryGone.sentence());
    }
    if port.link.busy_for() > MESSAGE_WITHIN {
        port.link.close(format!(
            "a message could not be dealt with in {} s",
            MESSAGE_WITHIN.as_secs()
        ));
    }
}

fn hopeless_fault(fleet: &Fleet, port: &Port) -> Option<GuestFault> {
    // Nearly always there is none, and the rest costs more.
    if fleet.stopped(port.id()).is_empty() {
        return None;
    }
    // The view first: a fault that is seen with it can't be older than the queues that it says run.
    let link = port.link.view();
    let faults = health::faults(fleet, port, &link);
    faults
        .into_iter()
        .map(|(_, fault)| fault)
        .find(|fault| fault.grade() == Grade::CloseConnection)
}

/// What was last said of a port, so that a fault that stays is one line.
#[derive(Clone, Debug, Default)]
struct Said {
    stopped: Vec<(u16, GuestFault)>,
    n_faults: u64,
    lacks_memory: Option<String>,
    n_long_calls: u64,
    n_page_waits: u64,
    /// When that was said.
    waits_said: Option<Instant>,
    moves: Moves,
}

/// Addresses that went to the uplink, or came from there.
fn report_moves(fleet: &Fleet, port: PortId, notes: &Notes, said: &mut Moves) {
    let moves = fleet.macs().moves(port);
    let Moves {
        n_lost,
        n_won,
        n_away,
    } = moves;
    if n_lost != said.n_lost {
        let n = n_lost.wrapping_sub(said.n_lost);
        notes.warn(format_args!(
            "lost {n} addresses to the uplink: frames from them came in there while this port sent \
            none"
        ));
    }
    if n_won != said.n_won {
        let n = n_won.wrapping_sub(said.n_won);
        notes.warn(format_args!(
            "took {n} addresses from the uplink: it sent from them while nobody did there"
        ));
    }
    if n_away != said.n_away {
        notes
            .info("its address is used behind the uplink, while no receive ring of its is started");
    }
    *said = moves;
}

fn report_faults(fleet: &Fleet, port: &Port, said: &mut Said) {
    let link = port.link.view();
    let faults = health::faults(fleet, port, &link);
    let mut new = faults.iter().filter(|fault| !said.stopped.contains(fault));
    let n_faults = fleet.counters(port.id()).faults;
    if let Some((queue, fault)) = new.next() {
        let more = new.count();
        let more = if more > 0 {
            format!(" (and {more} more)")
        } else {
            String::new()
        };
        port.notes
            .warn(format_args!("queue {queue} stopped: {fault}{more}"));
    } else if n_faults > said.n_faults {
        let n = n_faults - said.n_faults;
        port.notes.warn(format_args!(
            "{n} descriptor chains of the guest broke the rules and were given back"
        ));
    }
    let lacks_memory = health::lacks_memory(&link);
    if let (Some(why), true) = (&lacks_memory, lacks_memory != said.lacks_memory) {
        port.notes.warn(why);
    }
    let (n_long_calls, is_indirect) = fleet.long_calls(port.id());
    if n_long_calls != said.n_long_calls && is_indirect {
        port.notes.warn(
            "an eventfd of its front-end takes a polling core long to signal: another thread does \
            it for some time",
        );
    }
    let (n_page_waits, mut waits_said) = (fleet.page_waits(port.id()), said.waits_said);
    if n_page_waits != said.n_page_waits && waits_said.is_none_or(|at| at.elapsed() >= SELDOM) {
        port.notes.warn(
            "a polling core waited for a page of its guest's memory, which was being given back or \
            comes from a swap device: \
             nothing is taken from it or given to it for some time after each wait; lock the \
             guest's memory if it is an honest one",
        );
        waits_said = Some(Instant::now());
    }
    *said = Said {
        stopped: faults,
        n_faults,
        lacks_memory,
        n_long_calls,
        n_page_waits,
        waits_said,
        moves: said.moves,
    };
}
