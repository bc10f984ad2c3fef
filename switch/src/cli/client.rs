//! Requests to a running daemon, and its answers.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::command::What;
use super::text::{cores, flows, limits, macs, port, uplinks};
use crate::api::flows::FlowReport;
use crate::base::http;
use crate::base::socket::open_stream;

/// How long the daemon may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The answer to `show`, as text or as JSON.
///
/// # Errors
/// A sentence, when the daemon doesn't answer, or refuses to.
pub(crate) fn show(control: &Path, what: &What) -> Result<String, String> {
    match what {
        What::Ports { json } => ask(control, "/v1/ports", *json, |ports: Vec<_>| {
            port::ports(&ports)
        }),
        What::Port { name, json } => ask(
            control,
            &format!("/v1/ports/{}", plain(name)?),
            *json,
            |port| port::port(&port),
        ),
        What::Uplinks { json } => ask(control, "/v1/uplinks", *json, |uplinks: Vec<_>| {
            uplinks::uplinks(&uplinks)
        }),
        What::Macs { json } => ask(control, "/v1/macs", *json, |macs: Vec<_>| macs::macs(&macs)),
        What::Flows { json } => ask(control, "/v1/flows", *json, |flows: FlowReport| {
            flows::flows(&flows)
        }),
        What::Limits { json } => ask(control, "/v1/limits", *json, |vms: Vec<_>| {
            limits::limits(&vms)
        }),
        What::Cores { json, busy: false } => ask(control, "/v1/cores", *json, |cores: Vec<_>| {
            cores::cores(&cores)
        }),
        What::Cores { busy: true, .. } => ask(control, "/v1/cores", false, |cores: Vec<_>| {
            cores::busy(&cores)
        }),
    }
}

/// Checks a port's name, which goes into the request line unescaped.
fn plain(name: &str) -> Result<&str, String> {
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    if is_plain && !name.is_empty() {
        return Ok(name);
    }
    Err(format!(
        "error: {name:?} is not a port's name: VM/NIC is, as in web/net0"
    ))
}

/// Requests `path`; returns the JSON as it came, or as text.
fn ask<T: DeserializeOwned>(
    control: &Path,
    path: &str,
    is_json: bool,
    to_text: impl FnOnce(T) -> String,
) -> Result<String, String> {
    let body = answer(control, path)?;
    if is_json {
        Ok(body + "\n")
    } else {
        parsed(&body).map(to_text)
    }
}

/// Requests `path` and parses the answer.
pub(crate) fn ask_for<T: DeserializeOwned>(control: &Path, path: &str) -> Result<T, String> {
    parsed(&answer(control, path)?)
}

fn parsed<T: DeserializeOwned>(body: &str) -> Result<T, String> {
    serde_json::from_str(body).map_err(|e| {
        format!("error: the daemon's answer is not understood ({e}): is it another version?")
    })
}

fn answer(control: &Path, path: &str) -> Result<String, String> {
    let stream = open_stream(control).map_err(|e| no_answer(control, &e))?;
    let answered = http::get(&stream, path, ANSWERS_WITHIN);
    let (status, body) = answered.map_err(|e| {
        format!(
            "error: the daemon on {} does not answer: {e}",
            control.display()
        )
    })?;
    if status != 200 {
        let error: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        return Err(format!(
            "error: {}",
            error["error"].as_str().unwrap_or(&body)
        ));
    }
    Ok(body)
}

fn no_answer(control: &Path, error: &io::Error) -> String {
    let path = control.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!(
                "error: no daemon answers on {path}: is it running? `weir run FILE` starts it, \
                --control says where it listens"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "error: this user may not use {path}: control: {{ group: …, mode: … }} says who may"
            )
        }
        _ => format!("error: no daemon answers on {path}: {error}"),
    }
}

/// Prints to standard output; a closed pipe is not an error.
pub(crate) fn print(text: &str) -> Result<(), String> {
    match io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("error: cannot write: {e}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_cannot_leave_its_line() {
        assert_eq!(plain("web/net0"), Ok("web/net0"));
        for name in ["", "a b", "a\r\nHost: x", "a?b", "ü"] {
            assert!(plain(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn absent_daemon_is_said_plainly() {
        let why = show(
            Path::new("/nonexistent/control.sock"),
            &What::Ports { json: false },
        )
        .unwrap_err();
        assert!(
            why.contains("no daemon answers on /nonexistent/control.sock")
                && why.contains("weir run"),
            "{why}"
        );
    }
}
