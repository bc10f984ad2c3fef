//! One client's connection: requests and answers in turn, each phase for a bounded time, and an
//! answer with a sentence to what isn't HTTP.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::answer::{PROBLEM, Refused};
use super::door::Client;
use crate::api::problem::Code;

/// Bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a connection may be without a request.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// The time in which a request's head must arrive, from its first byte on.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The time in which a client must read an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks at the phase.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The handler, or the request's body, whose time is bounded where it is read.
    Handling,
    /// The client, to read an answer.
    Answering,
}

/// The phase of a connection, and since when.
#[derive(Debug)]
pub(crate) struct Watch {
    phase: Cell<Phase>,
    since: Cell<Instant>,
}

impl Watch {
    /// Of a connection that was just accepted.
    pub(crate) fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Idle),
            since: Cell::new(Instant::now()),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn since(&self) -> Instant {
        self.since.get()
    }

    fn begin(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    /// Waits until a phase has taken too long.
    async fn expired(&self) {
        loop {
            let limit = match self.phase() {
                Phase::Idle => IDLE_FOR,
                Phase::Head => HEAD_WITHIN,
                Phase::Answering => ANSWER_WITHIN,
                Phase::Handling => Duration::MAX,
            };
            let left = limit.saturating_sub(self.since().elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOKS_EVERY)).await;
        }
    }
}

/// Serves a client until it has gone, has spoken no HTTP, or was too slow.
pub(crate) async fn converse<C: Client>(stream: C, router: Router, watch: Rc<Watch>) {
    let stream = Stream {
        io: TokioIo::new(stream),
        watch: watch.clone(),
        withheld: RefCell::default(),
    };
    let answer = |request: Request<Incoming>| {
        watch.begin(Phase::Handling);
        let (router, watch) = (router.clone(), watch.clone());
        async move {
            let answered = router.oneshot(request.map(Body::new)).await;
            watch.begin(Phase::Answering);
            answered
        }
    };
    let mut connection = http1::Builder::new()
        .half_close(true)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX)
        .serve_connection(stream, service_fn(answer));
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = watch.expired() => None,
    };
    let stream = connection.into_parts().io;
    let refused = match ended {
        Some(Err(e)) if stream.has_withheld() || e.is_parse() && stream.withholds() => {
            not_http(stream.withheld_status(), &e)
        }
        None if watch.phase() == Phase::Head => too_slow(),
        _ => return,
    };
    refuse(stream.io.inner(), &refused);
}

fn not_http(status: StatusCode, error: &hyper::Error) -> Refused {
    if status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE || status == StatusCode::URI_TOO_LONG {
        let why = format!(
            "a request's head has at most {HEAD_MAX} bytes and {HEADERS_MAX} headers: {error}"
        );
        return Refused::new(status, Code::TooLarge, why);
    }
    let why = format!("this is not a request of HTTP/1.1: {error}");
    Refused::new(status, Code::Malformed, why)
}

fn too_slow() -> Refused {
    let why = format!(
        "the request did not arrive within {} s",
        HEAD_WITHIN.as_secs()
    );
    Refused::new(StatusCode::REQUEST_TIMEOUT, Code::Timeout, why)
}

/// Sends an answer to something that is not a request. A client that has left no room for a few
/// hundred bytes doesn't get it.
pub(super) fn refuse(stream: &impl Client, refused: &Refused) {
    let (status, json) = (refused.status(), refused.to_json());
    let answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM}\r\ncontent-length: {}\r\nconnection: \
        close\r\n\r\n{json}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        json.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}

/// The client's stream. While no request is being answered, what the HTTP library writes is its own
/// answer to something that it can't read, which has no sentence: it is withheld.
#[derive(Debug)]
struct Stream<C> {
    io: TokioIo<C>,
    watch: Rc<Watch>,
    withheld: RefCell<Vec<u8>>,
}

impl<C: Client> Stream<C> {
    fn withholds(&self) -> bool {
        matches!(self.watch.phase(), Phase::Idle | Phase::Head)
    }

    fn has_withheld(&self) -> bool {
        !self.withheld.borrow().is_empty()
    }

    /// The status that the library would have answered with.
    fn withheld_status(&self) -> StatusCode {
        let withheld = self.withheld.borrow();
        // It begins with `HTTP/1.1 400 `.
        let status = withheld.get(9..12).map(StatusCode::from_bytes);
        status
            .and_then(Result::ok)
            .unwrap_or(StatusCode::BAD_REQUEST)
    }
}

impl<C: Client> Read for Stream<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 8 << 10];
        let n_max = into.remaining().min(bytes.len());
        let mut read = ReadBuf::new(&mut bytes[..n_max]);
        let done = Pin::new(&mut self.io).poll_read(context, read.unfilled());
        if !read.filled().is_empty() && self.watch.phase() == Phase::Idle {
            self.watch.begin(Phase::Head);
        }
        into.put_slice(read.filled());
        done
    }
}

impl<C: Client> Write for Stream<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.withholds() {
            self.withheld.borrow_mut().extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.io).poll_flush(context);
        // hyper flushes when all of an answer is written.
        if self.watch.phase() == Phase::Answering && matches!(done, Poll::Ready(Ok(()))) {
            self.watch.begin(Phase::Idle);
        }
        done
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The stream is closed as soon as the connection has ended: a client that sees the end may
        // rely upon its place being free.
        Poll::Ready(Ok(()))
    }
}
