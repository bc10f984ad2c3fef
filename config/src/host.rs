//! Checks the keys of the daemon itself: its cores, its tables, its sockets.
//!
//! None: `mistakes` says why.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::context::{Context, claim};
use crate::diagnostics::{At, shown};
use crate::node::{Node, Value};
use crate::object::ObjectKind;
use crate::scalar::{self, optional};
use crate::socket;
use crate::topology::{
    Control, DEFAULT_CONTROL_PATH, DEFAULT_FLOWS, DEFAULT_PORTS, Idle, Metrics, PORTS_MAX,
};
use crate::units::{BadValue, CoreId};

const FLOWS_MIN: u64 = 1024;
/// A table of this capacity takes 1.9 GB, allocated at start.
const FLOWS_MAX: u64 = 1 << 24;

impl Context<'_> {
    pub(crate) fn cores(&mut self, main: &Node) -> Option<Vec<CoreId>> {
        let Some(node) = main.get("cores") else {
            // `walk` has reported what is no mapping.
            if matches!(main.value, Value::Map(_)) {
                self.mistakes.add(
                    main.at,
                    "the CPUs to poll on are missing",
                    "add `cores: [2]` with CPUs that nothing else uses",
                );
            }
            return None;
        };
        let items = node.items()?;
        if items.is_empty() {
            self.mistakes.add(
                node.at,
                "`cores` is empty",
                "write at least one CPU, as in `cores: [2]`",
            );
            return None;
        }
        let mut first: HashMap<CoreId, At> = HashMap::new();
        let mut cores = Vec::new();
        for item in items {
            let Some(core) = scalar::parsed::<CoreId>(item, self.mistakes) else {
                continue;
            };
            if first.insert(core, item.at).is_some() {
                self.mistakes.add(
                    item.at,
                    format!("CPU {core} is in `cores` twice"),
                    "remove one of them",
                );
            }
            cores.push(core);
        }
        (cores.len() == items.len()).then_some(cores)
    }

    pub(crate) fn idle(&mut self, main: &Node) -> Option<Idle> {
        let choices = [("adaptive", Idle::Adaptive), ("poll", Idle::Poll)];
        optional(main.get("idle"), Idle::default(), |node| {
            scalar::choice(node, "idle", &choices, self.mistakes)
        })
    }

    pub(crate) fn flows(&mut self, main: &Node) -> Option<usize> {
        optional(main.get("flows"), DEFAULT_FLOWS, |node| {
            let flows = scalar::number(node, "flows", FLOWS_MIN..=FLOWS_MAX, self.mistakes)?;
            usize::try_from(flows).ok()
        })
    }

    pub(crate) fn control(&mut self, main: &Node) -> Option<Control> {
        let node = main.get("control");
        let path_node = node.and_then(|node| node.get("path"));
        let path = optional(path_node, PathBuf::from(DEFAULT_CONTROL_PATH), |path| {
            socket::path(path, "path", self.mistakes)
        });
        let group = socket::group(node, self.mistakes);
        let mode = socket::mode(node, self.mistakes);
        if let Some(node) = path_node {
            self.place(ObjectKind::Daemon, "", node.at);
        }
        if let Some(path) = &path {
            let at = path_node.map_or(At::file(main.at.file_idx), |node| node.at);
            claim(
                &mut self.claims.sockets,
                path.clone(),
                "the control socket".to_owned(),
                at,
            );
        }
        Some(Control {
            path: path?,
            group: group?,
            mode: mode?,
        })
    }

    pub(crate) fn ports(&mut self, main: &Node) -> Option<usize> {
        optional(main.get("ports"), DEFAULT_PORTS, |node| {
            let ports = scalar::number(node, "ports", 1..=PORTS_MAX as u64, self.mistakes)?;
            usize::try_from(ports).ok()
        })
    }

    pub(crate) fn metrics(&mut self, main: &Node) -> Option<Option<Metrics>> {
        let Some(node) = main.get("metrics") else {
            return Some(None);
        };
        let Some(listen) = node.get("listen") else {
            let help = "add `listen: \"127.0.0.1:9477\"`, or remove `metrics`";
            // `walk` has reported what is no mapping.
            if node.is_map() {
                self.mistakes
                    .add(node.at, "`metrics` has no `listen`", help);
            }
            return None;
        };
        let listen = scalar::read(listen, tcp_address, self.mistakes)?;
        Some(Some(Metrics { listen }))
    }
}

/// An IP address and a port other than 0.
fn tcp_address(text: &str) -> Result<SocketAddr, BadValue> {
    const HELP: &str = "write an IP address and a port, as in \"127.0.0.1:9477\" or \"[::1]:9477\"";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(BadValue::new(
            "port 0 would be another one at each start",
            HELP,
        )),
        Ok(address) => Ok(address),
        Err(_) => {
            let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
            let message = format!("`listen` can't be `{}`", shown(text));
            Err(match host {
                "localhost" => BadValue::new(message, "write `listen: \"127.0.0.1:9477\"`"),
                "" | "*" => BadValue::new(
                    message,
                    "write `listen: \"0.0.0.0:9477\"` if other hosts are to read it, else \
                    `listen: \"127.0.0.1:9477\"`",
                ),
                _ => BadValue::new(message, HELP),
            })
        }
    }
}
