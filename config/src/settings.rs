//! A topology as keys with their values, in the words of the file.
//!
//! Two topologies have the same settings if they are the same but for the order in which they name
//! things; so this is what differences are made of. Defaults are filled in.

use crate::keys::Kind::{List, Map, Names, Scalar, Scalars, Texts};
use crate::keys::{Key, Shape, TOPOLOGY};
use crate::object::ObjectKind;
use crate::topology::{
    DEFAULT_CONTROL_PATH, DEFAULT_FLOWS, DEFAULT_MTU, DEFAULT_PORTS, DEFAULT_RING,
    DEFAULT_SOCKET_MODE, Idle, Limit, Listens, MacPolicy, Network, Nic, PortKind, Topology, Uplink,
    Vm, XdpMode, port_name,
};

/// A thing of the topology with all its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Unique among its kind; a NIC's is `vm/nic`, and the daemon's is empty.
    pub name: String,
    /// Its settings, in a fixed order, none twice.
    pub settings: Vec<Setting>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key below the object, as in `limit.from-vm.rate`.
    pub key: String,
    /// Its value.
    pub value: Written,
    /// Whether this is what holds where the key is not written.
    pub is_default: bool,
}

/// A value in the words of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A single value.
    One(String),
    /// A list, whose order counts.
    List(Vec<String>),
}

/// Every key of the file that this version supports, by its path from the top, as in
/// `vms.NAME.limit.from-vm.rate`. A mapping is listed by what is in it, one with names of the
/// user's choice itself, too; a list of mappings is one key.
pub fn key_paths() -> Vec<String> {
    fn collect(shape: &Shape, prefix: &str, paths: &mut Vec<String>) {
        for Key(name, kind, _) in shape.keys.iter().filter(|key| !shape.lacks_yet(key.0)) {
            let path = format!("{prefix}{name}");
            match kind {
                Scalar | Scalars | List(_) => paths.push(path),
                Texts => paths.push(format!("{path}.NAME")),
                Map(inner) => collect(inner, &format!("{path}."), paths),
                Names(inner) => {
                    paths.push(format!("{path}.NAME"));
                    collect(inner, &format!("{path}.NAME."), paths);
                }
            }
        }
    }
    let mut paths = Vec::new();
    collect(&TOPOLOGY, "", &mut paths);
    paths
}

impl Topology {
    /// All that the topology is made of: the daemon, uplinks, networks, VMs and each one's NICs, in
    /// its order. `include` is no setting: what was included is.
    pub fn objects(&self) -> Vec<Object> {
        let mut objects = vec![self.daemon()];
        objects.extend(self.uplinks.iter().map(uplink));
        objects.extend(self.networks.iter().map(|network| self.network(network)));
        for vm in &self.vms {
            objects.push(vm_alone(vm));
            objects.extend(vm.nics.iter().map(|nic| self.nic(vm, nic)));
        }
        objects
    }

    fn daemon(&self) -> Object {
        let mut keys = Settings::default();
        keys.list("cores", self.cores.iter().map(ToString::to_string));
        let idle = match self.idle {
            Idle::Adaptive => "adaptive",
            Idle::Poll => "poll",
        };
        keys.one("idle", idle, "adaptive");
        keys.one("flows", self.flows, &DEFAULT_FLOWS.to_string());
        keys.one("ports", self.ports, &DEFAULT_PORTS.to_string());
        let control = &self.control;
        keys.one("control.path", control.path.display(), DEFAULT_CONTROL_PATH);
        keys.given("control.group", control.group.as_ref());
        keys.one("control.mode", octal(control.mode), &default_mode());
        keys.given("metrics.listen", self.metrics.map(|metrics| metrics.listen));
        keys.of(ObjectKind::Daemon, "")
    }

    fn network(&self, network: &Network) -> Object {
        let mut keys = Settings::default();
        keys.given("vlan", network.vlan);
        let uplink = network.uplink_idx.and_then(|idx| self.uplinks.get(idx));
        keys.given("uplink", uplink.map(|uplink| &uplink.name));
        keys.one("mtu", network.mtu, &DEFAULT_MTU.to_string());
        keys.of(ObjectKind::Network, &network.name)
    }

    /// The settings of a NIC of this topology.
    pub(crate) fn nic(&self, vm: &Vm, nic: &Nic) -> Object {
        let mut keys = Settings::default();
        keys.one("enabled", nic.enabled, "true");
        keys.given("network", Some(&self.network_of(nic).name));
        match nic.mac {
            MacPolicy::Fixed(mac) => keys.given("mac", Some(mac)),
            MacPolicy::Sticky => {}
            MacPolicy::Learn(n) => keys.given("macs", Some(n)),
            MacPolicy::Any => keys.given("macs", Some("any")),
        }
        match &nic.port {
            PortKind::VhostUser {
                path,
                listens,
                group,
                mode,
            } => {
                keys.one("queues", nic.queues, "1");
                keys.given("vhost-user.path", Some(path.display()));
                let side = match listens {
                    Listens::Weir => "weir",
                    Listens::Guest => "guest",
                };
                keys.one("vhost-user.listens", side, "weir");
                keys.given("vhost-user.group", group.as_ref());
                keys.one("vhost-user.mode", octal(*mode), &default_mode());
            }
            PortKind::Tap { name } => keys.given("tap.name", Some(name)),
            PortKind::AfXdp {
                device,
                mode,
                ring,
                queues,
            } => {
                keys.one("queues", auto(*queues), "auto");
                keys.given("afxdp.device", Some(device));
                keys.one("afxdp.mode", xdp_mode(*mode), "auto");
                keys.one("afxdp.ring", ring, &DEFAULT_RING.to_string());
            }
        }
        if !nic.rules.is_empty() {
            keys.list("rules", nic.rules.iter().map(ToString::to_string));
        }
        keys.of(ObjectKind::Nic, &port_name(vm, nic))
    }
}

fn uplink(uplink: &Uplink) -> Object {
    let mut keys = Settings::default();
    keys.given("device", Some(&uplink.device));
    keys.one("mode", xdp_mode(uplink.mode), "auto");
    keys.one("queues", auto(uplink.queues), "auto");
    keys.one("ring", uplink.ring, &DEFAULT_RING.to_string());
    keys.one("take", uplink.take, "false");
    keys.of(ObjectKind::Uplink, &uplink.name)
}

/// The settings of a VM without its NICs.
pub(crate) fn vm_alone(vm: &Vm) -> Object {
    let mut keys = Settings::default();
    for (name, text) in &vm.labels {
        keys.given(&format!("labels.{name}"), Some(text));
    }
    keys.limit("limit.from-vm", vm.limit.from_vm.as_ref());
    keys.limit("limit.to-vm", vm.limit.to_vm.as_ref());
    if let Some(limit) = vm.limit.to_vm {
        let queue = limit
            .queue
            .map_or("none".to_owned(), |time| time.to_string());
        keys.one("limit.to-vm.queue", queue, "20ms");
    }
    keys.of(ObjectKind::Vm, &vm.name)
}

fn xdp_mode(mode: XdpMode) -> &'static str {
    match mode {
        XdpMode::Auto => "auto",
        XdpMode::ZeroCopy => "zero-copy",
        XdpMode::Copy => "copy",
        XdpMode::Skb => "skb",
    }
}

fn auto(queues: Option<u16>) -> String {
    queues.map_or("auto".to_owned(), |queues| queues.to_string())
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

fn default_mode() -> String {
    octal(DEFAULT_SOCKET_MODE)
}

/// Settings being collected.
#[derive(Default)]
struct Settings(Vec<Setting>);

impl Settings {
    /// A value that has a default.
    fn one(&mut self, key: &str, value: impl ToString, default: &str) {
        let value = value.to_string();
        self.0.push(Setting {
            key: key.to_owned(),
            is_default: value == default,
            value: Written::One(value),
        });
    }

    /// A value that need not be there.
    fn given(&mut self, key: &str, value: Option<impl ToString>) {
        self.0.extend(value.map(|value| Setting {
            key: key.to_owned(),
            value: Written::One(value.to_string()),
            is_default: false,
        }));
    }

    fn list(&mut self, key: &str, values: impl Iterator<Item = String>) {
        self.0.push(Setting {
            key: key.to_owned(),
            value: Written::List(values.collect()),
            is_default: false,
        });
    }

    fn limit(&mut self, key: &str, limit: Option<&Limit>) {
        let Some(limit) = limit else { return };
        self.given(&format!("{key}.rate"), limit.rate);
        self.given(&format!("{key}.packets"), limit.packets);
        self.given(&format!("{key}.burst"), limit.burst);
    }

    fn of(self, kind: ObjectKind, name: &str) -> Object {
        Object {
            kind,
            name: name.to_owned(),
            settings: self.0,
        }
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
