//! Checks one uplink.

use crate::context::Context;
use crate::diagnostics::shown;
use crate::node::Node;
use crate::scalar::{self, optional};
use crate::topology::{DEFAULT_RING, Uplink, XdpMode};

/// Most queues of one device.
pub const QUEUES_MAX: u16 = 64;

/// Lengths of a queue's receive ring, in frames: powers of two.
const RINGS: [(&str, u16); 7] = [
    ("512", 512),
    ("1024", 1024),
    ("2048", 2048),
    ("4096", 4096),
    ("8192", 8192),
    ("16384", 16384),
    ("32768", 32768),
];

/// Checks one uplink. None: `mistakes` says why.
pub(crate) fn check(
    context: &mut Context<'_>,
    name: &str,
    name_node: &Node,
    node: &Node,
) -> Option<Uplink> {
    if !node.is_map() {
        return None;
    }
    let device = device(context, name, name_node, node);
    let mode = mode(context, node);
    let queues = optional(node.get("queues"), None, |node| match node.text()? {
        "auto" => Some(None),
        _ => scalar::small(node, "queues", 1..=QUEUES_MAX, context.mistakes).map(Some),
    });
    let ring = ring(context, node);
    let take = optional(node.get("take"), false, |node| {
        scalar::flag(node, "take", context.mistakes)
    });
    Some(Uplink {
        name: name.to_owned(),
        device: device?,
        mode: mode?,
        queues: queues?,
        ring: ring?,
        take: take?,
    })
}

/// The `mode` of an uplink or an AF_XDP port.
pub(crate) fn mode(context: &mut Context<'_>, port: &Node) -> Option<XdpMode> {
    let modes = [
        ("auto", XdpMode::Auto),
        ("zero-copy", XdpMode::ZeroCopy),
        ("copy", XdpMode::Copy),
        ("skb", XdpMode::Skb),
    ];
    optional(port.get("mode"), XdpMode::default(), |node| {
        scalar::choice(node, "mode", &modes, context.mistakes)
    })
}

fn device(
    context: &mut Context<'_>,
    name: &str,
    name_node: &Node,
    uplink: &Node,
) -> Option<String> {
    let Some(node) = uplink.get("device") else {
        let message = format!("uplink `{}` has no `device`", shown(name));
        context.mistakes.add(
            name_node.at,
            message,
            "add the device's name, as in `device: eth1`",
        );
        return None;
    };
    let device = scalar::device(node, "device", context.mistakes)?;
    context.claim_device(device, format!("uplink `{}`", shown(name)), node.at)
}

/// The `ring` of an uplink or an AF_XDP port.
pub(crate) fn ring(context: &mut Context<'_>, port: &Node) -> Option<u16> {
    optional(port.get("ring"), DEFAULT_RING, |node| {
        scalar::choice(node, "ring", &RINGS, context.mistakes)
    })
}
