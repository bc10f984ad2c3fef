//! A port's control thread: one front-end after another, in either role, until the daemon ends.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;

use super::connection::{End, serve};
use super::socket::{Listening, open_stream};
use crate::plane::Plane;
use crate::port::Port;
use crate::stop::Stop;

/// Between attempts to connect: at first, and at most while nobody is there. An attempt on a path without a listener is
/// one cheap system call, and a guest that starts shouldn't wait.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// At most, when front-ends come and go at once.
const RETRY_FAILED_MAX: Duration = Duration::from_secs(1);
/// A connection that lived for so long was one: after it, the next attempt is made at once.
const LIVED: Duration = Duration::from_secs(1);

/// Serves the port's front-ends, one at a time. `listening`: where they connect; none: this side connects.
pub(crate) fn attend<P: Plane + Clone>(port: &Port, plane: &P, listening: Option<&Listening>, stop: &Stop) {
    match listening {
        Some(listening) => attend_listening(port, plane, listening, stop),
        None => attend_connecting(port, plane, stop),
    }
}

fn attend_listening<P: Plane + Clone>(port: &Port, plane: &P, listening: &Listening, stop: &Stop) {
    let listener = listening.listener();
    while !stop.is_requested() {
        stop.wait([listener.as_fd()], None);
        match listener.accept() {
            Ok((stream, _)) => {
                let mut next = Some(stream);
                while let Some(stream) = next {
                    next = converse(port, plane, stream, Some(listening), stop);
                }
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => {
                // No file descriptors left, as a rule: it gets better when somebody else closes some.
                port.notes.warn(format_args!("cannot accept a connection: {e}"));
                stop.sleep(Duration::from_millis(100));
            }
        }
    }
}

fn attend_connecting<P: Plane + Clone>(port: &Port, plane: &P, stop: &Stop) {
    let mut delay = RETRY.0;
    while !stop.is_requested() {
        let begin = Instant::now();
        let delay_max = match open_stream(&port.path) {
            Ok(stream) => {
                port.link.set_waits_for(None);
                converse(port, plane, stream, None, stop);
                RETRY_FAILED_MAX
            }
            Err(e) => {
                port.link.set_waits_for(Some(nobody_there(port, &e)));
                RETRY.1
            }
        };
        if begin.elapsed() >= LIVED {
            delay = RETRY.0;
        }
        stop.sleep(delay);
        delay = (delay * 2).min(delay_max);
    }
}

fn nobody_there(port: &Port, error: &io::Error) -> String {
    let path = port.path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no socket {path} yet"),
        io::ErrorKind::ConnectionRefused => format!("nobody listens on {path}"),
        io::ErrorKind::PermissionDenied => format!("this user may not connect to {path}"),
        _ => format!("cannot connect to {path}: {error}"),
    }
}

/// One front-end from beginning to end; the one that came after it, if it came already.
fn converse<P: Plane + Clone>(
    port: &Port,
    plane: &P,
    stream: UnixStream,
    listening: Option<&Listening>,
    stop: &Stop,
) -> Option<UnixStream> {
    // Accepted from a listener that doesn't block, but not blocking isn't inherited; said anyway, the crate needs it.
    if let Err(e) = stream.set_nonblocking(false) {
        port.notes.warn(format_args!("cannot use a connection: {e}"));
        return None;
    }
    let process = socket_peercred(&stream).map(|peer| format!(" (process {})", peer.pid.as_raw_nonzero()));
    port.notes.info(format_args!("a front-end connected{}", process.unwrap_or_default()));
    let (end, next) = serve(stream, plane.clone(), port, stop, listening.map(Listening::listener));
    match &end {
        End::Gone => port.notes.info("the front-end disconnected"),
        End::Closed(why) => port.notes.warn(format_args!("connection closed: {why}")),
        End::Stopping => {}
    }
    port.link.set_last_end(if let End::Closed(why) = end { Some(why) } else { None });
    next
}
