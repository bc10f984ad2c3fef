//! One uplink's tree to its checked value.

use crate::check::{Check, optional};
use crate::node::Node;
use crate::report::shown;
use crate::scalar;
use crate::topology::{Uplink, XdpMode};

/// Queues of one device that are used at most.
pub const QUEUES_MAX: u16 = 64;

/// The uplink, or None: it is noted why not.
pub(crate) fn check(check: &mut Check<'_>, name: &str, name_node: &Node, node: &Node) -> Option<Uplink> {
    if !node.is_map() {
        return None;
    }
    let device = device(check, name, name_node, node);
    let modes =
        [("auto", XdpMode::Auto), ("zero-copy", XdpMode::ZeroCopy), ("copy", XdpMode::Copy), ("skb", XdpMode::Skb)];
    let mode =
        optional(node.get("mode"), XdpMode::default(), |node| scalar::choice(node, "mode", &modes, check.mistakes));
    let queues = optional(node.get("queues"), None, |node| match node.text()? {
        "auto" => Some(None),
        _ => scalar::small(node, "queues", 1..=QUEUES_MAX, check.mistakes).map(Some),
    });
    let take = optional(node.get("take"), false, |node| scalar::flag(node, "take", check.mistakes));
    Some(Uplink { name: name.to_owned(), device: device?, mode: mode?, queues: queues?, take: take? })
}

fn device(check: &mut Check<'_>, name: &str, name_node: &Node, uplink: &Node) -> Option<String> {
    let Some(node) = uplink.get("device") else {
        let message = format!("uplink `{}` has no `device`", shown(name));
        check.mistakes.add(name_node.at, message, "add the device's name, as in `device: eth1`");
        return None;
    };
    let device = scalar::device(node, "device", check.mistakes)?;
    check.claim_device(device, format!("uplink `{}`", shown(name)), node.at)
}
