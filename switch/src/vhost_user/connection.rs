//! One front-end, from connection to disconnection.
//!
//! The `vhost` crate reads and writes in calls that may block for ever, and goes on trying where a
//! time-out would end it. So a message is looked at before it is taken (all of it must have come),
//! and taken only when there is room for an answer. What still blocks (a message with more files
//! than the crate takes) is ended by the supervisor, which shuts the socket down. Files that may
//! take long to close never get to the crate, or to anything else on this thread: they are seen
//! with the message that brings them, which is refused (`closing`).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use vhost::vhost_user::{BackendReqHandler, Error, VhostUserBackendReqHandlerMut};

use super::backoff::Visit;
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

/// How long the rest of a message may take to come.
const REST_WITHIN: Duration = Duration::from_secs(2);
/// How long a front-end may leave its answers unread.
const READS_WITHIN: Duration = Duration::from_secs(1);

/// What there is to know when a front-end is gone.
#[derive(Debug)]
pub(crate) struct Served {
    /// How it ended.
    pub(crate) end: End,
    /// What it came to.
    pub(crate) visit: Visit,
    /// Who connected after it had gone, to be served next.
    pub(crate) successor: Option<UnixStream>,
}

/// Serves a front-end until it goes or has to. `listener`: where others may try to connect
/// meanwhile; they are refused, and who came after this one had gone is given back. When this
/// returns, the port is down, its memory unmapped, and every file of the front-end closed.
pub(crate) fn serve<P: DataPlane>(
    stream: UnixStream,
    plane: P,
    port: &Port,
    stop: &Stop,
    listener: Option<&UnixListener>,
) -> Served {
    let begin = Instant::now();
    let visit = |is_complete| Visit {
        time: begin.elapsed(),
        is_complete,
    };
    let (Ok(peek), Ok(close)) = (stream.try_clone(), stream.try_clone()) else {
        port.closing.connection(stream);
        let end = End::Closed("this process has no file descriptors left".to_owned());
        return Served {
            end,
            visit: visit(false),
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
    // With the last handle goes what the front-end has sent and nobody has taken.
    drop(requests);
    port.closing.connection(peek);
    Served {
        end,
        visit: visit(has_run),
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
    /// What the front-end said last that tells what it wants.
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

    /// Waits until a message is there as a whole.
    fn next_message(&mut self) -> Result<(Header, Vec<OwnedFd>), End> {
        let mut begun: Option<Instant> = None;
        loop {
            self.wait(begun.is_some());
            if self.stop.is_requested() {
                return Err(End::Stopping);
            }
            match peek(&self.peek)? {
                Peeked::Nothing => {}
                Peeked::Whole(header, files) => return Ok((header, files)),
                Peeked::Part if is_hung_up(&self.peek) => return Err(End::Gone),
                Peeked::Part if begun.get_or_insert_with(Instant::now).elapsed() < REST_WITHIN => {}
                Peeked::Part => {
                    return Err(End::Closed("half a message came, and no more".to_owned()));
                }
            }
        }
    }

    /// Waits for something to do, and sends others away. A part of a message would end the wait at
    /// once, so that its rest is waited for by the clock.
    fn wait(&mut self, has_part: bool) {
        let moment = Some(Duration::from_millis(1));
        // Once there is a successor, this front-end is gone, and what it said last is all there is
        // to do.
        let listener = self.listener.filter(|_| self.successor.is_none());
        if let (Some(rest), false) = (
            self.rest_of_others().filter(|_| listener.is_some()),
            has_part,
        ) {
            self.stop.wait([self.peek.as_fd()], Some(rest));
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

    /// How long nobody else is looked at.
    fn rest_of_others(&mut self) -> Option<Duration> {
        let rest = self.others.rest(Instant::now());
        if self.port.refusing.is_full() {
            Some(Others::EVERY)
        } else {
            rest
        }
    }

    /// One port, one guest: who connects beside it is sent away at once.
    fn refuse_others(&mut self) {
        let Some(listener) = self.listener else {
            return;
        };
        // The listener does not block: this ends when nobody is left, and is bounded in case
        // somebody never ceases.
        while !self.port.refusing.is_full() && self.others.may_come(Instant::now()) {
            let Ok((other, _)) = listener.accept() else {
                return self.others.nobody_came();
            };
            // Looked at after the other had come: a front-end that is here now was here then.
            if is_hung_up(&self.peek) {
                self.successor = Some(other);
                return;
            }
            self.port.refusing.connection(other);
            self.port.link.count_refused();
            self.port.notes.warn(
                "another front-end tried to connect, and was refused: the port has its guest",
            );
        }
    }

    fn handle(&mut self, header: Header, files: Vec<OwnedFd>) -> Result<(), End> {
        self.stage = header.stage().unwrap_or(self.stage);
        // Before anything else: even to close a copy of such a file may take long, and must not
        // happen here.
        if !files.iter().all(closes_at_once) {
            return self.refuse_files(header, files);
        }
        // The message has them as well, so this closes none of them for good.
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
        self.rest()?;
        self.port.link.begin_message();
        let result = if header.is_vring_enable() {
            self.take_vring_enable(header)
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
        for note in handler.device.take_notes() {
            self.port.notes.info(note);
        }
        let Some(refusal) = handler.take_refusal() else {
            return result.map_err(|error| End::of(&error, header));
        };
        let text = format!("{} refused: {refusal}", header.name());
        self.port.link.set_refusal(refusal);
        if result.is_err() && !(header.can_be_refused() && handler.acknowledges()) {
            return Err(End::Closed(text));
        }
        self.port.notes.warn(text);
        Ok(())
    }
}

impl<P: DataPlane> Connection<'_, P> {
    /// A front-end that changes its queues all the time waits, and one of whose files many are
    /// being closed.
    fn rest(&self) -> Result<(), End> {
        while let Some(rest) = self.port.changes.rest(Instant::now()) {
            if self.stop.sleep(rest) {
                return Err(End::Stopping);
            }
        }
        if self.port.closing.wait(self.stop) {
            Ok(())
        } else {
            Err(End::Stopping)
        }
    }

    /// The message brings files that are neither eventfds nor memory: nothing takes such, and they
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
        self.rest()?;
        if !(taken && header.can_be_refused() && lock(&self.handler).acknowledges()) {
            return Err(End::Closed(text));
        }
        self.port.notes.warn(text);
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

    /// SET_VRING_ENABLE, past the `vhost` crate: it takes it only behind a SET_FEATURES that
    /// acknowledges the protocol features, and QEMU enables a device's first queues before its
    /// driver has chosen any.
    fn take_vring_enable(&mut self, header: Header) -> Result<(), Error> {
        let mut bytes = [0; HEADER_BYTES + Header::VRING_STATE_BYTES];
        if header.total_bytes() != bytes.len() {
            return Err(Error::InvalidMessage);
        }
        // All of it has come, as `next_message` saw. Files that came with it, which none should,
        // are closed by the kernel.
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
