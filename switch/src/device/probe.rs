//! Checks devices against the topology without changing anything: for `weir check`, and before
//! `weir run` attaches the first of them.

use std::io;

use super::channels;
use super::in_use;
use super::netlink::link::Device;
use super::netlink::socket::Netlink;
use crate::plan::devices::{DeviceKind, DeviceSpec};
use crate::plan::ports::{PortKind, PortSpec};

/// Largest MTU of a device whose frames XDP takes in one buffer: a page less its headroom and what
/// the kernel keeps at its end, less an Ethernet header.
const DEVICE_MTU_MAX: u32 = 3506;

/// Why a device can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It isn't here.
    Absent(String),
    /// It has an XDP program; after a killed daemon only for a moment.
    Busy(String),
    /// Something else is wrong.
    Wrong(String),
}

impl Unfit {
    /// The sentence.
    pub(crate) fn into_text(self) -> String {
        match self {
            Unfit::Absent(why) | Unfit::Busy(why) | Unfit::Wrong(why) => why,
        }
    }
}

/// Finds and checks the device. None: a tap that is yet to be created.
///
/// # Errors
/// [`Unfit`], with a sentence that says what to do.
pub(crate) fn probe(netlink: &mut Netlink, spec: &DeviceSpec) -> Result<Option<Device>, Unfit> {
    match spec.kind {
        DeviceKind::AfXdp => probe_device(netlink, spec).map(Some),
        DeviceKind::Tap => probe_tap(netlink, &spec.device),
    }
}

fn probe_tap(netlink: &mut Netlink, name: &str) -> Result<Option<Device>, Unfit> {
    let found = Device::named(netlink, name)
        .map_err(|e| Unfit::Wrong(format!("cannot look at device {name}: {e}")))?;
    match found {
        Some(device) if device.kind != "tun" => Err(Unfit::Wrong(format!(
            "there is a device {name} that is not a tap: name another, or remove it"
        ))),
        found => Ok(found),
    }
}

/// Finds and checks a device that is to be attached by AF_XDP.
pub(crate) fn probe_device(netlink: &mut Netlink, spec: &DeviceSpec) -> Result<Device, Unfit> {
    let name = &spec.device;
    let cannot = |e: io::Error| Unfit::Wrong(format!("cannot look at device {name}: {e}"));
    let Some(device) = Device::named(netlink, name).map_err(cannot)? else {
        return Err(Unfit::Absent(absent(netlink, name)));
    };
    if !spec.take
        && let Some(used) = in_use::uses(netlink, &device).map_err(cannot)?
    {
        return Err(Unfit::Wrong(in_use(name, &used)));
    }
    check_mtu(&device, spec)
        .and_then(|()| channels::check(&device, spec.queues))
        .map_err(Unfit::Wrong)?;
    if let Some(program) = device.xdp_program {
        return Err(Unfit::Busy(format!(
            "{name} has an XDP program (number {program}) already: another weir, or remove it by \
            `ip link set {name} xdp off`"
        )));
    }
    Ok(device)
}

fn absent(netlink: &mut Netlink, name: &str) -> String {
    let names: Vec<_> = Device::all(netlink)
        .unwrap_or_default()
        .into_iter()
        .map(|device| device.name)
        .collect();
    let meant = config::nearest(name, names.iter().map(String::as_str));
    let meant = meant.map_or_else(String::new, |meant| format!("did you mean {meant}? "));
    let names = names.join(", ");
    format!(
        "there is no device {name} in this network namespace: {meant}here there are {names}; one \
        that was moved into another namespace, as into a container, is not seen from here"
    )
}

fn in_use(name: &str, used: &str) -> String {
    format!(
        "{name} {used}: the host would lose that, and perhaps your access to it; remove it, or \
        write `take: true` if that is intended"
    )
}

/// Whether a device that is attached carries the longest frames of its networks. One that isn't
/// there is checked when it comes.
///
/// # Errors
/// A sentence that says what to do.
pub(crate) fn check_attached(spec: &DeviceSpec) -> Result<(), String> {
    let found = Netlink::open().and_then(|mut netlink| Device::named(&mut netlink, &spec.device));
    match found {
        Ok(Some(device)) if spec.kind == DeviceKind::AfXdp => check_mtu(&device, spec),
        _ => Ok(()),
    }
}

fn check_mtu(device: &Device, spec: &DeviceSpec) -> Result<(), String> {
    let (name, mtu) = (&device.name, device.mtu);
    if mtu > DEVICE_MTU_MAX {
        return Err(format!(
            "{name} has an MTU of {mtu}, but XDP without multi-buffer ends at {DEVICE_MTU_MAX}: \
            `ip link set {name} mtu {}`",
            config::XDP_MTU_MAX
        ));
    }
    match &spec.mtu {
        Some((wanted, network)) if u32::from(*wanted) > mtu => Err(format!(
            "{name} has an MTU of {mtu}, too small for network {network} with {wanted}: `ip link \
            set {name} mtu {wanted}`, or give the network a smaller one"
        )),
        _ => Ok(()),
    }
}

/// What `weir check` reports about the devices among these ports: remarks, or all errors.
pub(crate) fn check(ports: &[PortSpec]) -> Result<Vec<String>, Vec<String>> {
    let device = |port: &'_ PortSpec| match &port.kind {
        PortKind::Device(device) if port.enabled => Some((port.name.clone(), device.clone())),
        _ => None,
    };
    let devices: Vec<_> = ports.iter().filter_map(device).collect();
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(e) => {
            return Ok(vec![format!(
                "not checked: devices, since the kernel can't be asked: {e}"
            )]);
        }
    };
    let (mut remarks, mut wrong) = (Vec::new(), Vec::new());
    for (port, spec) in devices {
        match probe(&mut netlink, &spec) {
            Ok(Some(device)) if !device.is_up => {
                remarks.push(format!("{port}: {}", is_down(&device.name)))
            }
            Ok(_) => {}
            Err(Unfit::Absent(why)) => remarks.push(format!("not checked: {port}: {why}")),
            // Perhaps the daemon that runs this very file has it.
            Err(Unfit::Busy(why)) => remarks.push(format!("{port}: {why}")),
            Err(Unfit::Wrong(why)) => wrong.push(format!("{port}: {why}")),
        }
    }
    if wrong.is_empty() {
        Ok(remarks)
    } else {
        Err(wrong)
    }
}

/// Text for a device that is administratively down.
pub(crate) fn is_down(device: &str) -> String {
    format!("{device} is down: `ip link set {device} up`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::XdpMode;

    fn spec(device: &str) -> DeviceSpec {
        DeviceSpec {
            kind: DeviceKind::AfXdp,
            device: device.into(),
            mode: XdpMode::Auto,
            queues: None,
            ring: config::DEFAULT_RING,
            take: false,
            mtu: None,
        }
    }

    #[test]
    fn absent_device_is_answered_with_the_nearest_and_all_others() {
        let why = probe(&mut Netlink::open().unwrap(), &spec("l0")).unwrap_err();
        let Unfit::Absent(why) = why else {
            panic!("{why:?}")
        };
        assert!(
            why.contains("no device l0") && why.contains("did you mean lo?"),
            "{why}"
        );
    }

    #[test]
    fn mtu_is_held_against_the_networks_and_against_xdp() {
        let device = |mtu| Device {
            name: "eth1".into(),
            mtu,
            ..Device::default()
        };
        let spec = DeviceSpec {
            mtu: Some((3000, "blue".into())),
            ..spec("eth1")
        };
        assert_eq!(check_mtu(&device(3000), &spec), Ok(()));
        let why = check_mtu(&device(1500), &spec).unwrap_err();
        assert!(
            why.contains(
                "MTU of 1500, too small for network blue with 3000: `ip link set eth1 mtu 3000`"
            ),
            "{why}"
        );
        let why = check_mtu(&device(9000), &spec).unwrap_err();
        assert!(
            why.contains("ends at 3506: `ip link set eth1 mtu 3498`"),
            "{why}"
        );
    }

    #[test]
    fn tap_may_be_absent_but_no_other_device() {
        let tap = |name| DeviceSpec {
            kind: DeviceKind::Tap,
            ..spec(name)
        };
        assert_eq!(
            probe(&mut Netlink::open().unwrap(), &tap("nosuchtap")),
            Ok(None)
        );
        let why = probe(&mut Netlink::open().unwrap(), &tap("lo"))
            .unwrap_err()
            .into_text();
        assert!(why.contains("lo that is not a tap"), "{why}");
    }

    #[test]
    fn device_in_use_says_by_what_and_how_to_take_it_nevertheless() {
        let said = in_use("eth0", "has the address 10.0.0.1/24");
        assert!(
            said.starts_with("eth0 has the address 10.0.0.1/24: ") && said.contains("`take: true`"),
            "{said}"
        );
    }
}
