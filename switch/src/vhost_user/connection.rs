//! One front-end, from connection to disconnection.
//!
//! Reads and writes of the `vhost` crate may block for ever, and it retries after a time-out. So a
//! message is peeked at first, and handed to the crate only once it is complete and there is room
//! for an answer. If the crate blocks nevertheless (on a message with more files than it takes),
//! the supervisor shuts the socket down. Files that may take long to close never reach the crate,
//! or anything else on this thread: they are found by peeking, and their message is refused
//! (`closing`).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use vhost::vhost_user::{BackendReqHandler, Error, VhostUserBackendReqHandlerMut};

use super::backoff::Session;
use super::closing::closes_at_once;
use super::cores::DataPlane;
use super::end::End;
use super::handler::Handler;
use super::header::{HEADER_BYTES, Header, Stage};
use super::others::Others;
use super::peek::{Peeked, discard, peek};
use super::port::Port;
use super::refusal::Refusal;
use crate::base::lock::lock;
use crate::base::socket::is_hung_up;
use crate::base::stop::Stop;

/// Time for the rest of a message to arrive.
const REST_WITHIN: Duration = Duration::from_secs(2);
/// How long a front-end may leave its answers unread.
const READS_WITHIN: Duration = Duration::from_secs(1);

/// The result of serving a front-end.
#[derive(Debug)]
pub(crate) struct Served {
    /// How it ended.
    pub(crate) end: End,
    /// For the back-off.
    pub(crate) session: Session,
    /// A front-end that connected after it had gone, to be served next.
    pub(crate) successor: Option<UnixStream>,
}

/// Serves a front-end until it disconnects or is disconnected. `listener`: others that connect
/// meanwhile are refused; one that came after this one had gone is returned. On return the port is
/// down, its memory unmapped, and every file of the front-end closed.
pub(crate) fn serve<P: DataPlane>(
    stream: UnixStream,
    plane: P,
    port: &Port,
    stop: &Stop,
    listener: Option<&UnixListener>,
) -> Served {
    let begin = Instant::now();
    let session = |is_complete| Session {
        time: begin.elapsed(),
        is_complete,
    };
    let (Ok(peek), Ok(close)) = (stream.try_clone(), stream.try_clone()) else {
        port.closing.connection(stream);
        let end = End::Closed("this process has no file descriptors left".to_owned());
        return Served {
            end,
            session: session(false),
            successor: None,
        };
    };
    let handler = Arc::new(Mutex::new(Handler::new(plane, port.socket.n_pairs)));
    let requests = BackendReqHandler::from_stream(stream, handler.clone());
    port.link.connected(close);
    let mut connection = Connection {
        peek,
        handler,
        requests,
        port,
        stop,
        listener,
        successor: None,
        stage: Stage::default(),
        has_run: false,
        others: Others::default(),
    };
    let end = connection.run();
    let Connection {
        peek,
        handler,
        requests,
        has_run,
        stage,
        successor,
        ..
    } = connection;
    lock(&handler).device.close();
    port.changes
        .made(lock(&handler).device.take_changes(), Instant::now());
    let end = match (port.link.disconnected(), end) {
        (Some(why), End::Gone) => End::Closed(why),
        (None, End::Gone) if !has_run => End::Left(stage.left_after(port.socket.n_pairs)),
        (_, end) => end,
    };
    // The last handle closes what the front-end sent and was not received.
    drop(requests);
    port.closing.connection(peek);
    Served {
        end,
        session: session(has_run),
        successor,
    }
}

struct Connection<'a, P: DataPlane> {
    peek: UnixStream,
    handler: Arc<Mutex<Handler<P>>>,
    requests: BackendReqHandler<Mutex<Handler<P>>>,
    port: &'a Port,
    stop: &'a Stop,
    listener: Option<&'a UnixListener>,
    successor: Option<UnixStream>,
    /// How far the front-end has got.
    stage: Stage,
    /// Whether a queue has run.
    has_run: bool,
    others: Others,
}

impl<P: DataPlane> Connection<'_, P> {
    fn run(&mut self) -> End {
        loop {
            match self
                .next_message()
                .and_then(|(header, files)| self.handle(header, files))
            {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    /// Waits for a complete message.
    fn next_message(&mut self) -> Result<(Header, Vec<OwnedFd>), End> {
        let mut begun: Option<Instant> = None;
        loop {
            self.wait(begun.is_some());
            self.may_go_on()?;
            match peek(&self.peek)? {
                Peeked::Nothing => {}
                Peeked::Whole(header, files) => return Ok((header, files)),
                Peeked::Part if is_hung_up(&self.peek) => return Err(End::Gone),
                Peeked::Part if begun.get_or_insert_with(Instant::now).elapsed() < REST_WITHIN => {}
                Peeked::Part => {
                    return Err(End::Closed("only half a message arrived".to_owned()));
                }
            }
        }
    }

    /// Waits for a message, and refuses others. A part of a message would end the wait at once, so
    /// its rest is waited for by time.
    fn wait(&mut self, has_part: bool) {
        let moment = Some(Duration::from_millis(1));
        // Once there is a successor, this front-end is gone, and only its last messages are left.
        let listener = self.listener.filter(|_| self.successor.is_none());
        if let (Some(pause), false) = (
            self.pause_of_others().filter(|_| listener.is_some()),
            has_part,
        ) {
            self.stop.wait([self.peek.as_fd()], Some(pause));
            return;
        }
        let others = match (listener, has_part) {
            (None, true) => self.stop.wait([], moment).first().copied(),
            (None, false) => self.stop.wait([self.peek.as_fd()], None).get(1).copied(),
            (Some(listener), true) => self.stop.wait([listener.as_fd()], moment).first().copied(),
            (Some(listener), false) => self
                .stop
                .wait([self.peek.as_fd(), listener.as_fd()], None)
                .get(1)
                .copied(),
        };
        if others == Some(true) {
            self.refuse_others();
        }
    }

    /// How long to accept no other connection.
    fn pause_of_others(&mut self) -> Option<Duration> {
        let pause = self.others.pause(Instant::now());
        if self.port.refusing.is_full() {
            Some(Others::EVERY)
        } else {
            pause
        }
    }

    /// A port has one front-end: others are refused at once.
    fn refuse_others(&mut self) {
        let Some(listener) = self.listener else {
            return;
        };
        // The listener does not block, and `others` bounds the loop.
        while !self.port.refusing.is_full() && self.others.admit(Instant::now()) {
            let Ok((other, _)) = listener.accept() else {
                return self.others.refund();
            };
            // Checked after the other had connected: a front-end that is here now was here then.
            if is_hung_up(&self.peek) {
                self.successor = Some(other);
                return;
            }
            self.port.refusing.connection(other);
            self.port.link.count_refused();
            self.port
                .log
                .warn("another front-end was refused: the port has one already");
        }
    }

    fn handle(&mut self, header: Header, files: Vec<OwnedFd>) -> Result<(), End> {
        self.stage = header.stage().unwrap_or(self.stage);
        // First, since even closing a copy of such a file may take long and must not happen here.
        if !files.iter().all(closes_at_once) {
            return self.refuse_files(header, files);
        }
        // The message holds them, too, so this is no last close.
        drop(files);
        if !self.stop.wait_writable(self.peek.as_fd(), READS_WITHIN) {
            let does_not_read =
                || End::Closed("the front-end does not read its answers".to_owned());
            return Err(if self.stop.is_requested() {
                End::Stopping
            } else {
                does_not_read()
            });
        }
        self.pause()?;
        self.port.link.begin_message();
        let result = if header.is_vring_enable() {
            self.handle_vring_enable(header)
        } else {
            self.requests.handle_request()
        };
        let mut handler = lock(&self.handler);
        self.has_run |= handler.device.runs();
        self.port
            .changes
            .made(handler.device.take_changes(), Instant::now());
        self.port
            .link
            .end_message(handler.device.view(), handler.device.memory());
        // The queues run and the front-end has its answer.
        drop(handler.device.take_old_memory());
        for note in handler.device.take_notes() {
            self.port.log.info(note);
        }
        let Some(refusal) = handler.take_refusal() else {
            return result.map_err(|error| End::of(&error, header));
        };
        let text = format!("{} refused: {refusal}", header.name());
        self.port.link.set_refusal(refusal);
        if result.is_err() && !(header.can_be_refused() && handler.acknowledges()) {
            return Err(End::Closed(text));
        }
        self.port.log.warn(text);
        Ok(())
    }
}

impl<P: DataPlane> Connection<'_, P> {
    /// Whether there may be a next message.
    fn may_go_on(&self) -> Result<(), End> {
        if self.stop.is_requested() {
            return Err(End::Stopping);
        }
        // Its end is not the end of what the front-end had sent before.
        if self.port.link.is_closing() {
            return Err(End::Gone);
        }
        Ok(())
    }

    /// Pauses a front-end that changes its queues too often, or has too many files closing.
    fn pause(&self) -> Result<(), End> {
        while let Some(pause) = self.port.changes.pause(Instant::now()) {
            if self.stop.sleep(pause) {
                return Err(End::Stopping);
            }
        }
        if self.port.closing.wait(self.stop) {
            self.may_go_on()
        } else {
            Err(End::Stopping)
        }
    }

    /// Refuses a message with files that are neither eventfds nor memory: they are of no use, and
    /// may take long to close.
    fn refuse_files(&mut self, header: Header, files: Vec<OwnedFd>) -> Result<(), End> {
        let refusal = if header.carries_eventfd() {
            Refusal::new("the front-end sent a file as kick or call that is not an eventfd")
        } else {
            let text = "its file is not memory that can be shared; start the guest with \
                memory-backend-memfd,share=on";
            Refusal {
                text: text.to_owned(),
                is_memory: true,
            }
        };
        let text = format!("{} refused: {refusal}", header.name());
        self.port.link.set_refusal(refusal);
        let taken = discard(&self.peek, header);
        self.port.closing.files(files);
        self.pause()?;
        if !(taken && header.can_be_refused() && lock(&self.handler).acknowledges()) {
            return Err(End::Closed(text));
        }
        self.port.log.warn(text);
        self.acknowledge(header, false)
            .map_err(|error| End::of(&error, header))
    }

    fn acknowledge(&self, header: Header, is_done: bool) -> Result<(), Error> {
        let answer = header.acknowledgement(is_done);
        let n_sent = send(
            &self.peek,
            &answer,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        );
        if n_sent == Ok(answer.len()) {
            Ok(())
        } else {
            Err(Error::Disconnected)
        }
    }

    /// Handles SET_VRING_ENABLE without the `vhost` crate: that accepts it only after a
    /// SET_FEATURES that acknowledges the protocol features, and QEMU enables a device's first
    /// queues before its driver has chosen any.
    fn handle_vring_enable(&mut self, header: Header) -> Result<(), Error> {
        let mut bytes = [0; HEADER_BYTES + Header::VRING_STATE_BYTES];
        if header.total_bytes() != bytes.len() {
            return Err(Error::InvalidMessage);
        }
        // It is complete: see `next_message`. The kernel closes files that came with it; there
        // should be none.
        let n = recv(&self.peek, &mut bytes, RecvFlags::DONTWAIT).map_or(0, |(n, _)| n);
        if n < bytes.len() {
            return Err(Error::PartialMessage);
        }
        let result = match Header::vring_state(&bytes) {
            (index, 0) => lock(&self.handler).set_vring_enable(index, false),
            (index, 1) => lock(&self.handler).set_vring_enable(index, true),
            _ => Err(Error::InvalidParam),
        };
        if header.needs_reply() && lock(&self.handler).acknowledges() {
            self.acknowledge(header, result.is_ok())?;
        }
        result
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
