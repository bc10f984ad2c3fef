//! A minimal HTTP/1.1 for the control socket, server and client: one GET per connection, answered
//! with JSON.
//!
//! A request is bounded in bytes, in headers, and in the total time it may take to arrive.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes of a request, which has no body.
pub(crate) const REQUEST_MAX: usize = 8192;
/// Headers of a request or an answer.
const HEADERS_MAX: usize = 32;
/// Bytes of an answer that a client accepts.
const ANSWER_MAX: u64 = 256 << 20;

/// Why a request is not answered with a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// HTTP's number for it.
    pub(crate) status: u16,
    /// A sentence.
    pub(crate) text: String,
}

impl Failure {
    /// With HTTP's number and a sentence.
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }
}

/// Reads a GET request and returns its path. None: the client closed the connection without a
/// request.
///
/// # Errors
/// The answer to send, if it is not a complete GET request within `time`.
pub(crate) fn read_get(stream: &UnixStream, time: Duration) -> Result<Option<String>, Failure> {
    let deadline = Instant::now() + time;
    let (mut bytes, mut n) = ([0; REQUEST_MAX], 0);
    loop {
        match read_before(deadline, stream, &mut bytes[n..]) {
            Ok(0) if n == 0 => return Ok(None),
            Ok(0) => {
                return Err(Failure::new(
                    400,
                    "the request ended before it was complete",
                ));
            }
            Ok(more) => n += more,
            Err(_) => return Err(Failure::new(408, "the request did not come in time")),
        }
        if let Some(path) = parse_get(&bytes[..n])? {
            return Ok(Some(path));
        }
        if n == REQUEST_MAX {
            return Err(Failure::new(
                431,
                format!("a request has at most {REQUEST_MAX} bytes"),
            ));
        }
    }
}

/// The path of a GET request; none: it is incomplete.
fn parse_get(bytes: &[u8]) -> Result<Option<String>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes).map_err(|e| match e {
        httparse::Error::TooManyHeaders => {
            Failure::new(431, format!("a request has at most {HEADERS_MAX} headers"))
        }
        e => Failure::new(400, format!("this is not HTTP/1.1: {e}")),
    })?;
    if parsed.is_partial() {
        return Ok(None);
    }
    let has_body = request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("transfer-encoding")
            || header.name.eq_ignore_ascii_case("content-length")
                && header.value.trim_ascii() != b"0"
    });
    match request.method {
        Some("GET") if !has_body => Ok(request.path.map(str::to_owned)),
        Some("GET") => Err(Failure::new(400, "a GET has no body")),
        _ => Err(Failure::new(405, "only GET is answered here")),
    }
}

fn read_before(deadline: Instant, mut stream: &UnixStream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(bytes) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Sends an answer, which ends the connection.
///
/// # Errors
/// When the client doesn't read it within `time`, or is gone.
pub(crate) fn write_answer(
    mut stream: &UnixStream,
    time: Duration,
    status: u16,
    json: &str,
) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: \
        {}\r\nconnection: close\r\n\r\n",
        reason(status),
        json.len()
    );
    let deadline = Instant::now() + time;
    for mut part in [head.as_bytes(), json.as_bytes()] {
        while !part.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_write_timeout(Some(left))?;
            match stream.write(part) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => part = &part[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        _ => "Error",
    }
}

/// Requests `path`; returns status and body of the answer.
///
/// # Errors
/// When the daemon is gone, doesn't answer within `time`, or its answer isn't HTTP.
pub(crate) fn get(
    mut stream: &UnixStream,
    path: &str,
    time: Duration,
) -> io::Result<(u16, String)> {
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut bytes)?;
    parse_answer(&bytes).ok_or_else(|| io::Error::other("the answer is not HTTP, or was cut short"))
}

fn parse_answer(bytes: &[u8]) -> Option<(u16, String)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(n) = answer.parse(bytes).ok()? else {
        return None;
    };
    let status = answer.code?;
    let length = answer
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let body = bytes.get(n..n.checked_add(length)?)?;
    Some((status, String::from_utf8(body.to_vec()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    fn ask(request: &[u8]) -> Result<Option<String>, Failure> {
        let (mut client, server) = UnixStream::pair().unwrap();
        // More than a socket holds is not sent by any test here.
        client.write_all(request).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        read_get(&server, TIME)
    }

    fn status(request: &[u8]) -> u16 {
        ask(request).unwrap_err().status
    }

    #[test]
    fn get_is_understood() {
        assert_eq!(
            ask(b"GET /v1/ports HTTP/1.1\r\nHost: x\r\n\r\n"),
            Ok(Some("/v1/ports".to_owned()))
        );
        assert_eq!(ask(b""), Ok(None));
    }

    #[test]
    fn get_in_pieces_is_understood() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let writing = std::thread::spawn(move || {
            for byte in b"GET /v1/ports HTTP/1.1\r\n\r\n" {
                client.write_all(&[*byte]).unwrap();
            }
            client
        });
        assert_eq!(read_get(&server, TIME), Ok(Some("/v1/ports".to_owned())));
        drop(writing.join().unwrap());
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(status(b"POST /v1/ports HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(
            status(b"GET /v1/ports HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello"),
            400
        );
        assert_eq!(
            status(b"GET /v1/ports HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"),
            400
        );
        assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\r\n\r\n"), 400);
        assert_eq!(status(b"GET /v1/ports HTT"), 400);
    }

    #[test]
    fn long_requests_are_refused_without_being_kept() {
        assert_eq!(
            status(&[b"GET /".to_vec(), vec![b'a'; REQUEST_MAX]].concat()),
            431
        );
        let headers = "a: b\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(
            status(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()),
            431
        );
    }

    #[test]
    fn slow_request_is_given_up() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"GET /").unwrap();
        assert_eq!(
            read_get(&server, Duration::from_millis(20))
                .unwrap_err()
                .status,
            408
        );
    }

    #[test]
    fn answer_comes_back_as_it_was_sent() {
        let (client, server) = UnixStream::pair().unwrap();
        let serving = std::thread::spawn(move || {
            let path = read_get(&server, TIME).unwrap().unwrap();
            write_answer(&server, TIME, 404, &format!("{{\"path\":\"{path}\"}}")).unwrap();
        });
        assert_eq!(
            get(&client, "/x", TIME).unwrap(),
            (404, "{\"path\":\"/x\"}".to_owned())
        );
        serving.join().unwrap();
    }

    #[test]
    fn client_that_does_not_read_holds_nobody_up() {
        let (_client, server) = UnixStream::pair().unwrap();
        let large = "x".repeat(16 << 20);
        assert!(write_answer(&server, Duration::from_millis(20), 200, &large).is_err());
    }

    #[test]
    fn answer_cut_short_is_none() {
        assert_eq!(
            parse_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell"),
            None
        );
        assert_eq!(parse_answer(b"HTTP/1.1 200 OK\r\n\r\nhello"), None);
        assert_eq!(parse_answer(b"hello"), None);
    }
}
