//! Checks ports and addresses ten times a second, and acts on what the polling cores found.

use std::time::{Duration, Instant};

use flowtable::PortId;
use flowtable::mac::owner::Moves;
use hashbrown::HashMap;
use pmd::error::Grade;
use pmd::time::seconds;
use pmd::{Cores, GuestFault};

use super::notify::Notify;
use super::tsc::ClockWatch;
use crate::base::beat::Beat;
use crate::base::log::PortLog;
use crate::base::process::Process;
use crate::base::stop::Stop;
use crate::control::ports::n_up;
use crate::control::sources::{Present, Sources};
use crate::plan::ports::CurrentSpec;
use crate::vhost_user::health;
use crate::vhost_user::port::Port;

const EVERY: Duration = Duration::from_millis(100);
/// Interval for what changes slowly.
const SLOWLY: Duration = Duration::from_secs(1);
/// Least time between log lines about a lasting condition.
const SELDOM: Duration = Duration::from_secs(600);
/// Seconds without a frame after which a learned address is removed.
const MAC_AGE: u32 = 300;
/// A message that takes longer blocks its port's thread.
const MESSAGE_WITHIN: Duration = Duration::from_secs(5);

/// Runs until the stop request; `beat` says that it goes on. `tidy` puts right what changes of the
/// topology have left; it waits for nobody.
pub(crate) fn run(
    sources: &Sources,
    (beat, notify): (&Beat, &Notify),
    tidy: impl Fn(),
    stop: &Stop,
) {
    let Sources {
        cores,
        pins,
        rates,
        loads,
        queue_loads,
        clock,
        ..
    } = sources;
    let mut sampled: Option<Instant> = None;
    let mut logged = HashMap::new();
    let mut watch = ClockWatch::default();
    while !stop.sleep(EVERY) {
        beat.beat();
        let is_due = sampled.is_none_or(|at| at.elapsed() >= SLOWLY);
        let present = sources.present();
        for port in &present.ports {
            close_on_fault(cores, port);
        }
        pins.update(peers(sources));
        tidy();
        if is_due {
            report_all(cores, &present, &mut logged);
            sampled = Some(Instant::now());
            watch.see(clock.check());
            // The cores write the same clock's seconds into the table.
            cores.age(seconds(clock.now()), MAC_AGE);
            rates.sample(cores, present.names.ports.len());
            present.vms.sample(clock.now());
            loads.sample(cores, &present.cores, clock);
            queue_loads.sample(cores, clock);
            let (n_up, n) = n_up(sources, &present);
            notify.ports(n_up, n);
        }
    }
    pins.update(peers(sources));
}

/// Logs what is new about each port. `logged`: what was logged of each, by name.
fn report_all(cores: &Cores, present: &Present, logged: &mut HashMap<String, Logged>) {
    let mut before = std::mem::take(logged);
    let mut report = |spec: &CurrentSpec, report: &dyn Fn(&mut Logged)| {
        let name = spec.get().name.clone();
        let mut logged_of_it = before.remove(&name).unwrap_or_default();
        report(&mut logged_of_it);
        logged.insert(name, logged_of_it);
    };
    for port in &present.ports {
        report(&port.spec, &|logged| {
            report_faults(cores, port, logged);
            report_moves(cores, port.id(), &port.log, &mut logged.moves);
        });
    }
    for port in &present.devices {
        report(&port.spec, &|logged| {
            report_moves(cores, port.id(), &port.log, &mut logged.moves);
        });
    }
}

/// Who is connected to each port, taken when it is asked for: an id may have another owner by then.
/// Specifications are not looked at, since whoever holds one may wait for the pins.
fn peers(sources: &Sources) -> impl Iterator<Item = (PortId, Option<Option<Process>>)> {
    let peers = || {
        let present = sources.present();
        let ports = present.ports.iter();
        ports
            .map(|port| (port.id(), port.link.peer()))
            .collect::<Vec<_>>()
    };
    std::iter::once_with(peers).flatten()
}

fn close_on_fault(cores: &Cores, port: &Port) {
    if let Some(fault) = closing_fault(cores, port) {
        port.link.close(fault.sentence());
    }
    if port.link.is_damaged() {
        port.link.close(GuestFault::MemoryGone.sentence());
    }
    if port.link.busy_for() > MESSAGE_WITHIN {
        port.link.close(format!(
            "a message could not be handled in {} s",
            MESSAGE_WITHIN.as_secs()
        ));
    }
}

fn closing_fault(cores: &Cores, port: &Port) -> Option<GuestFault> {
    // The cheap test first: nearly always there is none.
    if cores.stopped(port.id()).is_empty() {
        return None;
    }
    // The view before the faults, so that no fault is older than the queues that the view shows
    // running.
    let link = port.link.view();
    let faults = health::faults(cores, port, &link);
    faults
        .into_iter()
        .map(|(_, fault)| fault)
        .find(|fault| fault.grade() == Grade::CloseConnection)
}

/// What was last logged about a port, so that a lasting fault is logged once.
#[derive(Clone, Debug, Default)]
struct Logged {
    stopped: Vec<(u16, GuestFault)>,
    n_faults: u64,
    lacks_memory: Option<String>,
    n_long_calls: u64,
    n_page_waits: u64,
    /// When page waits were last logged.
    waits_logged: Option<Instant>,
    moves: Moves,
}

/// Logs addresses that moved to the uplink or from it.
fn report_moves(cores: &Cores, port: PortId, log: &PortLog, logged: &mut Moves) {
    let moves = cores.macs().moves(port);
    let Moves {
        n_lost,
        n_won,
        n_away,
    } = moves;
    if n_lost != logged.n_lost {
        let n = n_lost.wrapping_sub(logged.n_lost);
        log.warn(format_args!(
            "lost {n} addresses to the uplink: frames from them arrived there while this port sent \
            none"
        ));
    }
    if n_won != logged.n_won {
        let n = n_won.wrapping_sub(logged.n_won);
        log.warn(format_args!(
            "took {n} addresses from the uplink: it sent from them while the wire was silent"
        ));
    }
    if n_away != logged.n_away {
        log.info(
            "its address is used behind the uplink while none of its receive rings is started",
        );
    }
    *logged = moves;
}

fn report_faults(cores: &Cores, port: &Port, logged: &mut Logged) {
    let link = port.link.view();
    let faults = health::faults(cores, port, &link);
    let mut new = faults
        .iter()
        .filter(|fault| !logged.stopped.contains(fault));
    let n_faults = cores.counters(port.id()).faults;
    if let Some((queue, fault)) = new.next() {
        let more = new.count();
        let more = if more > 0 {
            format!(" (and {more} more)")
        } else {
            String::new()
        };
        port.log
            .warn(format_args!("queue {queue} stopped: {fault}{more}"));
    } else if n_faults > logged.n_faults {
        let n = n_faults - logged.n_faults;
        port.log.warn(format_args!(
            "{n} descriptor chains of the guest broke VIRTIO's rules and were returned"
        ));
    }
    let lacks_memory = health::lacks_memory(&link);
    if let (Some(why), true) = (&lacks_memory, lacks_memory != logged.lacks_memory) {
        port.log.warn(why);
    }
    let (n_long_calls, is_indirect) = cores.long_calls(port.id());
    if n_long_calls != logged.n_long_calls && is_indirect {
        port.log.warn(
            "signalling an eventfd of its front-end takes too long for a polling core: another \
            thread does it for some time",
        );
    }
    let (n_page_waits, mut waits_logged) = (cores.page_waits(port.id()), logged.waits_logged);
    if n_page_waits != logged.n_page_waits && waits_logged.is_none_or(|at| at.elapsed() >= SELDOM) {
        port.log.warn(
            "a polling core waited for a page of its guest's memory, which was being given back or \
            is on a swap device: the port is paused for some time after each wait; lock the \
            guest's memory to avoid that",
        );
        waits_logged = Some(Instant::now());
    }
    *logged = Logged {
        stopped: faults,
        n_faults,
        lacks_memory,
        n_long_calls,
        n_page_waits,
        waits_logged,
        moves: logged.moves,
    };
}
