//! Serves the API on the control socket: one thread, a bounded number of connections, each for a
//! bounded time. A client that is silent, slow or gone takes nothing from the others but its place,
//! and loses that to the next one if all places are taken.

use std::os::unix::net::UnixListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use hashbrown::HashMap;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::task::{AbortHandle, Id, JoinHandle, JoinSet, LocalSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::admit::complete;
use super::answer::Refused;
use super::changes::Changes;
use super::connection::{Phase, Watch, converse, refuse};
use super::openapi::description;
use super::routes::reads;
use super::sources::Sources;
use super::writes::writes;
use crate::api::problem::Code;
use crate::base::beat::Beat;
use crate::base::stop::Stop;

/// Connections at a time.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// Threads for what may block, beside the one that serves and one that waits for the stop request.
const BLOCKING_MAX: usize = 4;
/// How often the thread that serves says that it goes on.
const BEATS_EVERY: Duration = Duration::from_millis(250);
/// How long the stop waits for what blocks.
const STOPS_WITHIN: Duration = Duration::from_secs(1);

/// Answers to everything that can be read or changed.
pub(crate) fn router(sources: Arc<Sources>, changes: Arc<dyn Changes>) -> Router {
    let reads = reads().merge(description()).with_state(sources);
    complete(reads.merge(writes().with_state(changes)))
}

/// A server that is ready to run.
#[derive(Debug)]
pub(crate) struct Server {
    runtime: Runtime,
    router: Router,
    stop: Stop,
}

impl Server {
    /// Prepares all that can fail.
    ///
    /// # Errors
    /// A sentence: the process has no more files or memory.
    pub(crate) fn new(router: Router, stop: &Stop) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING_MAX + 1)
            .thread_name("control-work")
            .build();
        Ok(Self {
            runtime: runtime.map_err(|e| format!("control: cannot wait for files: {e}"))?,
            router,
            stop: stop.clone(),
        })
    }

    /// Serves in the calling thread until the stop request, which ends all connections at once.
    /// `beat` says that the thread goes on.
    pub(crate) fn run(self, listener: &StdListener, beat: &Beat) {
        let Self {
            runtime,
            router,
            stop,
        } = self;
        let serving = LocalSet::new();
        let served = serving.block_on(&runtime, async {
            let listener = UnixListener::from_std(listener.try_clone()?)?;
            let stopping = spawn_blocking(move || {
                while !stop.is_requested() {
                    let [] = stop.wait([], None);
                }
            });
            serve(&listener, &router, stopping, beat).await;
            std::io::Result::Ok(())
        });
        if let Err(e) = served {
            warn!("cannot serve the control socket: {e}");
        }
        drop(serving);
        runtime.shutdown_timeout(STOPS_WITHIN);
    }
}

async fn serve(
    listener: &UnixListener,
    router: &Router,
    mut stopping: JoinHandle<()>,
    beat: &Beat,
) {
    let (mut places, mut beats) = (Places::default(), interval(BEATS_EVERY));
    // Those missed tell nothing.
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = &mut stopping => return,
            _ = beats.tick() => beat.beat(),
            Some(ended) = places.tasks.join_next_with_id() => places.ended(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => places.take(stream, router),
                Err(e) => {
                    warn!("cannot accept on the control socket: {e}");
                    tokio::select! {
                        _ = &mut stopping => return,
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    }
                }
            }
        }
    }
}

/// The connections.
#[derive(Default)]
struct Places {
    tasks: JoinSet<()>,
    taken: HashMap<Id, (Rc<Watch>, AbortHandle)>,
}

impl Places {
    /// Serves one more. If all places are taken, it gets the one whose client has left the server
    /// waiting for longest.
    fn take(&mut self, stream: UnixStream, router: &Router) {
        if self.taken.len() >= CONNECTIONS_MAX && !self.give_up_one() {
            let why = format!("{CONNECTIONS_MAX} requests are being carried out: try again");
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
