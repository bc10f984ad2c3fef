//! Devices of this host, as the topology specifies them.

use config::{Topology, XdpMode};

/// A device, as the topology specifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceSpec {
    pub(crate) kind: DeviceKind,
    /// The device's name.
    pub(crate) device: String,
    pub(crate) mode: XdpMode,
    /// None: all that it has.
    pub(crate) queues: Option<u16>,
    /// Length of a queue's receive ring, in frames; unused for a tap.
    pub(crate) ring: u16,
    /// Whether it is attached although the host uses it.
    pub(crate) take: bool,
    /// The largest MTU of its networks, and the network that has it; none: it has no network.
    pub(crate) mtu: Option<(u16, String)>,
}

/// How a device's frames are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    /// By AF_XDP: the device exists, and all its frames go to the switch.
    AfXdp,
    /// By a file at its other end: the device is created if it is missing, and used by the host or
    /// a container.
    Tap,
}

impl DeviceSpec {
    /// Whether a device that is attached as `self` says is attached as `other` says, too: `take`
    /// holds when it is attached the next time, and an MTU is only checked.
    pub(crate) fn is_same_but_for_later(&self, other: &Self) -> bool {
        let settled = |spec: &Self| Self {
            take: false,
            mtu: None,
            ..spec.clone()
        };
        settled(self) == settled(other)
    }

    /// The device of a NIC by AF_XDP. `mtu`: of its network, and that network's name.
    pub(crate) fn af_xdp(
        device: &str,
        mode: XdpMode,
        queues: Option<u16>,
        ring: u16,
        mtu: (u16, String),
    ) -> Self {
        Self {
            kind: DeviceKind::AfXdp,
            device: device.to_owned(),
            mode,
            queues,
            ring,
            take: false,
            mtu: Some(mtu),
        }
    }

    /// The tap of this name, of a NIC.
    pub(crate) fn tap(name: &str, mtu: (u16, String)) -> Self {
        Self {
            kind: DeviceKind::Tap,
            ..Self::af_xdp(name, XdpMode::Auto, None, 0, mtu)
        }
    }
}

/// The device of the uplink with this index.
pub(crate) fn uplink_device(
    topology: &Topology,
    uplink_idx: usize,
    uplink: &config::Uplink,
) -> DeviceSpec {
    let largest = topology
        .networks_on(uplink_idx)
        .max_by_key(|(_, network)| network.mtu);
    let mtu = largest.map(|(_, network)| (network.mtu, network.name.clone()));
    let config::Uplink {
        device,
        mode,
        queues,
        ring,
        take,
        ..
    } = uplink.clone();
    DeviceSpec {
        kind: DeviceKind::AfXdp,
        device,
        mode,
        queues,
        ring,
        take,
        mtu,
    }
}
