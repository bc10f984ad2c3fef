//! Lines on their way to standard error, which may be a full disk, a pipe that is not read, or
//! closed. A thread of its own writes them, so that no other thread waits for that; what there is
//! no room for is dropped, and its number is logged once lines can be written again.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written at most.
const LINES_MAX: usize = 8192;
/// Bytes of a line at most; the rest is cut off.
const LINE_MAX: usize = 8192;
/// How often the end looks whether all is written.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

thread_local! {
    /// In place of the queue, while this thread formats a line that it will write itself.
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The queue; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    n_queued: AtomicU64,
    /// Of those queued: written, or lost when they were.
    n_done: AtomicU64,
    /// Lost, and not logged yet.
    n_lost: AtomicU64,
}

impl Queue {
    /// A queue, and the thread that writes its lines to standard error.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start() -> io::Result<Self> {
        Self::to(Stderr, lost_line)
    }

    fn to(mut out: impl Write + Send + 'static, lost_line: fn(u64) -> Vec<u8>) -> io::Result<Self> {
        let (lines, inbox) = sync_channel(LINES_MAX);
        let counts = Arc::new(Counts::default());
        let counted = counts.clone();
        let work = move || write_all(&inbox, &mut out, &counted, lost_line);
        Builder::new().name("log".to_owned()).spawn(work)?;
        Ok(Self { lines, counts })
    }

    /// Queues a line, or counts it as lost.
    fn put(&self, line: &[u8]) {
        let line = match line.get(..LINE_MAX) {
            Some(start) => [start, b"...\n"].concat(),
            None => line.to_vec(),
        };
        // Counted before it can be done.
        self.counts.n_queued.fetch_add(1, Ordering::SeqCst);
        if self.lines.try_send(line).is_err() {
            self.counts.n_lost.fetch_add(1, Ordering::SeqCst);
            self.counts.n_done.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until all lines of before are written, for `time` at most.
    pub(super) fn flush(&self, time: Duration) {
        let (begun, n) = (Instant::now(), self.counts.n_queued.load(Ordering::SeqCst));
        while self.counts.n_done.load(Ordering::SeqCst) < n && begun.elapsed() < time {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Writes lines until nobody can send any.
fn write_all(
    lines: &Receiver<Vec<u8>>,
    out: &mut impl Write,
    counts: &Counts,
    lost_line: fn(u64) -> Vec<u8>,
) {
    let mut is_inside = false;
    for line in lines {
        if write_line(out, &line, &mut is_inside).is_err() {
            counts.n_lost.fetch_add(1, Ordering::SeqCst);
        } else {
            let n_lost = counts.n_lost.swap(0, Ordering::SeqCst);
            if n_lost > 0 && write_line(out, &lost_line(n_lost), &mut is_inside).is_err() {
                counts.n_lost.fetch_add(n_lost, Ordering::SeqCst);
            }
        }
        counts.n_done.fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes a line; after one that was written in part on a line of its own. `is_inside`: whether
/// that was so.
fn write_line(out: &mut impl Write, line: &[u8], is_inside: &mut bool) -> io::Result<()> {
    if *is_inside {
        out.write_all(b"\n")?;
        *is_inside = false;
    }
    let mut rest = line;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                rest = &rest[n..];
                *is_inside = !rest.is_empty();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The line that says how many were lost, formatted like all others; empty if it isn't wanted.
fn lost_line(n_lost: u64) -> Vec<u8> {
    CAPTURED.set(Some(Vec::new()));
    warn!(
        lines = n_lost,
        "{n_lost} lines of the log were not written, since standard error didn't take them"
    );
    CAPTURED.take().unwrap_or_default()
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one line, by one call.
pub(super) struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow_mut(|captured| match captured {
            Some(captured) => captured.extend_from_slice(line),
            None => self.0.put(line),
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error without the lock of [`io::stderr`], which whoever ends the process may want while
/// a write doesn't return.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = io::stderr();
        loop {
            match rustix::io::write(&file, bytes) {
                // Whoever started this process made it so.
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&file, PollFlags::OUT)], None)?;
                }
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
