use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::thread::JoinHandle as Thread;

use serde_json::Value;
use tokio::net::UnixStream;

use super::*;
use crate::base::beat::Beat;
use crate::base::socket::Listening;
use crate::control::door::ControlDoor;
use crate::control::fixture;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Served {
    dir: tempfile::TempDir,
    stop: Stop,
    thread: Option<Thread<()>>,
}

impl Served {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listening = Listening::open("control", &dir.path().join("c"), None, 0o600).unwrap();
        let stop = Stop::new().unwrap();
        let router = fixture::router(&fixture::topology(300));
        let server = Server::<ControlDoor>::new("control", CONNECTIONS_MAX, &stop).unwrap();
        let doors = server.doors();
        doors.exchange(Some(doors.prepare(listening).unwrap()));
        let thread = Some(std::thread::spawn(move || {
            server.run(&router, Some(&Beat::default()));
        }));
        Self { dir, stop, thread }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("c")
    }

    fn connect(&self) -> StdStream {
        let stream = StdStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Everything that comes back for these bytes, until the server closes.
    fn says(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may close before it has taken all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        rest(&mut stream)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// What comes until the server closes, which may be by a reset.
fn rest(stream: &mut StdStream) -> String {
    let (mut text, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&bytes[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(e) => panic!("{e}"),
        }
    }
    String::from_utf8(text).unwrap()
}

/// Status and body of the last answer in a text.
fn last(text: &str) -> (u16, Value) {
    let answer = text.rfind("HTTP/1.1 ").map(|begin| &text[begin..]);
    let answer = answer.unwrap_or_else(|| panic!("no answer: {text:?}"));
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (
        answer[9..12].parse().unwrap(),
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}")),
    )
}

const VERSION: &[u8] = b"GET /v1/version HTTP/1.1\r\nhost: weir\r\n\r\n";

#[test]
fn request_is_answered_and_the_next_one_on_the_same_connection_too() {
    let served = Served::start();
    let (status, version) = last(&served.says(VERSION));
    assert_eq!((status, &version["data"]["program"]), (200, &"weir".into()));
    assert_eq!(version["topology"], 1);
    let text = served.says(&[VERSION, VERSION, VERSION].concat());
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
}

#[test]
fn what_is_no_request_is_refused_with_a_sentence() {
    let served = Served::start();
    let headers = "a: b\r\n".repeat(100);
    let many = format!("GET /v1/version HTTP/1.1\r\n{headers}\r\n");
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000));
    let pipelined = [VERSION, b"nonsense\r\n\r\n"].concat();
    let cases: [(&[u8], u16, &str); 9] = [
        (b"\0\0\0\0\r\n\r\n", 400, "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "malformed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed"),
        (b"GET  /v1/ports HTTP/1.1\r\n\r\n", 400, "malformed"),
        (
            b"GET /v1/ports HTTP/1.1\r\nno colon\r\n\r\n",
            400,
            "malformed",
        ),
        (
            b"GET /v1/ports HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            400,
            "malformed",
        ),
        (&pipelined, 400, "malformed"),
        (many.as_bytes(), 431, "too-large"),
        (long.as_bytes(), 431, "too-large"),
    ];
    for (bytes, status, code) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        eprintln!("{shown}");
        let (said, problem) = last(&served.says(bytes));
        let is_long = said == 414 && status == 431;
        assert!(said == status || is_long, "{shown}: {said}");
        assert_eq!(problem["code"], code, "{shown}: {problem}");
        assert!(problem["detail"].as_str().unwrap().len() > 20, "{problem}");
    }
}

#[test]
fn request_that_ends_too_early_is_no_request() {
    let served = Served::start();
    for bytes in [&b""[..], b"GET /v1/po", b"GET /v1/ports HTTP/1.1\r\n"] {
        assert_eq!(served.says(bytes), "", "{bytes:?}");
    }
    let cut = b"PUT /v1/version HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc";
    let text = served.says(cut);
    assert!(text.is_empty() || last(&text).0 == 400, "{text}");
}

/// Each of them holds a place, in each of the ways to do so.
#[test]
fn silent_slow_and_half_closed_clients_cost_others_nothing() {
    let served = Served::start();
    let ports = b"GET /v1/ports?limit=300 HTTP/1.1\r\nhost: weir\r\n\r\n";
    let mut clients: Vec<StdStream> = Vec::new();
    for n in 0..200 {
        let mut client = served.connect();
        match n % 5 {
            0 => {}
            1 => client.write_all(b"GET /v1/po").unwrap(),
            // Asks for more than a socket holds, again and again, and reads nothing.
            2 => {
                client
                    .set_write_timeout(Some(Duration::from_millis(1)))
                    .unwrap();
                while client.write_all(ports).is_ok() && n < 20 {}
            }
            3 => client.shutdown(std::net::Shutdown::Write).unwrap(),
            _ => client
                .write_all(b"PUT /v1/version HTTP/1.1\r\ncontent-length: 9\r\n\r\n")
                .unwrap(),
        }
        clients.push(client);
        let begin = std::time::Instant::now();
        assert_eq!(last(&served.says(VERSION)).0, 200, "after {n}");
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "{:?} after {n}",
            begin.elapsed()
        );
    }
    // The first has lost its place.
    assert_eq!(rest(&mut clients[0]), "");
}

#[test]
fn stop_ends_every_connection_at_once() {
    let mut served = Served::start();
    let mut clients: Vec<_> = (0..8).map(|_| served.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let begun: &[u8] = match n % 3 {
            0 => b"",
            1 => b"GET /v1",
            _ => b"PUT /v1/version HTTP/1.1\r\ncontent-length: 9\r\n\r\nx",
        };
        client.write_all(begun).unwrap();
    }
    assert_eq!(last(&served.says(VERSION)).0, 200);
    served.stop.request();
    served.thread.take().unwrap().join().unwrap();
    for client in &mut clients {
        assert_eq!(rest(client), "");
    }
    assert!(!served.path().exists(), "the socket is left");
}

/// The server comes to them when there are others already.
#[test]
fn who_has_connected_to_a_door_is_served_when_it_is_exchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: usize| dir.path().join(n.to_string());
    let stop = Stop::new().unwrap();
    let server = Server::<ControlDoor>::new("control", CONNECTIONS_MAX, &stop).unwrap();
    let doors = server.doors();
    let clients: Vec<_> = (0..3)
        .map(|n| {
            let listening = Listening::open("control", &path(n), None, 0o600).unwrap();
            doors.exchange(Some(doors.prepare(listening).unwrap()));
            let connect = || {
                let mut client = StdStream::connect(path(n)).unwrap();
                client.write_all(VERSION).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                client
            };
            [connect(), connect()]
        })
        .collect();
    doors.exchange(None);
    // What was prepared and not used leaves nothing.
    let unused = Listening::open("control", &path(3), None, 0o600).unwrap();
    drop(doors.prepare(unused).unwrap());
    let router = fixture::router(&fixture::topology(1));
    let thread = std::thread::spawn(move || server.run(&router, None));
    for mut client in clients.into_iter().flatten() {
        assert_eq!(last(&rest(&mut client)).0, 200);
    }
    stop.request();
    thread.join().unwrap();
    for n in 0..4 {
        assert!(!path(n).exists(), "{n}");
    }
}

/// A connection to a server whose clock leaps whenever nothing happens.
fn conversation(router: Router) -> (UnixStream, impl Future<Output = ()>) {
    let (client, server) = UnixStream::pair().unwrap();
    (client, converse(server, router, Rc::new(Watch::new())))
}

#[tokio::test(start_paused = true)]
async fn slow_request_is_given_up_with_a_sentence() {
    let (client, server) = conversation(fixture::router(&fixture::topology(1)));
    client.try_write(b"GET /v1/po").unwrap();
    let begun = tokio::time::Instant::now();
    server.await;
    assert!(
        begun.elapsed() < Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
    let mut bytes = [0; 4096];
    client.readable().await.unwrap();
    let n = client.try_read(&mut bytes).unwrap();
    let (status, problem) = last(std::str::from_utf8(&bytes[..n]).unwrap());
    assert_eq!((status, &problem["code"]), (408, &"timeout".into()));
}

#[tokio::test(start_paused = true)]
async fn body_that_does_not_come_is_given_up_with_a_sentence() {
    let (client, server) = conversation(fixture::router(&fixture::topology(1)));
    client
        .try_write(b"PUT /v1/version HTTP/1.1\r\ncontent-length: 9\r\n\r\n")
        .unwrap();
    server.await;
    let mut bytes = [0; 4096];
    client.readable().await.unwrap();
    let n = client.try_read(&mut bytes).unwrap();
    assert_eq!(last(std::str::from_utf8(&bytes[..n]).unwrap()).0, 408);
}

#[tokio::test(start_paused = true)]
async fn answer_that_is_not_read_is_given_up() {
    let large = || async { "x".repeat(16 << 20) };
    let (client, server) = conversation(Router::new().route("/", axum::routing::get(large)));
    client.try_write(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let begun = tokio::time::Instant::now();
    server.await;
    let took = begun.elapsed();
    assert!((9..13).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_after_a_minute() {
    let (client, server) = conversation(fixture::router(&fixture::topology(1)));
    let begun = tokio::time::Instant::now();
    server.await;
    assert_eq!(begun.elapsed().as_secs(), 60);
    client.readable().await.unwrap();
    assert_eq!(client.try_read(&mut [0; 8]).unwrap(), 0);
}
