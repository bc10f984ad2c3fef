//! A polling thread: pinned, then polling until it is stopped.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};

use config::Idle;
use pmd::Core;
use pmd::time::Clock;
use tracing::warn;

use super::cpus::choose::pin;
use super::tsc;

/// Starts the thread; returns once it is pinned.
///
/// # Errors
/// A sentence, when the thread can't be started or pinned.
pub(crate) fn start(
    core: Core,
    cpu: core_affinity::CoreId,
    idle: Idle,
    clock: Clock,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, String> {
    let (pinned, is_pinned) = sync_channel(1);
    let work = move || {
        let result = pin(cpu);
        let can_run = result.is_ok();
        if can_run {
            tsc::compare(cpu.id, clock.ahead_here());
        }
        // The receiver waits for it.
        let _ = pinned.send(result);
        if can_run {
            if !pmd::sys::prepare_signals() {
                warn!(
                    "the kernel has no asynchronous requests left (fs.aio-max-nr): other threads \
                    notify the guests of CPU {}, which takes longer; raise it (sysctl \
                    fs.aio-max-nr=1048576) and restart",
                    cpu.id
                );
            }
            core.run(mode(idle), clock, &stop);
        }
    };
    let cannot = |why: &str| format!("cannot start the polling thread of CPU {}: {why}", cpu.id);
    let thread = Builder::new()
        .name(format!("poll-{}", cpu.id))
        .spawn(work)
        .map_err(|e| cannot(&e.to_string()))?;
    is_pinned.recv().map_err(|_| cannot("it ended"))??;
    Ok(thread)
}

fn mode(idle: Idle) -> pmd::idle::Idle {
    match idle {
        Idle::Adaptive => pmd::idle::Idle::Adaptive,
        Idle::Poll => pmd::idle::Idle::Poll,
    }
}
