//! Opens a device's sockets and attaches its XDP program, in the best mode that topology and driver
//! allow.

use config::XdpMode;
use flowtable::PortId;
use pmd::SetupError;
use pmd::port::afxdp::{self, AfXdpQueue, XskMode, XskOptions, XskWatch};
use pmd::port::tap::{self, TapWatch};
use pmd::port::{RxQueue, TxQueue};
use pmd::sys::bpf::{Attach, XdpLink};

use super::netlink::link::Device;
use super::port::Fetched;
use super::setup::Prepared;
use crate::plan::devices::DeviceSpec;

/// Transmit frames of one queue.
const N_TX: u32 = 2048;
/// Offloads to switch off at the other end of a veth: in skb mode nothing segments its frames.
const PEER_OFF: &str = "tso off tx-udp-segmentation off";

/// The XDP program of a device, detached on drop. The sockets are in the queues.
#[derive(Debug)]
pub(crate) struct Opened {
    /// None: it is a tap.
    _link: Option<XdpLink>,
    pub(crate) tap: Option<TapWatch>,
    /// None: it is a tap.
    pub(crate) fetched: Option<Fetched>,
    /// What an operator should know.
    pub(crate) remarks: Vec<String>,
}

/// Queues for the cores, and handles for their sockets' statistics.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    pub(crate) rxqs: Vec<RxQueue>,
    pub(crate) txqs: Vec<TxQueue>,
    pub(crate) watches: Vec<XskWatch>,
}

/// Opens every queue of a prepared device, and redirects its frames there.
///
/// # Errors
/// A sentence that says what to do.
pub(crate) fn open(
    port: PortId,
    device: &Device,
    spec: &DeviceSpec,
    prepared: &mut Prepared,
) -> Result<(Opened, Queues), String> {
    let (link, attach, mut remarks) = attach(device, spec.mode, prepared)?;
    let mut queues = Queues::default();
    let (mut is_zero_copy, mut why_copied) = (true, None);
    for queue in 0..prepared.n_queues {
        let (opened, why) = open_queue(device, queue, attach, spec, afxdp::open)?;
        why_copied = why_copied.or(why);
        if let Some(socket) = opened.socket() {
            link.serve(queue, socket)
                .map_err(|e| format!("{}: {e}", device.name))?;
        }
        is_zero_copy &= opened.info.is_zero_copy;
        queues.watches.push(opened.watch());
        queues.rxqs.push(RxQueue::afxdp(port, opened.rx));
        queues.txqs.push(TxQueue::afxdp(opened.tx));
    }
    let fetched = Fetched {
        is_native: attach == Attach::Native,
        is_zero_copy,
        n_queues: prepared.n_queues,
    };
    remarks.extend(why_copied);
    remarks.extend(prepared.remarks.iter().cloned());
    Ok((
        Opened {
            _link: Some(link),
            tap: None,
            fetched: Some(fetched),
            remarks,
        },
        queues,
    ))
}

/// Opens a tap; creates it if it is missing.
///
/// # Errors
/// A sentence that says what to do.
pub(crate) fn open_tap(port: PortId, name: &str) -> Result<(Opened, Queues), String> {
    let (rx, tx) = tap::open_tap(name).map_err(|e| e.to_string())?;
    let opened = Opened {
        _link: None,
        tap: Some(rx.watch()),
        fetched: None,
        remarks: Vec::new(),
    };
    let queues = Queues {
        rxqs: vec![RxQueue::tap(port, rx)],
        txqs: vec![TxQueue::tap(tx)],
        watches: Vec::new(),
    };
    Ok((opened, queues))
}

/// Attaches the program; returns remarks about the mode in use.
fn attach(
    device: &Device,
    mode: XdpMode,
    prepared: &mut Prepared,
) -> Result<(XdpLink, Attach, Vec<String>), String> {
    let mut remarks = Vec::new();
    if mode != XdpMode::Skb {
        match XdpLink::attach(device.index, Attach::Native, prepared.n_queues) {
            Ok(link) => return Ok((link, Attach::Native, remarks)),
            Err(e) if mode == XdpMode::Auto => {
                remarks.push(format!("in skb mode, which is slower: {e}"))
            }
            Err(e) => {
                return Err(format!(
                    "{}: {e}; `mode: skb` works with every driver, and `mode: auto` takes the best \
                    there is",
                    device.name
                ));
            }
        }
    }
    prepared.prepare_skb_mode()?;
    let link = XdpLink::attach(device.index, Attach::Skb, prepared.n_queues);
    let link = link.map_err(|e| format!("{}: {e}", device.name))?;
    if device.kind == "veth" {
        remarks.push(format!(
            "in skb mode frames that the other end of {} leaves unsegmented are lost: there, \
            `ethtool -K <device> {PEER_OFF}`",
            device.name
        ));
    }
    Ok((link, Attach::Skb, remarks))
}

/// Opens a queue by `open`. Also returns why zero-copy failed, if it was tried.
fn open_queue(
    device: &Device,
    queue: u32,
    attach: Attach,
    spec: &DeviceSpec,
    open: impl Fn(&XskOptions) -> Result<AfXdpQueue, SetupError>,
) -> Result<(AfXdpQueue, Option<String>), String> {
    let (mode, is_veth) = (spec.mode, device.kind == "veth");
    let (n_rx, n_tx) = (spec.ring.into(), N_TX);
    let options = |mode| XskOptions {
        device: device.name.clone(),
        queue,
        mode,
        attach,
        is_veth,
        n_rx,
        n_tx,
    };
    let try_zero_copy = mode == XdpMode::ZeroCopy
        || (mode == XdpMode::Auto && attach == Attach::Native && !is_veth);
    let mut why_copied = None;
    if try_zero_copy {
        match open(&options(XskMode::ZeroCopy)) {
            Ok(opened) => return Ok((opened, None)),
            // If something else is wrong, copy mode fails for it below.
            Err(e) if mode == XdpMode::Auto => {
                why_copied = Some(format!("by copy, which is slower: {e}"))
            }
            Err(e) => {
                return Err(format!(
                    "{e}; `mode: auto` copies where the driver can't write into our memory"
                ));
            }
        }
    }
    open(&options(XskMode::Copy))
        .map(|opened| (opened, why_copied))
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::devices::DeviceKind;

    /// A driver that can't write into our memory.
    fn copies(options: &XskOptions) -> Result<AfXdpQueue, SetupError> {
        match options.mode {
            XskMode::ZeroCopy => Err(SetupError::new("its driver can't do that")),
            XskMode::Copy => Ok(AfXdpQueue::in_memory(options).0),
        }
    }

    fn opened(mode: XdpMode, kind: &str, attach: Attach) -> Result<Option<String>, String> {
        let device = Device {
            name: "eth1".into(),
            kind: kind.into(),
            ..Device::default()
        };
        let spec = DeviceSpec {
            kind: DeviceKind::AfXdp,
            device: device.name.clone(),
            mode,
            queues: None,
            ring: 64,
            take: false,
            mtu: None,
        };
        open_queue(&device, 0, attach, &spec, copies).map(|(_, why)| why)
    }

    #[test]
    fn why_a_device_copies_is_said_where_more_was_tried() {
        let why = opened(XdpMode::Auto, "", Attach::Native).unwrap().unwrap();
        assert_eq!(why, "by copy, which is slower: its driver can't do that");
        for (mode, kind, attach) in [
            (XdpMode::Auto, "veth", Attach::Native),
            (XdpMode::Auto, "", Attach::Skb),
            (XdpMode::Copy, "", Attach::Native),
            (XdpMode::Skb, "", Attach::Skb),
        ] {
            assert_eq!(opened(mode, kind, attach), Ok(None), "{mode:?} {kind}");
        }
        let refused = opened(XdpMode::ZeroCopy, "", Attach::Native).unwrap_err();
        assert!(
            refused.contains("its driver can't do that; `mode: auto`"),
            "{refused}"
        );
    }
}
