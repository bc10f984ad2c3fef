//! Requests to a running daemon, and its answers.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::HeaderName;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::api::change::ChangeReport;
use crate::api::envelope::{Data, List};
use crate::api::problem::{Code, Problem};
use crate::base::socket::open_stream;

/// How long the daemon may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to change the topology: changes wait for each other, and for devices.
const CHANGES_WITHIN: Duration = Duration::from_secs(120);
/// How long the daemon may take to close a connection after its answer.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// Bytes of an answer.
const ANSWER_MAX: usize = 256 << 20;
/// Items on a page: the most that the daemon gives.
const PAGE: usize = 1000;
/// How often a list is begun, when items that it had come to disappear meanwhile.
const TRIES: usize = 5;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The daemon refused.
    Refused(Box<Problem>),
    /// There is no daemon, or it doesn't answer, or not what is expected: a sentence.
    NoAnswer(String),
}

impl Failure {
    /// Whether the daemon refused for this reason.
    pub(super) fn is(&self, code: Code) -> bool {
        matches!(self, Self::Refused(problem) if problem.code == code.text())
    }
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(problem) => problem.into_text(),
            Failure::NoAnswer(why) => format!("error: {why}"),
        }
    }
}

/// The one thing at `path`.
pub(super) fn fetch<T: DeserializeOwned>(control: &Path, path: &str) -> Result<T, Failure> {
    let body = send(control, &Sent::get(path))?;
    parsed(&body).map(|answer: Data<T>| answer.data)
}

/// Asks for a change of the topology; returns its number beside what was changed.
pub(super) fn change(control: &Path, sent: &Sent) -> Result<Data<ChangeReport>, Failure> {
    parsed(&send(control, sent)?)
}

/// What is sent to the daemon.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Bytes,
}

impl Sent {
    fn get(target: &str) -> Self {
        Self {
            method: Method::GET,
            target: target.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    fn answers_within(&self) -> Duration {
        match self.method {
            Method::GET => ANSWERS_WITHIN,
            _ => CHANGES_WITHIN,
        }
    }
}

/// All items of the list at `path`, which has no parameters.
pub(super) fn fetch_all<T: DeserializeOwned>(
    control: &Path,
    path: &str,
) -> Result<Vec<T>, Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        match pages(control, path) {
            Err(failure) if failure.is(Code::CursorGone) && tries < TRIES => {}
            done => return done,
        }
    }
}

fn pages<T: DeserializeOwned>(control: &Path, path: &str) -> Result<Vec<T>, Failure> {
    // Short lists have one page, and no parameters.
    let has_pages = matches!(
        path,
        "/v1/ports" | "/v1/vms" | "/v1/networks" | "/v1/macs" | "/v1/queues"
    );
    let mut query = if has_pages {
        format!("?limit={PAGE}")
    } else {
        String::new()
    };
    let mut items = Vec::new();
    loop {
        let body = send(control, &Sent::get(&format!("{path}{query}")))?;
        let page: List<T> = parsed(&body)?;
        items.extend(page.items);
        match page.next {
            None => return Ok(items),
            Some(next) => query = page_behind(&next),
        }
    }
}

fn page_behind(cursor: &str) -> String {
    let after = form_urlencoded::byte_serialize(cursor.as_bytes()).collect::<String>();
    format!("?limit={PAGE}&after={after}")
}

/// A value as JSON, for a program.
pub(super) fn json(value: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string(value);
    text.map(|text| text + "\n")
        .map_err(|e| format!("error: the daemon's answer can't be printed: {e}"))
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| {
        Failure::NoAnswer(format!(
            "the daemon's answer is not understood ({e}): is it another version?"
        ))
    })
}

/// Sends a request, and returns the body of its answer.
fn send(control: &Path, sent: &Sent) -> Result<Bytes, Failure> {
    let no_answer = |why: String| {
        Failure::NoAnswer(format!(
            "the daemon on {} does not answer: {why}",
            control.display()
        ))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| no_answer(e.to_string()))?;
    let stream = connect(control).map_err(|e| Failure::NoAnswer(no_daemon(control, &e)))?;
    let answered = runtime.block_on(async {
        let stream = UnixStream::from_std(stream).map_err(|e| e.to_string())?;
        let answer = exchange(stream, sent);
        match timeout(sent.answers_within(), answer).await {
            Ok(answered) => answered,
            Err(_) => Err(format!(
                "nothing came within {} s",
                sent.answers_within().as_secs()
            )),
        }
    });
    let (status, body) = answered.map_err(no_answer)?.into_parts();
    if status.status.is_success() {
        return Ok(body);
    }
    match serde_json::from_slice(&body) {
        Ok(problem) => Err(Failure::Refused(Box::new(problem))),
        Err(_) => Err(no_answer(format!("it refuses with {}", status.status))),
    }
}

async fn exchange(stream: UnixStream, sent: &Sent) -> Result<Response<Bytes>, String> {
    let mut request = Request::builder()
        .method(&sent.method)
        .uri(&sent.target)
        .header("host", "weir")
        .header("connection", "close");
    for (name, value) in &sent.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(sent.body.clone()));
    let request = request.map_err(|e| e.to_string())?;
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|e| e.to_string())?;
    let asking = async {
        let answer = sender.send_request(request).await;
        let (head, body) = answer.map_err(|e| e.to_string())?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|e| format!("its answer was cut short: {e}"))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::pin!(asking, connection);
    tokio::select! {
        answered = &mut asking => {
            // Until the daemon has closed the connection, so that the next one finds it gone.
            let _ = timeout(ENDS_WITHIN, connection).await;
            answered
        }
        ended = &mut connection => match ended {
            // What came before the end is still to be read.
            Ok(()) => asking.await,
            Err(e) => Err(e.to_string()),
        }
    }
}

/// Connects to the daemon. While it has too many clients to accept another one, it is tried again.
fn connect(control: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let begun = Instant::now();
    loop {
        match open_stream(control) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < ANSWERS_WITHIN => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(e) => return Err(e),
            Ok(stream) => {
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
        }
    }
}

fn no_daemon(control: &Path, error: &io::Error) -> String {
    let path = control.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!(
                "no daemon answers on {path}: is it running? `weir run FILE` starts it, --control \
                says where it listens"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("this user may not use {path}: control: {{ group: …, mode: … }} says who may")
        }
        _ => format!("no daemon answers on {path}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_cannot_leave_its_parameter() {
        assert_eq!(
            page_behind("a&limit=1/ü"),
            "?limit=1000&after=a%26limit%3D1%2F%C3%BC"
        );
    }

    #[test]
    fn absent_daemon_is_said_plainly() {
        let why = String::from(
            fetch_all::<u8>(Path::new("/nonexistent/control.sock"), "/v1/ports").unwrap_err(),
        );
        assert!(
            why.starts_with("error: no daemon answers on /nonexistent/control.sock")
                && why.contains("weir run"),
            "{why}"
        );
    }
}
