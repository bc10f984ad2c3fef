//! The API, as any client would speak it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::rig::PATIENCE;

/// An answer: its status, and its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// Asks once, by a connection of its own. `body`: YAML.
pub(crate) fn request(socket: &Path, method: &str, path: &str, body: Option<&str>) -> Answer {
    let answer = try_request(socket, method, path, body).unwrap();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer to {method} {path}: {answer}"));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("{head}")),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

/// The same of a daemon that may end meanwhile: whatever it says.
pub(crate) fn try_request(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> io::Result<String> {
    let body = body.unwrap_or_default();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\ncontent-type: \
        application/yaml\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What is read at `path`, which must be there.
pub(crate) fn read(socket: &Path, path: &str) -> Value {
    let answer = request(socket, "GET", path, None);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.body
}
