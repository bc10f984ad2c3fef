//! Serves clients: one thread, a bounded number of connections, each for a bounded time. A client
//! that is silent, slow or gone takes nothing from the others but its place, and loses that to the
//! next one if all places are taken.
//!
//! The control socket and metrics have a server each: whoever may open a TCP connection to this
//! host can keep the one busy, and only those whom the control socket's mode permits the other.

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use hashbrown::HashMap;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{AbortHandle, Id, JoinHandle, JoinSet, LocalSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::admit::complete;
use super::answer::Refused;
use super::changes::Changes;
use super::connection::{Phase, Watch, converse, refuse};
use super::door::{Client, Door, Doors};
use super::openapi::description;
use super::routes::reads;
use super::sources::Sources;
use super::writes::writes;
use crate::api::problem::Code;
use crate::base::beat::Beat;
use crate::base::stop::Stop;

/// Connections to the control socket at a time.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// Threads for what may block, beside the one that serves and one that waits for the stop request.
const BLOCKING_MAX: usize = 4;
/// How often the thread that serves says that it goes on.
const BEATS_EVERY: Duration = Duration::from_millis(250);
/// How long the stop waits for what blocks.
const STOPS_WITHIN: Duration = Duration::from_secs(1);
/// Time after which it is tried again to accept a client.
const TRIES_AGAIN: Duration = Duration::from_secs(1);

/// Answers to everything that can be read or changed.
pub(crate) fn router(sources: Arc<Sources>, changes: Arc<dyn Changes>) -> Router {
    let reads = reads().merge(description()).with_state(sources);
    let routes = reads.merge(writes().with_state(changes));
    complete(routes, "/v1/openapi.json lists all paths")
}

/// A server that is ready to run.
#[derive(Debug)]
pub(crate) struct Server<D> {
    name: &'static str,
    connections_max: usize,
    runtime: Runtime,
    doors: Doors<D>,
    nexts: UnboundedReceiver<Option<D>>,
    stop: Stop,
}

impl<D: Door> Server<D> {
    /// Prepares all that can fail. `name`: what it serves.
    ///
    /// # Errors
    /// A sentence: the process has no more files or memory.
    pub(crate) fn new(
        name: &'static str,
        connections_max: usize,
        stop: &Stop,
    ) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING_MAX + 1)
            .thread_name(format!("{name}-work"))
            .build()
            .map_err(|e| format!("{name}: cannot wait for files: {e}"))?;
        let (doors, nexts) = Doors::new(runtime.handle());
        Ok(Self {
            name,
            connections_max,
            runtime,
            doors,
            nexts,
            stop: stop.clone(),
        })
    }

    /// What gives it the door by which clients come in; none do before.
    pub(crate) fn doors(&self) -> Doors<D> {
        self.doors.clone()
    }

    /// Serves in the calling thread until the stop request, which ends all connections at once.
    /// `beat` says that the thread goes on.
    pub(crate) fn run(self, router: &Router, beat: Option<&Beat>) {
        let Self {
            name,
            connections_max,
            runtime,
            mut nexts,
            stop,
            ..
        } = self;
        let serving = LocalSet::new();
        serving.block_on(&runtime, async {
            let stopping = spawn_blocking(move || {
                while !stop.is_requested() {
                    let [] = stop.wait([], None);
                }
            });
            let places = Places::new(connections_max);
            serve((name, router), &mut nexts, places, stopping, beat).await;
        });
        drop(serving);
        runtime.shutdown_timeout(STOPS_WITHIN);
    }
}

async fn serve<D: Door>(
    (name, router): (&str, &Router),
    nexts: &mut UnboundedReceiver<Option<D>>,
    mut places: Places,
    mut stopping: JoinHandle<()>,
    beat: Option<&Beat>,
) {
    let mut door: Option<D> = None;
    let mut beats = interval(BEATS_EVERY);
    // Those missed tell nothing.
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = &mut stopping => return,
            () = beats_again(&mut beats, beat) => {}
            Some(ended) = places.tasks.join_next_with_id() => places.ended(ended),
            Some(next) = nexts.recv() => {
                let before = std::mem::replace(&mut door, next);
                // Its clients came in time.
                while let Some(client) = before.as_ref().and_then(Door::accept_now) {
                    places.take(client, router);
                }
            }
            accepted = accept(door.as_ref()) => match accepted {
                Ok(client) => places.take(client, router),
                Err(e) => {
                    warn!("{name}: cannot accept a client: {e}");
                    tokio::select! {
                        _ = &mut stopping => return,
                        () = tokio::time::sleep(TRIES_AGAIN) => {}
                    }
                }
            }
        }
    }
}

/// Nobody comes in where there is no door.
async fn accept<D: Door>(door: Option<&D>) -> std::io::Result<D::Client> {
    match door {
        Some(door) => door.accept().await,
        None => pending().await,
    }
}

/// A thread that nobody watches doesn't wake up to beat.
async fn beats_again(beats: &mut tokio::time::Interval, beat: Option<&Beat>) {
    match beat {
        Some(beat) => {
            beats.tick().await;
            beat.beat();
        }
        None => pending().await,
    }
}

/// The connections.
struct Places {
    max: usize,
    tasks: JoinSet<()>,
    taken: HashMap<Id, (Rc<Watch>, AbortHandle)>,
}

impl Places {
    fn new(max: usize) -> Self {
        Self {
            max,
            tasks: JoinSet::new(),
            taken: HashMap::new(),
        }
    }

    /// Serves one more. If all places are taken, it gets the one whose client has left the server
    /// waiting for longest.
    fn take(&mut self, stream: impl Client, router: &Router) {
        if self.taken.len() >= self.max && !self.give_up_one() {
            let why = format!("{} requests are being carried out: try again", self.max);
            let busy = Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, why);
            return refuse(&stream, &busy);
        }
        let watch = Rc::new(Watch::new());
        let task = self
            .tasks
            .spawn_local(converse(stream, router.clone(), watch.clone()));
        self.taken.insert(task.id(), (watch, task));
    }

    fn give_up_one(&mut self) -> bool {
        let waiting = self
            .taken
            .iter()
            .filter(|(_, (watch, _))| watch.phase() != Phase::Handling);
        let Some(id) = waiting
            .min_by_key(|(_, (watch, _))| watch.since())
            .map(|(id, _)| *id)
        else {
            return false;
        };
        if let Some((_, task)) = self.taken.remove(&id) {
            task.abort();
        }
        true
    }

    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(e) => e.id(),
        };
        self.taken.remove(&id);
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
