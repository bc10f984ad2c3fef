//! Whether standard error leads to systemd's journal, and how a line says its level there.

use std::env;
use std::io;

use rustix::fs::fstat;
use tracing::Level;

/// Device and inode of the stream that systemd has given the service.
const STREAM: &str = "JOURNAL_STREAM";

/// Whether standard error is the stream that systemd has given this service. The variable alone
/// doesn't say so: children inherit it, whatever their standard error is.
///
/// Source: systemd.exec(5), `$JOURNAL_STREAM`.
pub(crate) fn takes_stderr() -> bool {
    let Ok(stream) = env::var(STREAM) else {
        return false;
    };
    fstat(io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

/// What a line begins with, so that the journal knows its level.
///
/// Source: sd-daemon(3).
pub(crate) fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}
