//! `weir show`: an answer of the daemon as text, or as JSON without its envelope.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Failure, fetch, fetch_all, json};
use super::command::What;
use super::text::{cores, flows, limits, macs, networks, port, queues, uplinks, vms};
use crate::api::port::PortReport;
use crate::api::problem::Code;
use crate::api::vm::VmReport;

/// The answer to `show`, as text or as JSON.
///
/// # Errors
/// A sentence, when the daemon doesn't answer, or refuses to.
pub(crate) fn show(control: &Path, what: &What) -> Result<String, String> {
    let list = |path| List { control, path };
    match what {
        What::Ports { json } => list("/v1/ports").print(*json, port::ports),
        What::Port { name, json } => printed(&port(control, name)?, *json, port::port),
        What::Vms { json } => list("/v1/vms").print(*json, vms::vms),
        What::Networks { json } => list("/v1/networks").print(*json, networks::networks),
        What::Uplinks { json } => list("/v1/uplinks").print(*json, uplinks::uplinks),
        What::Macs { json } => list("/v1/macs").print(*json, macs::macs),
        What::Flows { json } => printed(&fetch(control, "/v1/flows")?, *json, flows::flows),
        What::Limits { json } => {
            let mut vms: Vec<VmReport> = fetch_all(control, "/v1/vms")?;
            vms.retain(|vm| vm.limit.is_some());
            printed(&vms, *json, |vms| limits::limits(vms))
        }
        What::Cores { busy: true, .. } => list("/v1/cores?also=gone").print(false, cores::busy),
        What::Cores { json, busy: false } => list("/v1/cores").print(*json, cores::cores),
        What::Queues { json } => list("/v1/queues").print(*json, queues::queues),
    }
}

struct List<'a> {
    control: &'a Path,
    path: &'a str,
}

impl List<'_> {
    fn print<T: Serialize + DeserializeOwned>(
        &self,
        is_json: bool,
        to_text: impl FnOnce(&[T]) -> String,
    ) -> Result<String, String> {
        let items: Vec<T> = fetch_all(self.control, self.path)?;
        printed(&items, is_json, |items| to_text(items))
    }
}

fn printed<T: Serialize>(
    value: &T,
    is_json: bool,
    to_text: impl FnOnce(&T) -> String,
) -> Result<String, String> {
    if is_json {
        json(value)
    } else {
        Ok(to_text(value))
    }
}

/// The port of this name: a NIC, or an uplink.
fn port(control: &Path, name: &str) -> Result<PortReport, String> {
    let nothing = |why| format!("error: there is no port {name}: {why}");
    if !is_plain(name) {
        return Err(format!(
            "error: {name:?} is not a port's name: VM/NIC is, as in web/net0"
        ));
    }
    let path = match name.split_once('/') {
        Some((vm, nic)) if !nic.contains('/') => format!("/v1/vms/{vm}/nics/{nic}"),
        Some(_) => return Err(nothing("a name is VM/NIC, as in web/net0, or an uplink's")),
        None => format!("/v1/uplinks/{name}"),
    };
    fetch(control, &path).map_err(|failure: Failure| {
        if failure.is(Code::NoSuchUplink) {
            return nothing("a name is VM/NIC, as in web/net0, or an uplink's");
        }
        failure.into()
    })
}

/// Whether a name may go into a path as it is: letters, digits and what else names may have.
pub(super) fn is_plain(name: &str) -> bool {
    let may_hold = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    !name.is_empty() && name.bytes().all(may_hold)
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
    fn name_cannot_leave_its_path() {
        assert!(is_plain("web/net0") && is_plain("up0.1_a-b"));
        for name in ["", "a b", "a\r\nHost: x", "a?b", "a%2fb", "ü"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn name_that_is_no_ports_is_said_so_without_a_daemon() {
        let why = port(Path::new("/nonexistent"), "a/b/c").unwrap_err();
        assert!(
            why.starts_with("error: there is no port a/b/c: a name is VM/NIC"),
            "{why}"
        );
    }
}
