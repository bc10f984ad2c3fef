//! Requests on the control socket without a daemon: to the routes, and as bytes of a client.

use std::os::unix::net::UnixStream;
use std::rc::Rc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use tokio::net::UnixStream as Stream;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::api::problem::Problem;
use crate::control::connection::{Watch, converse as serve};
use crate::control::fixture;

thread_local! {
    static SWITCH: (Runtime, Router) = (
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .expect("files"),
        fixture::router(&fixture::topology(3)),
    );
}

/// Asks what the first line says, a method and a target, with the rest as a body; a condition may
/// stand between, in a line that begins with `if-`. Panics if the answer is neither a report nor a
/// refusal with a sentence.
pub fn request(bytes: &[u8]) {
    let (line, body) = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b""[..]),
    };
    let condition = body.strip_prefix(b"if-").and_then(|rest| {
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let colon = rest[..end].iter().position(|&byte| byte == b':')?;
        Some((&body[..3 + colon], &rest[colon + 1..end], &rest[end + 1..]))
    });
    let body = condition.map_or(body, |(_, _, body)| body);
    let (method, target) = match line.iter().position(|&byte| byte == b' ') {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => (&b"GET"[..], line),
    };
    let mut request = Request::builder().method(method).uri(target);
    if let Some((name, value, _)) = condition {
        request = request.header(name, value);
    }
    // What HTTP itself does not allow never comes so far.
    let Ok(request) = request.body(Body::from(body.to_vec())) else {
        return;
    };
    SWITCH.with(|(runtime, router)| {
        runtime.block_on(async {
            let Ok(answer) = router.clone().oneshot(request).await;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await;
            let body = body.expect("a body in memory").to_bytes();
            if matches!(status, 200 | 201) {
                return;
            }
            // An answer to HEAD has no body.
            if method == b"HEAD" {
                return assert!((400..500).contains(&status), "{status}");
            }
            check_refusal(status, &body);
        });
    });
}

fn check_refusal(status: u16, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let problem: Problem = serde_json::from_slice(body).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(problem.status, status, "{text}");
    assert!((400..500).contains(&status), "{text}");
    assert!(
        problem.detail.len() > 10 && !problem.code.is_empty(),
        "{text}"
    );
    assert!(problem.detail.len() < 2000, "{text}");
    assert!(!problem.detail.contains(char::is_control), "{text}");
}

/// Serves a client that sends these bytes, shuts down its side and reads everything. Panics if what
/// comes first is neither a report nor a refusal with a sentence.
pub fn converse(bytes: &[u8]) {
    SWITCH.with(|(runtime, router)| {
        let answers = runtime.block_on(async {
            let (client, server) = Stream::pair().expect("files");
            let writer: UnixStream = {
                let client = client.into_std().expect("a stream of this runtime");
                client.set_nonblocking(false).expect("a socket");
                std::io::Write::write_all(&mut &client, bytes).expect("room in a new socket");
                client
                    .shutdown(std::net::Shutdown::Write)
                    .expect("it is connected");
                client.set_nonblocking(true).expect("a socket");
                client
            };
            let client = Stream::from_std(writer).expect("a socket");
            let serving = serve(server, router.clone(), Rc::new(Watch::new()));
            tokio::join!(serving, read(&client)).1
        });
        check_answers(bytes, &answers);
    });
}

async fn read(client: &Stream) -> Vec<u8> {
    let (mut answers, mut bytes) = (Vec::new(), [0; 16 << 10]);
    loop {
        if client.readable().await.is_err() {
            return answers;
        }
        match client.try_read(&mut bytes) {
            Ok(0) => return answers,
            Ok(n) => answers.extend_from_slice(&bytes[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            // It had sent more than was read.
            Err(_) => return answers,
        }
    }
}

fn check_answers(sent: &[u8], answers: &[u8]) {
    if answers.is_empty() {
        return;
    }
    let end = answers.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("an answer has a head");
    let head = String::from_utf8(answers[..end].to_vec()).expect("a head is text");
    assert!(
        head.starts_with("HTTP/1.") && !head.contains('\0'),
        "{head}"
    );
    let status: u16 = head[9..12].parse().expect("a status is a number");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let body = &answers[end + 4..];
    match (status, length) {
        (100 | 200 | 201, _) => {}
        (_, Some(length)) if !sent.starts_with(b"HEAD") && !sent.starts_with(b"\r\nHEAD") => {
            let length: usize = length.parse().expect("a length is a number");
            check_refusal(status, &body[..length]);
        }
        _ => assert!((400..500).contains(&status), "{head}"),
    }
}
