//! A port's control thread: one front-end after another, in either role, until the daemon ends.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use pmd::sys::peer_process;

use super::backoff::{Backoff, Session};
use super::closing::Closing;
use super::connection::{Served, serve};
use super::cores::DataPlane;
use super::end::End;
use super::header::Stage;
use super::port::{LastEnd, Port};
use crate::base::socket::{Listening, is_hung_up, open_stream};
use crate::base::stop::Stop;

/// First and longest time between attempts to connect. An attempt on a path without a listener is
/// one cheap system call, and a guest that starts shouldn't wait.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// Closed connections accepted in a row, before the others wait for the next call.
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
                Ok(Accepted::Open(stream)) => {
                    let mut next = Some(stream);
                    while let Some(stream) = next.filter(|_| self.may_go_on()) {
                        // A successor that is gone as well causes no pause of its own.
                        next = self.serve_one(stream);
                        if let Some(gone) = next.take_if(|next| is_hung_up(next)) {
                            self.port.refusing.connection(gone);
                        }
                    }
                }
                Ok(Accepted::Closed) => self.pause(
                    &CLOSED_EARLY,
                    &Stage::default().left_after(self.port.socket.n_pairs),
                ),
                Ok(Accepted::Nothing) => {}
                Err(e) => {
                    // As a rule no file descriptor is left; others may be closed soon.
                    self.port
                        .log
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
                    self.serve_one(stream);
                    delay = RETRY.0;
                }
                Err(e) => self
                    .port
                    .link
                    .set_waits_for(Some(why_not_connected(self.port, &e))),
            }
            self.stop.sleep(delay);
            delay = (delay * 2).min(RETRY.1);
        }
    }

    /// Waits until files of earlier front-ends are closed. False: the stop is requested.
    fn may_go_on(&self) -> bool {
        self.port.closing.wait(self.stop) && !self.stop.is_requested()
    }

    /// Serves one front-end, and pauses if it left early. Returns its successor, if there is one.
    fn serve_one(&mut self, stream: UnixStream) -> Option<UnixStream> {
        let log = &self.port.log;
        // The `vhost` crate needs a blocking socket. Accepted ones don't inherit O_NONBLOCK, but it
        // doesn't hurt.
        if let Err(e) = stream.set_nonblocking(false) {
            log.warn(format_args!("cannot use a connection: {e}"));
            self.port.closing.connection(stream);
            return None;
        }
        if !self.backoff.is_pausing() {
            let process = peer_process(stream.as_fd()).map_or_else(
                || "a process that can't be seen from here".to_owned(),
                |process| format!("process {process}"),
            );
            log.info(format_args!("a front-end connected ({process})"));
        }
        let listener = self.listening.map(Listening::listener);
        let Served {
            end,
            session,
            successor,
        } = serve(stream, self.plane.clone(), self.port, self.stop, listener);
        let left = match &end {
            End::Gone | End::Stopping => String::new(),
            End::Left(how) => how.clone(),
            End::Closed(why) => format!("was disconnected: {why}"),
        };
        match &end {
            End::Gone => log.info("the front-end disconnected"),
            End::Closed(why) if !session.is_early() => {
                log.warn(format_args!("connection closed: {why}"))
            }
            End::Left(how) if !session.is_early() => log.info(format_args!("the front-end {how}")),
            End::Stopping | End::Closed(_) | End::Left(_) => {}
        }
        self.port.link.set_last_end(match end {
            End::Closed(why) => Some(LastEnd::Closed(why)),
            End::Left(how) => Some(LastEnd::Left(how)),
            End::Gone | End::Stopping => None,
        });
        self.pause(&session, &left);
        successor
    }

    /// Pauses if this front-end left early, and logs how it `left`, at a limited rate.
    fn pause(&mut self, session: &Session, left: &str) {
        let pause = self.backoff.next(session);
        if pause.is_zero() || self.stop.is_requested() {
            return;
        }
        if let Some(line) = self.backoff.line(left, Instant::now()) {
            self.port.log.warn(format_args!("the front-end {line}"));
        }
        self.stop.sleep(pause);
    }
}

/// For connections that were closed before they were accepted.
const CLOSED_EARLY: Session = Session {
    time: Duration::ZERO,
    is_complete: false,
};

/// What a listener has.
enum Accepted {
    /// An open connection.
    Open(UnixStream),
    /// Connections that were closed already.
    Closed,
    /// No connection.
    Nothing,
}

/// Accepts the first connection that is still open. Closed ones are dropped, unless too many of
/// their files are closing.
fn accept(listener: &UnixListener, closing: &Closing) -> io::Result<Accepted> {
    let mut accepted = Accepted::Nothing;
    for _ in 0..CLOSED_MAX {
        if closing.is_full() {
            break;
        }
        match listener.accept() {
            Ok((stream, _)) if is_hung_up(&stream) => {
                closing.connection(stream);
                accepted = Accepted::Closed;
            }
            Ok((stream, _)) => return Ok(Accepted::Open(stream)),
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
    Ok(accepted)
}

fn why_not_connected(port: &Port, error: &io::Error) -> String {
    let path = port.socket.path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no socket {path} yet"),
        io::ErrorKind::ConnectionRefused => format!("nobody listens on {path}"),
        io::ErrorKind::PermissionDenied => format!("this user may not connect to {path}"),
        _ => format!("cannot connect to {path}: {error}"),
    }
}
