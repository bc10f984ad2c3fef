//! The checked values: what the daemon is given.
//!
//! Made by `check` only from a file without mistakes: names are unique, every NIC's network exists, no two NICs share a
//! socket or, in one network, a MAC address. All of it is plain data, to be cloned and compared freely.

use std::path::{Path, PathBuf};

use crate::address::{Cidr, MacAddr};
use crate::units::{BitsPerSec, Bytes, CoreId, Micros, PacketsPerSec};

/// Where the control socket is when the file doesn't say.
pub const DEFAULT_CONTROL_PATH: &str = "/run/weir/control.sock";
/// Permission bits of a socket when the file doesn't say: owner and group.
pub const DEFAULT_SOCKET_MODE: u32 = 0o660;
/// Capacity of the flow table when the file doesn't say.
pub const DEFAULT_FLOWS: usize = 1_048_576;
/// Payload bytes of a frame when the file doesn't say.
pub const DEFAULT_MTU: u16 = 1500;
/// Payload bytes of a frame at most in a network with an uplink or a NIC by AF_XDP: what the kernel lets pass through XDP in one
/// buffer, two VLAN tags beside it.
pub const XDP_MTU_MAX: u16 = 3498;
/// Received frames that wait for the core at most, per queue of a device, where nothing else is said.
pub const DEFAULT_RING: u16 = 2048;

/// A whole topology: one daemon's cores, networks and VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// CPUs to poll on: at least one, none twice, in the file's order.
    pub cores: Vec<CoreId>,
    /// What a core does that finds nothing.
    pub idle: Idle,
    /// Capacity of the flow table, in flows.
    pub flows: usize,
    /// The socket on which operators talk to the daemon.
    pub control: Control,
    /// Devices of this host that networks reach the outside by, in the file's order.
    pub uplinks: Vec<Uplink>,
    /// Broadcast domains, in the file's order.
    pub networks: Vec<Network>,
    /// VMs: those of the file itself first, then those of the included files in the order of their paths.
    pub vms: Vec<Vm>,
}

impl Topology {
    /// The folder of the control socket: where the daemon keeps what must outlive it.
    pub fn run_dir(&self) -> &Path {
        self.control.path.parent().unwrap_or(Path::new("/"))
    }

    /// The network that `nic` is plugged into; `nic` is one of this topology's.
    pub fn network_of(&self, nic: &Nic) -> &Network {
        &self.networks[nic.network_idx]
    }

    /// Networks that use the uplink with this index.
    pub fn networks_on(&self, uplink_idx: usize) -> impl Iterator<Item = (usize, &Network)> {
        self.networks.iter().enumerate().filter(move |(_, network)| network.uplink_idx == Some(uplink_idx))
    }

    /// Every NIC with its VM, in order.
    pub fn nics(&self) -> impl Iterator<Item = (&Vm, &Nic)> {
        self.vms.iter().flat_map(|vm| vm.nics.iter().map(move |nic| (vm, nic)))
    }
}

/// What a core does when it finds nothing for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// It sleeps until somebody kicks it.
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
    /// Group name or number that the socket is given to; none: the daemon's own.
    pub group: Option<String>,
    /// Permission bits, at most `0o777`.
    pub mode: u32,
}

/// A device of this host by which networks reach the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Unique among uplinks.
    pub name: String,
    /// Name of the device, of no other uplink or NIC. Whether this host has it is for the daemon to find out.
    pub device: String,
    /// How its frames are fetched.
    pub mode: XdpMode,
    /// Device queues to use, 1 to 64; none: all that the device has.
    pub queues: Option<u16>,
    /// Received frames that wait for the core at most, per queue: a power of two from 512 to 32768.
    pub ring: u16,
    /// Whether the device is taken although the host itself uses it.
    pub take: bool,
}

/// How frames of a device are fetched by AF_XDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// The best that the driver has: zero-copy, else native, else skb.
    #[default]
    Auto,
    /// In the driver, which writes into our memory itself.
    ZeroCopy,
    /// In the driver; the kernel copies.
    Copy,
    /// Behind the driver, which then needs to know nothing of XDP; the kernel copies.
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

/// A virtual machine: what its NICs share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Unique among VMs.
    pub name: String,
    /// The most that it may send and get.
    pub limit: VmLimit,
    /// At least one.
    pub nics: Vec<Nic>,
}

/// The most that a VM may send and get, over all its NICs. Both none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmLimit {
    /// What it may send. What is over it waits in the VM's rings.
    pub from_vm: Option<Limit>,
    /// What it may get. What is over it waits, or is dropped: see [`Limit::queue`].
    pub to_vm: Option<Limit>,
}

/// One direction's limit: a rate, packets, or both. Ethernet frames without FCS are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bits a second, 10 kbit/s to 400 Gbit/s.
    pub rate: Option<BitsPerSec>,
    /// Packets a second, a thousand million at most.
    pub packets: Option<PacketsPerSec>,
    /// Bytes that may pass at once: at least the longest frame that the VM's networks allow, and a four-thousandth of a second
    /// of the rate. None: 64 KiB, or four milliseconds of the rate if that is more. None where there is no rate.
    pub burst: Option<Bytes>,
    /// Of what a VM may get: how long what is over it may wait in the switch, 1 ms to 1 s, as 20 ms where the file doesn't say;
    /// none: it is dropped. Of what a VM may send: none, since that waits in its rings.
    pub queue: Option<Micros>,
}

/// One NIC of a VM: a port of the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Unique in its VM.
    pub name: String,
    /// Which of [`Topology::networks`].
    pub network_idx: usize,
    /// Addresses it may send from.
    pub mac: MacPolicy,
    /// Queue pairs the guest may enable, 1 to 16; 1 where it is no vhost-user port.
    pub queues: u16,
    /// How the guest is reached.
    pub port: PortKind,
    /// What it may send and get: the first rule that fits decides, what none fits passes. No rule is covered by one before it.
    pub rules: Vec<Rule>,
}

/// One rule: what becomes of frames of one direction that it fits. The first one that fits decides; what none fits, passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What becomes of them.
    pub verdict: Verdict,
    /// Which way they go.
    pub direction: Direction,
    /// What they are.
    pub proto: Proto,
    /// Address of the other side: where a frame from the VM goes, where one to the VM comes from. None: any. None for what
    /// isn't IP, and of the right family for ICMP.
    pub cidr: Option<Cidr>,
    /// Destination ports where `proto` has ports, types where it is ICMP: first and last of each range, ascending, with
    /// something between. Empty: any.
    pub numbers: Vec<(u16, u16)>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The frame passes.
    Allow,
    /// The frame is dropped.
    Deny,
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The VM sends it.
    FromVm,
    /// The VM gets it.
    ToVm,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// IPv4 or IPv6, whatever is in it.
    Ip,
    /// This IP protocol, in either family; never 1 or 58, which are the next two.
    Number(u8),
    /// ICMP, in IPv4.
    Icmp,
    /// ICMPv6, in IPv6.
    Icmp6,
    /// ARP.
    Arp,
    /// Neither IPv4 nor IPv6; ARP is one of these.
    NonIp,
}

/// Addresses that a NIC may send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacPolicy {
    /// `mac: "52:54:…"`: this one alone, known before the guest speaks.
    Fixed(MacAddr),
    /// Neither `mac` nor `macs`: the first one it sends from, from then on.
    Sticky,
    /// `macs: N`: up to so many, learned; at least 1.
    Learn(u32),
    /// `macs: any`: whatever it sends from.
    Any,
}

/// How a guest is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// By a vhost-user socket.
    VhostUser {
        /// Absolute, at most 107 bytes, of no other port and not the control socket's.
        path: PathBuf,
        /// Who makes the socket.
        listens: Listens,
        /// Group name or number that the socket is given to; none: the daemon's own. None where the guest listens.
        group: Option<String>,
        /// Permission bits, at most `0o777`. Of no meaning where the guest listens.
        mode: u32,
    },
    /// By a tap device, which is made if it isn't there.
    Tap {
        /// Name of the device, of no other NIC or uplink.
        name: String,
    },
    /// By AF_XDP on a device, as one end of a veth whose other end is in a container.
    AfXdp {
        /// Name of the device, of no other NIC or uplink. Whether this host has it is for the daemon to find out.
        device: String,
        /// How its frames are fetched.
        mode: XdpMode,
        /// As [`Uplink::ring`].
        ring: u16,
        /// Device queues to use, 1 to 64; none: all that the device has.
        queues: Option<u16>,
    },
}

/// Which side makes the vhost-user socket and waits for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listens {
    /// weir listens, the guest connects.
    #[default]
    Weir,
    /// The guest listens, weir connects.
    Guest,
}

/// The name of a port as operators see it: `web/net0`.
pub fn port_name(vm: &Vm, nic: &Nic) -> String {
    format!("{}/{}", vm.name, nic.name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn topology() -> Topology {
        let nic = Nic {
            name: "net0".into(),
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
        let network = |name: &str| Network { name: name.into(), vlan: None, mtu: DEFAULT_MTU, uplink_idx: None };
        Topology {
            cores: Vec::new(),
            idle: Idle::default(),
            flows: DEFAULT_FLOWS,
            control: Control { path: DEFAULT_CONTROL_PATH.into(), group: None, mode: DEFAULT_SOCKET_MODE },
            uplinks: Vec::new(),
            networks: vec![network("blue"), network("red")],
            vms: vec![Vm { name: "web".into(), limit: VmLimit::default(), nics: vec![nic] }],
        }
    }

    #[test]
    fn port_is_named_after_its_vm_and_nic() {
        let topology = topology();
        let names: Vec<_> = topology.nics().map(|(vm, nic)| port_name(vm, nic)).collect();
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
