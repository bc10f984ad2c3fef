//! The running program, as operators see it.

use std::time::{Instant, SystemTime};

use crate::api::version::VersionReport;

/// Version of the API: the `1` of `/v1/`.
const API: u32 = 1;

/// When the daemon started, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    at: SystemTime,
    since: Instant,
}

impl Started {
    /// Now.
    pub(crate) fn now() -> Self {
        Self {
            at: SystemTime::now(),
            since: Instant::now(),
        }
    }

    /// By the host's clock, in seconds since 1970.
    pub(super) fn unix_seconds(self) -> f64 {
        let since = self.at.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs_f64()
    }
}

/// Version and process of the daemon.
pub(crate) fn version(started: Started) -> VersionReport {
    VersionReport {
        program: "weir".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: API,
        pid: std::process::id(),
        started_at: humantime::format_rfc3339_seconds(started.at).to_string(),
        uptime_seconds: started.since.elapsed().as_secs(),
    }
}
