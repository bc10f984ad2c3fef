//! The checked values, which the daemon works from.
//!
//! Made by `check` only from a file without mistakes: names are unique, every NIC's network exists,
//! no two NICs share a socket or, in one network, a MAC address. All of it is plain data, to be
//! cloned and compared freely.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use flowtable::rules::rule::Rule;

use crate::address::MacAddr;
use crate::origin::Origin;
use crate::units::{BitsPerSec, Bytes, CoreId, Micros, PacketsPerSec};

/// Where the control socket is when the file doesn't say.
pub const DEFAULT_CONTROL_PATH: &str = "/run/weir/control.sock";
/// Permission bits of a socket when the file doesn't say: owner and group.
pub const DEFAULT_SOCKET_MODE: u32 = 0o660;
/// Capacity of the flow table when the file doesn't say.
pub const DEFAULT_FLOWS: usize = 1_048_576;
/// NICs and uplinks that there is room for when the file doesn't say.
pub const DEFAULT_PORTS: usize = 4096;
/// The same at most, below the number of ids.
pub const PORTS_MAX: usize = 65_000;
/// Largest payload of a frame, in bytes, when the file doesn't say.
pub const DEFAULT_MTU: u16 = 1500;
/// Largest payload of a frame in a network with an uplink or an AF_XDP NIC: what fits into one XDP
/// buffer, with two VLAN tags.
pub const XDP_MTU_MAX: u16 = 3498;
/// Length of a device queue's receive ring, in frames, when the file doesn't say.
pub const DEFAULT_RING: u16 = 2048;

/// A whole topology: one daemon's cores, networks and VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// CPUs to poll on: at least one, none twice, in the file's order.
    pub cores: Vec<CoreId>,
    /// What an idle core does.
    pub idle: Idle,
    /// Capacity of the flow table, in flows.
    pub flows: usize,
    /// NICs and uplinks that there is room for, 1 to [`PORTS_MAX`]; there are no more of them.
    pub ports: usize,
    /// The socket on which operators talk to the daemon.
    pub control: Control,
    /// Where metrics can be read; none: nowhere.
    pub metrics: Option<Metrics>,
    /// Devices of this host that connect networks to the outside, in the file's order.
    pub uplinks: Vec<Uplink>,
    /// Broadcast domains, in the file's order.
    pub networks: Vec<Network>,
    /// VMs: those of the main file first, then those of the included files, in the order of
    /// `include` and of paths.
    pub vms: Vec<Vm>,
    /// Where all this is written; no part of what it says.
    pub origin: Origin,
}

impl Topology {
    /// The folder of the control socket, where the daemon keeps files that must outlive it.
    pub fn run_dir(&self) -> &Path {
        self.control.path.parent().unwrap_or(Path::new("/"))
    }

    /// The network of `nic`, which is one of this topology.
    pub fn network_of(&self, nic: &Nic) -> &Network {
        &self.networks[nic.network_idx]
    }

    /// Networks that use the uplink with this index.
    pub fn networks_on(&self, uplink_idx: usize) -> impl Iterator<Item = (usize, &Network)> {
        self.networks
            .iter()
            .enumerate()
            .filter(move |(_, network)| network.uplink_idx == Some(uplink_idx))
    }

    /// Every NIC with its VM, in order.
    pub fn nics(&self) -> impl Iterator<Item = (&Vm, &Nic)> {
        self.vms
            .iter()
            .flat_map(|vm| vm.nics.iter().map(move |nic| (vm, nic)))
    }
}

/// What a core does after it has found nothing for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// It sleeps until it is kicked.
    #[default]
    Adaptive,
    /// It goes on polling.
    Poll,
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Absolute, at most 107 bytes.
    pub path: PathBuf,
    /// Group of the socket, by name or number; none: the daemon's own.
    pub group: Option<String>,
    /// Permission bits, at most `0o777`.
    pub mode: u32,
}

/// Where metrics can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Address and port of a TCP socket; the port is not 0.
    pub listen: SocketAddr,
}

/// A device of this host that connects networks to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Unique among uplinks.
    pub name: String,
    /// Name of the device, which no other uplink or NIC uses. The daemon checks whether this host
    /// has it.
    pub device: String,
    /// How its frames are received.
    pub mode: XdpMode,
    /// Device queues to use, 1 to 64; none: all that the device has.
    pub queues: Option<u16>,
    /// Length of a queue's receive ring, in frames: a power of two from 512 to 32768.
    pub ring: u16,
    /// Whether the device is attached even if the host itself uses it.
    pub take: bool,
}

/// How AF_XDP receives frames from a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// The best that the driver has: zero-copy, else native, else skb.
    #[default]
    Auto,
    /// In the driver, which writes into our memory.
    ZeroCopy,
    /// In the driver; the kernel copies.
    Copy,
    /// Above the driver, which needs no XDP support; the kernel copies.
    Skb,
}

/// A broadcast domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Unique among networks.
    pub name: String,
    /// Tag on the uplink, 1 to 4094; none: untagged.
    pub vlan: Option<u16>,
    /// Largest payload of a frame, 68 to 9000 bytes (Ethernet header not counted).
    pub mtu: u16,
    /// Which of [`Topology::uplinks`]; none: frames stay on this host.
    pub uplink_idx: Option<usize>,
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Unique among VMs.
    pub name: String,
    /// Words for people and metrics, at most 16: names of at most 64 letters, digits and `_`, a
    /// letter first; texts of 1 to 128 bytes without control characters.
    pub labels: BTreeMap<String, String>,
    /// Limits over all its NICs.
    pub limit: VmLimit,
    /// At least one.
    pub nics: Vec<Nic>,
}

/// Limits of a VM, over all its NICs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmLimit {
    /// On frames from the VM. Frames over it wait in the VM's rings.
    pub from_vm: Option<Limit>,
    /// On frames to the VM. Frames over it are queued or dropped: see [`Limit::queue`].
    pub to_vm: Option<Limit>,
}

/// Limit of one direction: bits, packets, or both. Counts Ethernet frames without FCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bits a second, 10 kbit/s to 400 Gbit/s.
    pub rate: Option<BitsPerSec>,
    /// Packets a second, at most a thousand million.
    pub packets: Option<PacketsPerSec>,
    /// Bytes that may pass at once: at least the longest frame of the VM's networks and 250 us of
    /// the rate, at most 1 GiB. None: 64 KiB, or 4 ms of the rate if that is more. Always none
    /// without a rate.
    pub burst: Option<Bytes>,
    /// To the VM: how long frames over the limit may be queued in the switch, 1 ms to 1 s, by
    /// default 20 ms; none: they are dropped. From the VM: always none, since frames wait in its
    /// rings.
    pub queue: Option<Micros>,
}

/// One NIC of a VM: a port of the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Unique in its VM.
    pub name: String,
    /// Whether a guest can connect. If not, all that it holds stays its own: path, address, device.
    pub enabled: bool,
    /// Which of [`Topology::networks`].
    pub network_idx: usize,
    /// Addresses it may send from.
    pub mac: MacPolicy,
    /// Queue pairs that the guest may enable, 1 to 16; 1 for other ports than vhost-user.
    pub queues: u16,
    /// Its kind.
    pub port: PortKind,
    /// The first rule that matches decides; a frame that none matches passes. No rule is covered by
    /// an earlier one; ranges of numbers ascend and are not adjacent; only IP has a `cidr`, of the
    /// same family as ICMP or ICMPv6.
    pub rules: Vec<Rule>,
}

/// Addresses that a NIC may send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacPolicy {
    /// `mac: "52:54:…"`: this one only, known before the guest sends.
    Fixed(MacAddr),
    /// Neither `mac` nor `macs`: the first one it sends from, from then on.
    Sticky,
    /// `macs: N`: up to this many, learned; at least 1.
    Learn(u32),
    /// `macs: any`: any address.
    Any,
}

/// The kind of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A vhost-user socket.
    VhostUser {
        /// Absolute, at most 107 bytes; no other port and not the control socket uses it.
        path: PathBuf,
        /// Which side creates the socket.
        listens: Listens,
        /// Group of the socket, by name or number; none: the daemon's own. None where the guest
        /// listens.
        group: Option<String>,
        /// Permission bits, at most `0o777`. Unused where the guest listens.
        mode: u32,
    },
    /// A tap device, which is created if it is missing.
    Tap {
        /// Name of the device, which no other NIC or uplink uses.
        name: String,
    },
    /// AF_XDP on a device, for instance one end of a veth pair whose other end is in a container.
    AfXdp {
        /// Name of the device, which no other NIC or uplink uses. The daemon checks whether this
        /// host has it.
        device: String,
        /// How its frames are received.
        mode: XdpMode,
        /// As [`Uplink::ring`].
        ring: u16,
        /// Device queues to use, 1 to 64; none: all that the device has.
        queues: Option<u16>,
    },
}

/// Which side creates the vhost-user socket and listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listens {
    /// weir listens, the guest connects.
    #[default]
    Weir,
    /// The guest listens, weir connects.
    Guest,
}

/// The name of a port for operators: `web/net0`.
pub fn port_name(vm: &Vm, nic: &Nic) -> String {
    format!("{}/{}", vm.name, nic.name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn topology() -> Topology {
        let nic = Nic {
            name: "net0".into(),
            enabled: true,
            network_idx: 1,
            mac: MacPolicy::Sticky,
            queues: 1,
            port: PortKind::VhostUser {
                path: "/run/weir/web.sock".into(),
                listens: Listens::Weir,
                group: None,
                mode: DEFAULT_SOCKET_MODE,
            },
            rules: Vec::new(),
        };
        let network = |name: &str| Network {
            name: name.into(),
            vlan: None,
            mtu: DEFAULT_MTU,
            uplink_idx: None,
        };
        Topology {
            cores: Vec::new(),
            idle: Idle::default(),
            flows: DEFAULT_FLOWS,
            ports: DEFAULT_PORTS,
            control: Control {
                path: DEFAULT_CONTROL_PATH.into(),
                group: None,
                mode: DEFAULT_SOCKET_MODE,
            },
            metrics: None,
            uplinks: Vec::new(),
            networks: vec![network("blue"), network("red")],
            vms: vec![Vm {
                name: "web".into(),
                labels: BTreeMap::new(),
                limit: VmLimit::default(),
                nics: vec![nic],
            }],
            origin: Origin::default(),
        }
    }

    #[test]
    fn port_is_named_after_its_vm_and_nic() {
        let topology = topology();
        let names: Vec<_> = topology
            .nics()
            .map(|(vm, nic)| port_name(vm, nic))
            .collect();
        assert_eq!(names, ["web/net0"]);
    }

    #[test]
    fn run_dir_is_the_folder_of_the_control_socket() {
        let mut topology = topology();
        assert_eq!(topology.run_dir(), Path::new("/run/weir"));
        topology.control.path = "/control.sock".into();
        assert_eq!(topology.run_dir(), Path::new("/"));
    }

    #[test]
    fn nic_finds_its_network() {
        let topology = topology();
        assert_eq!(topology.network_of(&topology.vms[0].nics[0]).name, "red");
    }
}
