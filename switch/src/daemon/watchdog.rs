//! Tells the service manager that the daemon is well, as long as it is: each polling core turns, or
//! answers a wake-up by turning, and the control threads that must not hang go on. Otherwise says
//! who stands still, and leaves it to the manager to restart the daemon.

use std::time::{Duration, Instant};

use tracing::{error, info};

use super::notify::{Inbox, Manager, Message};
use crate::base::beat::Beat;
use crate::control::sources::Sources;

/// Longest time between two looks.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// Looks within the time in which the manager wants to hear that all is well.
const LOOKS_WITHIN: u32 = 4;
/// Shortest time between two looks.
const LOOKS_APART: Duration = Duration::from_millis(10);
/// Who has not moved for this long stands still. No core or thread that is watched takes so long
/// over anything.
const STILL_AFTER: Duration = Duration::from_secs(2);
/// Time between two log lines about one that stands still.
const LOGS_EVERY: Duration = Duration::from_secs(60);

/// The control threads that are watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Beats {
    pub(super) supervisor: Beat,
    /// The one that answers operators.
    pub(super) server: Beat,
}

/// One that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// A polling core, by its number, on its CPU.
    Core {
        core: usize,
        cpu: usize,
    },
    Supervisor,
    Server,
}

/// How far one has come: another number at each look, unless it sleeps or stands still.
#[derive(Clone, Copy, Debug)]
struct Progress {
    who: Who,
    n: u64,
}

/// Looks until the daemon stops, and tells the manager.
pub(super) fn run(sources: &Sources, beats: &Beats, inbox: &Inbox) {
    let within = Manager::wants_to_hear_within();
    let every = within.map_or(LOOKS_EVERY, |time| {
        (time / LOOKS_WITHIN).clamp(LOOKS_APART, LOOKS_EVERY)
    });
    let (mut manager, mut watch) = (Manager::default(), Watch::default());
    let (begun, mut look_at) = (Instant::now(), Instant::now() + every);
    let mut ports = String::from("starting");
    loop {
        match inbox.next(look_at) {
            Ok(Some(Message::Ready)) => manager.ready(),
            Ok(Some(Message::Reloading(usec))) => manager.reloading(usec),
            Ok(Some(Message::Stopping)) => return manager.stopping(),
            Ok(Some(Message::Ports { n_up, n })) => ports = format!("{n_up} of {n} ports up"),
            Err(()) => return,
            Ok(None) => {
                look_at = Instant::now() + every;
                let found = watch.look(begun.elapsed(), &progress(sources, beats));
                found
                    .to_wake
                    .iter()
                    .for_each(|&core| sources.cores.wake(core));
                found.lines.iter().for_each(|line| line.log(within));
                if within.is_some() && found.still.is_none() {
                    manager.all_is_well();
                }
                let still = found.still.map(|still| still.to_string() + "; ");
                manager.status(still.unwrap_or_default() + &ports);
            }
        }
    }
}

/// All that are watched, cores first.
fn progress(sources: &Sources, beats: &Beats) -> Vec<Progress> {
    let present = sources.present();
    let counters = sources.cores.core_counters();
    let cores = present.cores.now().iter().map(|polled| Progress {
        who: Who::Core {
            core: polled.core,
            cpu: polled.cpu,
        },
        // Of the number, which others may have had: it goes on either way.
        n: counters.get(polled.core).map_or(0, |core| core.turns),
    });
    let threads = [
        (Who::Supervisor, &beats.supervisor),
        (Who::Server, &beats.server),
    ];
    let threads = threads.map(|(who, beat)| Progress { who, n: beat.n() });
    cores.chain(threads).collect()
}

/// What the looks of before found.
#[derive(Debug, Default)]
struct Watch(Vec<Seen>);

#[derive(Debug)]
struct Seen {
    who: Who,
    n: u64,
    /// When it had last moved.
    moved_at: Duration,
    /// It had not moved at the look of before, and was woken.
    is_woken: bool,
    logged_at: Option<Duration>,
}

/// What one look found.
#[derive(Debug, Default)]
struct Found {
    /// Numbers of cores that may be asleep.
    to_wake: Vec<usize>,
    /// The first that stands still.
    still: Option<Still>,
    lines: Vec<Line>,
}

/// One that stands still, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Still(Who, Duration);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Still(Still),
    /// It moves again, after that time.
    Moves(Who, Duration),
}

impl Watch {
    /// `now`: since any moment, as long as it is the same one.
    fn look(&mut self, now: Duration, progress: &[Progress]) -> Found {
        // Cores come and go.
        self.0
            .retain(|seen| progress.iter().any(|it| it.who == seen.who));
        let mut found = Found::default();
        for it in progress {
            let Some(seen) = self.0.iter_mut().find(|seen| seen.who == it.who) else {
                self.0.push(Seen::new(*it, now));
                continue;
            };
            if it.n != seen.n {
                found.lines.extend(seen.moves(it.n, now));
            } else if !seen.is_woken {
                seen.is_woken = true;
                found.to_wake.extend(it.who.core());
            } else if let Some(still) = seen.still(now) {
                found.still = found.still.or(Some(still));
                found.lines.extend(seen.line(still, now));
            }
        }
        found
    }
}

impl Seen {
    fn new(Progress { who, n }: Progress, now: Duration) -> Self {
        Self {
            who,
            n,
            moved_at: now,
            is_woken: false,
            logged_at: None,
        }
    }

    /// It has moved; a line, if one was logged about it.
    fn moves(&mut self, n: u64, now: Duration) -> Option<Line> {
        let time = now.saturating_sub(self.moved_at);
        let was_logged = self.logged_at.is_some();
        *self = Self::new(Progress { who: self.who, n }, now);
        was_logged.then_some(Line::Moves(self.who, time))
    }

    /// Whether it stands still, since it has not moved after it was woken.
    fn still(&self, now: Duration) -> Option<Still> {
        let time = now.saturating_sub(self.moved_at);
        (time >= STILL_AFTER).then_some(Still(self.who, time))
    }

    fn line(&mut self, still: Still, now: Duration) -> Option<Line> {
        let is_due = self
            .logged_at
            .is_none_or(|at| now.saturating_sub(at) >= LOGS_EVERY);
        is_due.then(|| self.logged_at = Some(now))?;
        Some(Line::Still(still))
    }
}

impl Who {
    /// The number of the core, if it is one.
    fn core(self) -> Option<usize> {
        match self {
            Self::Core { core, .. } => Some(core),
            Self::Supervisor | Self::Server => None,
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Core { cpu, .. } => write!(f, "the polling core on CPU {cpu}"),
            Self::Supervisor => f.write_str("the supervisor's thread"),
            Self::Server => f.write_str("the control socket's thread"),
        }
    }
}

impl std::fmt::Display for Still {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} has been stuck for {} s", self.0, self.1.as_secs())
    }
}

impl Line {
    /// `within`: the time in which the manager wants to hear that all is well, if it does.
    fn log(&self, within: Option<Duration>) {
        let (Self::Still(Still(who, time)) | Self::Moves(who, time)) = self;
        let cpu = match who {
            Who::Core { cpu, .. } => Some(cpu),
            Who::Supervisor | Who::Server => None,
        };
        let seconds = time.as_secs();
        match self {
            Self::Still(still) => {
                let then = within.map_or(String::new(), |within| {
                    format!(
                        ": the service manager is no longer told that weir is well, and ends it \
                        after {} s of that (WatchdogSec=)",
                        within.as_secs()
                    )
                });
                error!(cpu, seconds, "{still}{then}");
            }
            Self::Moves(..) => info!(cpu, seconds, "{who} goes on, after {seconds} s"),
        }
    }
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
