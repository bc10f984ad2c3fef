//! Checks one NIC.

use std::path::PathBuf;

use crate::address::MacAddr;
use crate::context::{Context, NAMES_COMPARED_MAX, NetworkSeen, XDP_ENDS, claim};
use crate::diagnostics::{At, shown};
use crate::nearest::nearest;
use crate::node::Node;
use crate::rules::rules;
use crate::scalar::{self, optional};
use crate::socket;
use crate::topology::{Listens, MacPolicy, Nic, PortKind, XDP_MTU_MAX};
use crate::uplink::{self, QUEUES_MAX as DEVICE_QUEUES_MAX};

/// NICs of one network: a flood makes a copy for each.
const NETWORK_NICS_MAX: usize = 1024;
const MACS_MAX: u64 = 65_536;
const QUEUES_MAX: u16 = 16;
/// Keys, of which a NIC has exactly one.
const PORT_KINDS: [&str; 3] = ["vhost-user", "tap", "afxdp"];

/// One NIC being checked.
pub(crate) struct NicCheck<'c, 'm> {
    pub(crate) context: &'c mut Context<'m>,
    /// `vm/nic`, for messages.
    pub(crate) port: String,
    pub(crate) name_node: &'c Node,
}

impl NicCheck<'_, '_> {
    /// None: `mistakes` says why.
    pub(crate) fn nic(mut self, name: &str, node: &Node) -> Option<Nic> {
        if !node.is_map() {
            return None;
        }
        let network = self.network(node);
        let network_idx = network.map(|network| network.idx);
        let mac = self.mac(node, network_idx);
        let port = self.port(node, network);
        let queues = match node.get("tap").or(node.get("afxdp")) {
            // A tap has one queue, an AF_XDP port has its own: see `tap` and `afxdp`.
            Some(_) => Some(1),
            None => self
                .queues(node, QUEUES_MAX)
                .map(|queues| queues.unwrap_or(1)),
        };
        let enabled = optional(node.get("enabled"), true, |node| {
            scalar::flag(node, "enabled", self.context.mistakes)
        });
        let rules = optional(node.get("rules"), Vec::new(), |node| {
            rules(node, self.context.mistakes)
        });
        self.count(network_idx);
        Some(Nic {
            name: name.to_owned(),
            enabled: enabled?,
            network_idx: network_idx?,
            mac: mac?,
            queues: queues?,
            port: port?,
            rules: rules?,
        })
    }

    fn queues(&mut self, nic: &Node, max: u16) -> Option<Option<u16>> {
        optional(nic.get("queues"), None, |node| {
            scalar::small(node, "queues", 1..=max, self.context.mistakes).map(Some)
        })
    }

    fn network(&mut self, nic: &Node) -> Option<NetworkSeen> {
        let Some(node) = nic.get("network") else {
            return self.wrong(
                self.name_node.at,
                format!("NIC `{}` has no `network`", self.port),
                self.network_help(""),
            );
        };
        let name = node.text()?;
        if let Some(network) = self.context.networks.get(name) {
            return Some(*network);
        }
        self.wrong(
            node.at,
            format!("there is no network `{}`", shown(name)),
            self.network_help(name),
        )
    }

    fn network_help(&self, name: &str) -> String {
        let known = || {
            self.context
                .networks
                .keys()
                .map(String::as_str)
                .take(NAMES_COMPARED_MAX)
        };
        match (nearest(name, known()), known().min()) {
            (Some(meant), _) => format!("did you mean `{}`?", shown(meant)),
            (None, Some(example)) => format!(
                "name one of `networks`, as in `network: {}`",
                shown(example)
            ),
            (None, None) => "add it to `networks`, as in `networks: { blue: {} }`".to_owned(),
        }
    }

    fn mac(&mut self, nic: &Node, network_idx: Option<usize>) -> Option<MacPolicy> {
        match (nic.get("mac"), nic.get("macs")) {
            (None, None) => Some(MacPolicy::Sticky),
            (Some(mac), None) => self.fixed_mac(mac, network_idx),
            (None, Some(macs)) => self.macs(macs),
            (Some(_), Some(macs)) => self.wrong(
                macs.at,
                format!("NIC `{}` has both `mac` and `macs`", self.port),
                "keep `mac` for one fixed address, or `macs` for several learned ones",
            ),
        }
    }

    fn fixed_mac(&mut self, node: &Node, network_idx: Option<usize>) -> Option<MacPolicy> {
        if node.text()? == "any" {
            return self.wrong(
                node.at,
                "`mac` is one address",
                "write `macs: any` to allow all",
            );
        }
        let mac = scalar::parsed::<MacAddr>(node, self.context.mistakes)?;
        let holder = claim(
            &mut self.context.claims.macs,
            (network_idx?, mac),
            self.port.clone(),
            node.at,
        );
        if let Some((holder, holder_at)) = holder {
            let place = self.context.mistakes.place(holder_at, node.at);
            let message =
                format!("address `{mac}` already used by `{holder}` in the same network, {place}");
            return self.wrong(
                node.at,
                message,
                "give each NIC of a network an address of its own",
            );
        }
        Some(MacPolicy::Fixed(mac))
    }

    fn macs(&mut self, node: &Node) -> Option<MacPolicy> {
        match node.text()? {
            "any" => Some(MacPolicy::Any),
            text if text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
                && !text.contains(':') =>
            {
                let count = scalar::number(node, "macs", 1..=MACS_MAX, self.context.mistakes)?;
                u32::try_from(count).ok().map(MacPolicy::Learn)
            }
            text => {
                let help = match text.parse::<MacAddr>() {
                    Ok(mac) => format!("write `mac: \"{mac}\"` for one fixed address"),
                    Err(_) => "write a number, or `any`".to_owned(),
                };
                self.wrong(node.at, format!("`macs` can't be `{}`", shown(text)), help)
            }
        }
    }

    fn port(&mut self, nic: &Node, network: Option<NetworkSeen>) -> Option<PortKind> {
        let kinds: Vec<_> = nic
            .entries()?
            .filter(|(key, ..)| PORT_KINDS.contains(key))
            .collect();
        match kinds.as_slice() {
            [] => {
                let help = format!(
                    "add `vhost-user: {{ path: /run/weir/{}.sock }}`",
                    self.port.replace('/', "-")
                );
                self.wrong(
                    self.name_node.at,
                    format!("NIC `{}` has no kind of port", self.port),
                    help,
                )
            }
            [("vhost-user", _, node)] => self.vhost_user(node),
            [("tap", _, node)] => self.tap(nic, node),
            [("afxdp", _, node)] => self.afxdp(nic, node, network),
            [(_, first, _), (key, second, _), ..] if first.text() != Some(key) => self.wrong(
                second.at,
                format!("NIC `{}` has two kinds of port", self.port),
                format!("keep one of them, or make `{key}` another NIC"),
            ),
            // The same kind twice: `walk` has reported it.
            _ => None,
        }
    }

    fn vhost_user(&mut self, node: &Node) -> Option<PortKind> {
        if !node.is_map() {
            return None;
        }
        let listens = self.listens(node);
        let path = self.socket(node);
        let group = socket::group(Some(node), self.context.mistakes);
        let mode = socket::mode(Some(node), self.context.mistakes);
        if listens == Some(Listens::Guest) {
            for key in ["group", "mode"] {
                let Some(value) = node.get(key) else { continue };
                let message = format!("`{key}` does nothing where the guest makes the socket");
                self.context
                    .mistakes
                    .add(value.at, message, "remove it, or write `listens: weir`");
            }
        }
        Some(PortKind::VhostUser {
            path: path?,
            listens: listens?,
            group: group?,
            mode: mode?,
        })
    }

    fn tap(&mut self, nic: &Node, node: &Node) -> Option<PortKind> {
        if let Some(queues) = nic
            .get("queues")
            .filter(|queues| queues.text() != Some("1"))
        {
            let help = "leave `queues` out, or use `vhost-user`";
            return self.wrong(queues.at, "a tap has one queue", help);
        }
        let name = self.device(node, "name", "tap0")?;
        Some(PortKind::Tap { name })
    }

    fn afxdp(&mut self, nic: &Node, node: &Node, network: Option<NetworkSeen>) -> Option<PortKind> {
        let queues = self.queues(nic, DEVICE_QUEUES_MAX);
        let device = self.device(node, "device", "veth0");
        let mode = uplink::mode(self.context, node);
        let ring = uplink::ring(self.context, node);
        if let Some(mtu) = network
            .and_then(|network| network.mtu)
            .filter(|&mtu| mtu > XDP_MTU_MAX)
        {
            let message = format!(
                "the network of `{}` has an `mtu` of {mtu}, but frames of this kind of port \
                {XDP_ENDS}",
                self.port
            );
            return self.wrong(
                node.at,
                message,
                format!("give the network an `mtu` of {XDP_MTU_MAX} or less"),
            );
        }
        Some(PortKind::AfXdp {
            device: device?,
            mode: mode?,
            ring: ring?,
            queues: queues?,
        })
    }

    fn device(&mut self, port: &Node, key: &str, example: &str) -> Option<String> {
        if !port.is_map() {
            return None;
        }
        let Some(node) = port.get(key) else {
            let message = format!("the device of `{}` has no `{key}`", self.port);
            return self.wrong(
                port.at,
                message,
                format!("add the device's name, as in `{key}: {example}`"),
            );
        };
        let device = scalar::device(node, key, self.context.mistakes)?;
        self.context
            .claim_device(device, format!("`{}`", self.port), node.at)
    }

    fn listens(&mut self, node: &Node) -> Option<Listens> {
        let choices = [("weir", Listens::Weir), ("guest", Listens::Guest)];
        optional(node.get("listens"), Listens::default(), |node| {
            scalar::choice(node, "listens", &choices, self.context.mistakes)
        })
    }

    fn socket(&mut self, port: &Node) -> Option<PathBuf> {
        let Some(node) = port.get("path") else {
            let help = format!("add `path: /run/weir/{}.sock`", self.port.replace('/', "-"));
            return self.wrong(
                port.at,
                format!("the socket of `{}` has no `path`", self.port),
                help,
            );
        };
        let path = socket::path(node, "path", self.context.mistakes)?;
        match claim(
            &mut self.context.claims.sockets,
            path.clone(),
            format!("`{}`", self.port),
            node.at,
        ) {
            None => Some(path),
            Some((holder, holder_at)) => {
                let place = self.context.mistakes.place(holder_at, node.at);
                let message = match holder_at.line {
                    0 => "path already used by the control socket, at its default path".to_owned(),
                    _ => format!("path already used by {holder}, {place}"),
                };
                self.wrong(node.at, message, "give each port a socket of its own")
            }
        }
    }

    /// Counts the NIC; adds a mistake at the first one over a bound.
    fn count(&mut self, network_idx: Option<usize>) {
        self.context.count_port(self.name_node.at);
        let Some(network_idx) = network_idx else {
            return;
        };
        let n_nics = self
            .context
            .claims
            .nics_of_network
            .entry(network_idx)
            .or_default();
        *n_nics += 1;
        if *n_nics == NETWORK_NICS_MAX + 1 {
            let message = format!("more than {NETWORK_NICS_MAX} NICs in one network");
            self.context
                .mistakes
                .add(self.name_node.at, message, "split the network");
        }
    }

    fn wrong<T>(
        &mut self,
        at: At,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.context.mistakes.add(at, message, help);
        None
    }
}
