//! A port's control thread: one front-end after another, in either role, until the daemon ends.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use pmd::sys::peer_process;

use super::backoff::{Backoff, Visit};
use super::closing::Closing;
use super::connection::{Served, serve};
use super::cores::DataPlane;
use super::end::End;
use super::header::Stage;
use super::port::{LastEnd, Port};
use crate::base::socket::{Listening, is_hung_up, open_stream};
use crate::base::stop::Stop;

/// Between attempts to connect: at first, and at most while nobody is there. An attempt on a path
/// without a listener is one cheap system call, and a guest that starts shouldn't wait.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// Connections that are taken from a listener in a row and found to be closed already; those behind
/// them wait for the next look.
const CLOSED_MAX: usize = 1024;

/// Serves the port's front-ends, one at a time. `listening`: where they connect; none: this side
/// connects.
pub(crate) fn run<P: DataPlane + Clone>(
    port: &Port,
    plane: &P,
    listening: Option<&Listening>,
    stop: &Stop,
) {
    let worker = Worker {
        port,
        plane,
        listening,
        stop,
        backoff: Backoff::default(),
    };
    match listening {
        Some(listening) => worker.listen(listening.listener()),
        None => worker.connect(),
    }
}

struct Worker<'a, P: DataPlane + Clone> {
    port: &'a Port,
    plane: &'a P,
    listening: Option<&'a Listening>,
    stop: &'a Stop,
    backoff: Backoff,
}

impl<P: DataPlane + Clone> Worker<'_, P> {
    fn listen(mut self, listener: &UnixListener) {
        while !self.stop.is_requested() {
            self.stop.wait([listener.as_fd()], None);
            if !self.port.closing.wait(self.stop) || !self.port.refusing.wait(self.stop) {
                return;
            }
            match accept(listener, &self.port.refusing) {
                Ok(Came::Somebody(stream)) => {
                    let mut next = Some(stream);
                    while let Some(stream) = next.filter(|_| self.may_go_on()) {
                        // One that has gone as well leaves no pause of its own, nor do those behind
                        // it that have.
                        next = self.converse(stream);
                        if let Some(gone) = next.take_if(|next| is_hung_up(next)) {
                            self.port.refusing.connection(gone);
                        }
                    }
                }
                Ok(Came::AndWent) => self.pause(
                    &CAME_AND_WENT,
                    &Stage::default().left_after(self.port.socket.n_pairs),
                ),
                Ok(Came::Nobody) => {}
                Err(e) => {
                    // No file descriptors left, as a rule: it gets better when somebody else closes
                    // some.
                    self.port
                        .notes
                        .warn(format_args!("cannot accept a connection: {e}"));
                    self.stop.sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn connect(mut self) {
        let mut delay = RETRY.0;
        while !self.stop.is_requested() {
            if !self.port.closing.wait(self.stop) {
                return;
            }
            match open_stream(&self.port.socket.path) {
                Ok(stream) => {
                    self.port.link.set_waits_for(None);
                    self.converse(stream);
                    delay = RETRY.0;
                }
                Err(e) => self
                    .port
                    .link
                    .set_waits_for(Some(nobody_there(self.port, &e))),
            }
            self.stop.sleep(delay);
            delay = (delay * 2).min(RETRY.1);
        }
    }

    /// Waits for what those before have left to be closed. False: the end is requested.
    fn may_go_on(&self) -> bool {
        self.port.closing.wait(self.stop) && !self.stop.is_requested()
    }

    /// One front-end from beginning to end, and the pause that it leaves behind; who came after it,
    /// if somebody did.
    fn converse(&mut self, stream: UnixStream) -> Option<UnixStream> {
        let notes = &self.port.notes;
        // Accepted from a listener that doesn't block, but not blocking isn't inherited; said
        // anyway, the crate needs it.
        if let Err(e) = stream.set_nonblocking(false) {
            notes.warn(format_args!("cannot use a connection: {e}"));
            self.port.closing.connection(stream);
            return None;
        }
        if !self.backoff.is_pausing() {
            let process = peer_process(stream.as_fd()).map_or_else(
                || "a process that can't be seen from here".to_owned(),
                |process| format!("process {process}"),
            );
            notes.info(format_args!("a front-end connected ({process})"));
        }
        let listener = self.listening.map(Listening::listener);
        let Served {
            end,
            visit,
            successor,
        } = serve(stream, self.plane.clone(), self.port, self.stop, listener);
        let left = match &end {
            End::Gone | End::Stopping => String::new(),
            End::Left(how) => how.clone(),
            End::Closed(why) => format!("was sent away: {why}"),
        };
        match &end {
            End::Gone => notes.info("the front-end disconnected"),
            End::Closed(why) if !visit.is_early() => {
                notes.warn(format_args!("connection closed: {why}"))
            }
            End::Left(how) if !visit.is_early() => notes.info(format_args!("the front-end {how}")),
            End::Stopping | End::Closed(_) | End::Left(_) => {}
        }
        self.port.link.set_last_end(match end {
            End::Closed(why) => Some(LastEnd::Closed(why)),
            End::Left(how) => Some(LastEnd::Left(how)),
            End::Gone | End::Stopping => None,
        });
        self.pause(&visit, &left);
        successor
    }

    /// The next front-end waits if this one came to nothing; how it `left` is said, though not
    /// every time.
    fn pause(&mut self, visit: &Visit, left: &str) {
        let pause = self.backoff.next(visit);
        if pause.is_zero() || self.stop.is_requested() {
            return;
        }
        if let Some(line) = self.backoff.line(left, Instant::now()) {
            self.port.notes.warn(format_args!("the front-end {line}"));
        }
        self.stop.sleep(pause);
    }
}

/// Of connections that were closed before anybody looked.
const CAME_AND_WENT: Visit = Visit {
    time: Duration::ZERO,
    is_complete: false,
};

/// Who is at a listener.
enum Came {
    Somebody(UnixStream),
    /// One or more, all of whom have left already.
    AndWent,
    Nobody,
}

/// The first connection that is not closed already: those that were given up meanwhile keep nobody
/// waiting, unless too much is being closed of what they left.
fn accept(listener: &UnixListener, closing: &Closing) -> io::Result<Came> {
    let mut came = Came::Nobody;
    for _ in 0..CLOSED_MAX {
        if closing.is_full() {
            break;
        }
        match listener.accept() {
            Ok((stream, _)) if is_hung_up(&stream) => {
                closing.connection(stream);
                came = Came::AndWent;
            }
            Ok((stream, _)) => return Ok(Came::Somebody(stream)),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                break;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(came)
}

fn nobody_there(port: &Port, error: &io::Error) -> String {
    let path = port.socket.path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no socket {path} yet"),
        io::ErrorKind::ConnectionRefused => format!("nobody listens on {path}"),
        io::ErrorKind::PermissionDenied => format!("this user may not connect to {path}"),
        _ => format!("cannot connect to {path}: {error}"),
    }
}
