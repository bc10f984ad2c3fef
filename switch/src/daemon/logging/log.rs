//! The log: its filter, its end, and panics in it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::time::Duration;
use std::{env, panic};

use tracing::{error, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::format;
use super::queue::Queue;
use crate::base::journal;
use crate::base::log::LogFormat;

/// How long the end of the daemon waits for lines that are not written yet.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// The log, from now on; its end waits for lines that are not written yet, a second at most.
#[derive(Debug)]
pub(crate) struct Log(Option<Queue>);

impl Log {
    /// Logs to standard error what `RUST_LOG` asks for, by default from level `info` on.
    ///
    /// # Errors
    /// A sentence, when no thread can be started.
    pub(crate) fn start(format: LogFormat) -> Result<Self, String> {
        let queue = Queue::start().map_err(|e| format!("cannot start the log's thread: {e}"))?;
        let (filter, doubt) = filter();
        let layer = format::layer(format, journal::takes_stderr(), queue.clone());
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        // It fails if there is a subscriber already, which will do.
        if subscriber.try_init().is_err() {
            return Ok(Self(None));
        }
        log_panics(queue.clone());
        if let Some(doubt) = doubt {
            warn!("{doubt}");
        }
        Ok(Self(Some(queue)))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.flush(WRITTEN_WITHIN);
        }
    }
}

/// What `RUST_LOG` asks for; and what is wrong with it.
fn filter() -> (EnvFilter, Option<String>) {
    let plain = || EnvFilter::default().add_directive(LevelFilter::INFO.into());
    let Some(text) = env::var_os(EnvFilter::DEFAULT_ENV).filter(|text| !text.is_empty()) else {
        return (plain(), None);
    };
    let parsed = text
        .to_str()
        .ok_or_else(|| "it is no text".to_owned())
        .and_then(|text| EnvFilter::try_new(text).map_err(|e| e.to_string()));
    match parsed {
        Ok(filter) => (filter, None),
        Err(why) => {
            let doubt = format!(
                "RUST_LOG={text:?} is ignored, and logged is from level info on: {why}; write a \
                level, as RUST_LOG=debug"
            );
            (plain(), Some(doubt))
        }
    }
}

/// Panics go where all lines go: whoever panics must not be kept by a standard error that takes
/// nothing, but end the process.
fn log_panics(queue: Queue) {
    panic::set_hook(Box::new(move |panicked| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        let place = panicked.location().map(ToString::to_string);
        let what = panicked.payload_as_str().unwrap_or("no message");
        error!(
            thread = name,
            "thread {name} panicked at {}: {what}",
            place.unwrap_or_default()
        );
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            trace.to_string().lines().for_each(|line| error!("{line}"));
        }
        queue.flush(WRITTEN_WITHIN);
    }));
}
