//! Control threads: started, and waited for when the daemon ends.

use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tracing::warn;

/// When the daemon ends, how long it waits for the next of its control threads.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// Stack of a control thread: they are many, and go nowhere deep.
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

/// Waits for threads until none of them has ended for a while, and says which have not. They end
/// with the process: some file that a front-end has given them may never let go of them.
pub(super) fn join(mut threads: Vec<JoinHandle<()>>) {
    let (begun, mut ended_at, mut n) = (Instant::now(), Instant::now(), threads.len());
    loop {
        // A thread that panicked has said so.
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
                "ending without threads that do not end: {}",
                names.join(", ")
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
