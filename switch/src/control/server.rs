//! Answers requests on the control socket: a few threads, each with one request at a time, for a
//! bounded time.

use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tracing::warn;

use super::sources::Sources;
use super::{cores, flows, macs, ports, uplinks, vms};
use crate::api::version::VersionReport;
use crate::base::http::{Failure, read_get, write_answer};
use crate::base::stop::Stop;

/// Threads that answer. A slow client holds one of them for at most twice [`WITHIN`].
pub(crate) const THREADS: usize = 3;
/// Reports that can be requested.
const WORDS: &[&str] = &[
    "ports", "uplinks", "macs", "flows", "cores", "vms", "limits", "version",
];
/// Time for a request to arrive, and for an answer to be read.
const WITHIN: Duration = Duration::from_secs(2);

/// Answers until the stop request. Several threads share the listener.
pub(crate) fn run(listener: &UnixListener, sources: &Arc<Sources>, stop: &Stop) {
    while !stop.is_requested() {
        stop.wait([listener.as_fd()], None);
        match listener.accept() {
            Ok((stream, _)) => answer(&stream, sources),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) => {}
            Err(e) => {
                warn!("cannot accept on the control socket: {e}");
                stop.sleep(Duration::from_secs(1));
            }
        }
    }
}

fn answer(stream: &UnixStream, sources: &Sources) {
    let answered = match read_get(stream, WITHIN) {
        Ok(None) => return,
        Ok(Some(path)) => route(&path, sources),
        Err(failure) => Err(failure),
    };
    let (status, json) = match answered {
        Ok(json) => (200, json),
        Err(failure) => (
            failure.status,
            serde_json::json!({ "error": failure.text }).to_string(),
        ),
    };
    // It fails if the client is gone or doesn't read.
    let _ = write_answer(stream, WITHIN, status, &json);
}

fn route(path: &str, sources: &Sources) -> Result<String, Failure> {
    let path = path.split('?').next().unwrap_or(path);
    match path.strip_prefix("/v1/") {
        Some("ports") => json(&ports::ports(sources)),
        Some("uplinks") => json(&uplinks::uplinks(sources)),
        Some("macs") => json(&macs::macs(sources)),
        Some("flows") => json(&flows::flows(sources)),
        Some("cores") => json(&cores::cores(sources)),
        Some("vms") => json(&vms::vms(sources)),
        Some("limits") => json(&vms::limits(sources)),
        Some("version") => json(&version()),
        Some(name) if name.starts_with("ports/") => {
            let name = &name["ports/".len()..];
            let report = ports::port(sources, name);
            json(&report.ok_or_else(|| Failure::new(404, format!("there is no port {name}")))?)
        }
        _ => Err(Failure::new(
            404,
            format!(
                "ask for /v1/ports/VM/NIC or one of /v1/{}",
                WORDS.join(", /v1/")
            ),
        )),
    }
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::new(500, e.to_string()))
}

/// Version and process of the daemon.
fn version() -> VersionReport {
    VersionReport {
        program: "weir".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
    }
}
