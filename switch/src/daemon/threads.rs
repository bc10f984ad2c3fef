//! Control threads: started, and joined when the daemon stops.

use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tracing::warn;

/// How long the stop waits for the next control thread to end.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// Stack of a control thread: there are many, and their calls are shallow.
const CONTROL_STACK: usize = 1 << 20;

/// Starts a control thread.
pub(super) fn spawn(
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, String> {
    let thread = Builder::new()
        .name(name)
        .stack_size(CONTROL_STACK)
        .spawn(work);
    thread.map_err(|e| format!("cannot start a control thread: {e}"))
}

/// Joins threads until none has ended for a while, and logs the names of the rest. These end with
/// the process: closing a file that a front-end sent may block them for ever.
pub(super) fn join(mut threads: Vec<JoinHandle<()>>) {
    let (begun, mut ended_at, mut n) = (Instant::now(), Instant::now(), threads.len());
    loop {
        // A panic was logged already.
        threads.retain(|thread| !thread.is_finished());
        if threads.is_empty() {
            return;
        }
        if threads.len() < n {
            (n, ended_at) = (threads.len(), Instant::now());
        }
        if ended_at.elapsed() > ENDS_WITHIN || begun.elapsed() > 5 * ENDS_WITHIN {
            let names: Vec<_> = threads
                .iter()
                .filter_map(|thread| thread.thread().name())
                .collect();
            return warn!(
                "stopping without waiting for these threads any longer: {}",
                names.join(", ")
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
