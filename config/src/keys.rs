//! The table of keys: where each belongs, what kind of value it has, whether this version supports
//! it.
//!
//! One table serves reading, error messages and [`mod@crate::schema`]. [`walk`] compares a tree
//! with it and reports every key that is unknown, repeated, of the wrong kind or not supported yet;
//! `check` checks the values.

use std::collections::HashMap;

use crate::context::Mistakes;
use crate::diagnostics::{At, shown};
use crate::nearest::nearest;
use crate::node::{Node, Value};

/// Keys that this version doesn't support yet: (mapping, key). They are refused by name, never
/// ignored.
pub(crate) static NOT_YET: &[(&Shape, &str)] =
    &[(&TOPOLOGY, "metrics"), (&UPLINK, "rate"), (&VM, "share")];

/// A mapping with fixed keys.
pub(crate) struct Shape {
    /// Its name in messages, with an article.
    what: &'static str,
    pub(crate) keys: &'static [Key],
}

/// A key of a mapping, the kind of its value, and its description.
pub(crate) struct Key(
    pub(crate) &'static str,
    pub(crate) Kind,
    pub(crate) &'static str,
);

/// The kind of a key's value.
pub(crate) enum Kind {
    Scalar,
    /// A scalar or a list of scalars.
    Scalars,
    List(&'static Kind),
    Map(&'static Shape),
    /// A mapping whose keys are names that the user chooses.
    Names(&'static Shape),
}

use Kind::{List, Map, Names, Scalar, Scalars};

/// The file.
pub(crate) static TOPOLOGY: Shape = Shape {
    what: "a topology",
    keys: &[
        Key("cores", List(&Scalar), "CPUs to poll on, as in [2, 3]"),
        Key(
            "idle",
            Scalar,
            "what a core does that finds nothing: adaptive (sleep) | poll",
        ),
        Key("flows", Scalar, "capacity of the flow table"),
        Key("control", Map(&CONTROL), "the socket for operators"),
        Key("metrics", Map(&METRICS), "Prometheus text over HTTP"),
        Key(
            "include",
            List(&Scalar),
            "files that hold more `vms`, as in [ \"vms.d/*.yaml\" ]",
        ),
        Key("uplinks", Names(&UPLINK), "NICs of this host"),
        Key("networks", Names(&NETWORK), "broadcast domains"),
        Key("vms", Names(&VM), "virtual machines"),
    ],
};

/// A file named by `include`.
pub(crate) static INCLUDED: Shape = Shape {
    what: "an included file",
    keys: &[Key("vms", Names(&VM), "virtual machines")],
};

static CONTROL: Shape = Shape {
    what: "the control socket",
    keys: &[
        Key("path", Scalar, "an absolute path, at most 107 bytes"),
        Key("group", Scalar, "group that the socket is given to"),
        Key("mode", Scalar, "permission bits, as in \"0660\""),
    ],
};

static METRICS: Shape = Shape {
    what: "`metrics`",
    keys: &[Key(
        "listen",
        Scalar,
        "address and port, as in \"127.0.0.1:9477\"",
    )],
};

const XDP_MODE: Key = Key(
    "mode",
    Scalar,
    "how frames are fetched: auto | zero-copy | copy | skb",
);
const RING: Key = Key(
    "ring",
    Scalar,
    "received frames that wait at most, per queue: 512 to 32768, a power of two",
);

static UPLINK: Shape = Shape {
    what: "an uplink",
    keys: &[
        Key("device", Scalar, "name of the device, as in eth1"),
        XDP_MODE,
        Key(
            "queues",
            Scalar,
            "auto (all that the device has), or how many",
        ),
        RING,
        Key("rate", Scalar, "what the wire carries, as in 10gbit"),
        Key(
            "take",
            Scalar,
            "true: take the device although the host uses it",
        ),
    ],
};

static NETWORK: Shape = Shape {
    what: "a network",
    keys: &[
        Key(
            "vlan",
            Scalar,
            "tag on the uplink, 1 to 4094: guests send none of their own; none: untagged",
        ),
        Key(
            "uplink",
            Scalar,
            "name of the uplink; none: frames stay on this host",
        ),
        Key(
            "mtu",
            Scalar,
            "largest payload of a frame, 68 to 9000 bytes; with an uplink at most 3498",
        ),
    ],
};

static VM: Shape = Shape {
    what: "a VM",
    keys: &[
        Key(
            "limit",
            Map(&LIMIT),
            "the most that the VM may send and get, over all its NICs",
        ),
        Key("share", Map(&SHARE), "the VM's part of each uplink it uses"),
        Key("nics", Names(&NIC), "its NICs, at least one"),
    ],
};

static LIMIT: Shape = Shape {
    what: "a limit",
    keys: &[
        Key("from-vm", Map(&RATE), "what it may send: the rest waits"),
        Key(
            "to-vm",
            Map(&RATE_TO),
            "what it may get: the rest waits, for a bounded time",
        ),
    ],
};

const RATE_KEY: Key = Key(
    "rate",
    Scalar,
    "bits per second, 10kbit to 400gbit, as in 1gbit",
);
const PACKETS_KEY: Key = Key("packets", Scalar, "packets per second, as in 200kpps");
const BURST_KEY: Key = Key(
    "burst",
    Scalar,
    "bytes at once, as in 64KiB; none: that, or 4 ms of the rate",
);

static RATE: Shape = Shape {
    what: "a rate",
    keys: &[RATE_KEY, PACKETS_KEY, BURST_KEY],
};

static RATE_TO: Shape = Shape {
    what: "a rate",
    keys: &[
        RATE_KEY,
        PACKETS_KEY,
        BURST_KEY,
        Key(
            "queue",
            Scalar,
            "how long the rest may wait, 1ms to 1s, or none: it is dropped; default 20ms",
        ),
    ],
};

static SHARE: Shape = Shape {
    what: "a share",
    keys: &[
        Key("min", Scalar, "what it always gets, as in 200mbit"),
        Key("weight", Scalar, "its part of the rest"),
    ],
};

static NIC: Shape = Shape {
    what: "a NIC",
    keys: &[
        Key("network", Scalar, "name of the network it is plugged into"),
        Key(
            "mac",
            Scalar,
            "the one address it sends from; none: the first one sticks",
        ),
        Key(
            "macs",
            Scalar,
            "how many addresses it may send from, or any",
        ),
        Key(
            "queues",
            Scalar,
            "queue pairs, 1 to 16; with afxdp: queues of the device",
        ),
        Key("vhost-user", Map(&VHOST_USER), "a vhost-user socket"),
        Key("tap", Map(&TAP), "a tap device"),
        Key("afxdp", Map(&AFXDP), "a device, by AF_XDP"),
        Key(
            "rules",
            List(&Map(&RULE)),
            "what it may send and get: the first that fits decides, the rest passes",
        ),
    ],
};

static VHOST_USER: Shape = Shape {
    what: "a vhost-user port",
    keys: &[
        Key("path", Scalar, "an absolute path, at most 107 bytes"),
        Key("listens", Scalar, "who makes the socket: weir | guest"),
        Key("group", Scalar, "group that the socket is given to"),
        Key("mode", Scalar, "permission bits, as in \"0660\""),
    ],
};

static TAP: Shape = Shape {
    what: "a tap port",
    keys: &[Key(
        "name",
        Scalar,
        "name of the device, made if it isn't there",
    )],
};

static AFXDP: Shape = Shape {
    what: "an AF_XDP port",
    keys: &[
        Key(
            "device",
            Scalar,
            "name of the device, as one end of a veth whose other end is in a container",
        ),
        XDP_MODE,
        RING,
    ],
};

static RULE: Shape = Shape {
    what: "a rule",
    keys: &[
        Key("allow", Map(&DIRECTION), "what may pass"),
        Key("deny", Map(&DIRECTION), "what may not"),
    ],
};

static DIRECTION: Shape = Shape {
    what: "a rule's direction",
    keys: &[
        Key("from-vm", Map(&MATCH), "what the VM sends"),
        Key("to-vm", Map(&MATCH), "what it gets"),
    ],
};

static MATCH: Shape = Shape {
    what: "a match",
    keys: &[
        Key(
            "proto",
            Scalar,
            "tcp | udp | sctp | icmp | icmp6 | arp | non-ip | an IP protocol's number; none: all \
            IP",
        ),
        Key(
            "cidr",
            Scalar,
            "addresses of the other side, as in 10.0.0.0/8; none: any",
        ),
        Key(
            "port",
            Scalars,
            "destination ports, as in 25, 8000-8100 or [ 25, 8000-8100 ]; none: any",
        ),
        Key(
            "icmp-type",
            Scalars,
            "types of icmp or icmp6, as in 8 or [ 8, 11 ]; none: any",
        ),
    ],
};

impl Shape {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.0)
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.0 == name)
    }

    /// Whether this version refuses the key.
    pub(crate) fn lacks_yet(&self, name: &str) -> bool {
        NOT_YET
            .iter()
            .any(|(shape, key)| shape.what == self.what && *key == name)
    }
}

/// Compares the root of a file with `shape`. Keys that begin with `x-` are free for anchors.
pub(crate) fn walk(root: &Node, shape: &'static Shape, mistakes: &mut Mistakes) {
    Walk { mistakes }.map(root, shape, true);
}

struct Walk<'a> {
    mistakes: &'a mut Mistakes,
}

impl Walk<'_> {
    fn value(&mut self, key: &str, node: &Node, kind: &'static Kind) {
        match kind {
            Scalar => self.scalar(key, node),
            Scalars => match &node.value {
                Value::List(items) => items.iter().for_each(|item| self.scalar(key, item)),
                _ => self.scalar(key, node),
            },
            List(kind) => self.list(key, node, kind),
            Map(shape) => self.map(node, shape, false),
            Names(shape) => self.names(key, node, shape),
        }
    }

    fn scalar(&mut self, key: &str, node: &Node) {
        match node.value {
            Value::Text { .. } => {}
            Value::Null => self.mistakes.add(
                node.at,
                format!("`{key}` has no value"),
                format!("write one, as in `{key}: …`, or remove the key"),
            ),
            Value::List(_) | Value::Map(_) => self.mistakes.add(
                node.at,
                format!("`{key}` is a single value, not {}", kind_of(node)),
                format!("write the value behind the colon, as in `{key}: …`"),
            ),
        }
    }

    fn list(&mut self, key: &str, node: &Node, kind: &'static Kind) {
        let Some(items) = node.items() else {
            let help = match node.text() {
                Some(text) => format!("write `{key}: [{}]`", shown(text)),
                None => format!("write `{key}: [ … ]`"),
            };
            return self.mistakes.add(
                node.at,
                format!("`{key}` is a list, not {}", kind_of(node)),
                help,
            );
        };
        for item in items {
            self.value(key, item, kind);
        }
    }

    fn map(&mut self, node: &Node, shape: &'static Shape, is_root: bool) {
        let help = format!("write its keys below it: {}", ticked(shape.names()));
        let Some(entries) = self.entries(node, shape.what, help) else {
            return;
        };
        for (key, key_node, value) in entries {
            match shape.key(key) {
                Some(_) if shape.lacks_yet(key) => self.mistakes.add(
                    key_node.at,
                    format!("`{key}` is not supported by this version"),
                    format!("remove `{key}` and what is below it"),
                ),
                Some(Key(_, kind, _)) => self.value(key, value, kind),
                None if is_root && key.starts_with("x-") => {}
                None => self.unknown(key, key_node.at, shape),
            }
        }
    }

    fn names(&mut self, key: &str, node: &Node, shape: &'static Shape) {
        let help = format!(
            "write names below it, and the keys of {} below each",
            shape.what
        );
        let Some(entries) = self.entries(node, &format!("`{key}`"), help) else {
            return;
        };
        for (name, name_node, value) in entries {
            self.name(name, name_node.at, shape);
            self.map(value, shape, false);
        }
    }

    /// The entries of a mapping; reports keys that are repeated or no scalars.
    fn entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        help: String,
    ) -> Option<impl Iterator<Item = (&'n str, &'n Node, &'n Node)> + use<'n>> {
        let Some(entries) = node.entries() else {
            self.mistakes.add(
                node.at,
                format!(
                    "{what} is a mapping of keys to values, not {}",
                    kind_of(node)
                ),
                help,
            );
            return None;
        };
        if let Value::Map(all) = &node.value {
            for (key, _) in all.iter().filter(|(key, _)| key.text().is_none()) {
                self.mistakes.add(
                    key.at,
                    format!("{} can't be a key", kind_of(key)),
                    "write a name before the colon",
                );
            }
        }
        let mut first: HashMap<&str, At> = HashMap::new();
        for (key, key_node, _) in node.entries()? {
            let first_at = *first.entry(key).or_insert(key_node.at);
            if first_at != key_node.at {
                let place = self.mistakes.place(first_at, key_node.at);
                self.mistakes.add(
                    key_node.at,
                    format!("`{}` is here twice; the first is {place}", shown(key)),
                    "keep one of them, or rename one",
                );
            }
        }
        Some(entries)
    }

    fn unknown(&mut self, key: &str, at: At, shape: &Shape) {
        let key_shown = shown(key);
        let message = format!("unknown key `{key_shown}` in {}", shape.what);
        let help = if shape.what == INCLUDED.what && TOPOLOGY.key(key).is_some() {
            format!("move `{key}` into the main file; an included file holds only `vms`")
        } else if let Some(meant) = nearest(key, shape.names()) {
            format!("did you mean `{meant}`?")
        } else if let Some(owner) = owner(&TOPOLOGY, key) {
            format!(
                "`{key}` is a key of {}; here there are {}",
                owner.what,
                ticked(shape.names())
            )
        } else {
            format!("remove it; the keys here are {}", ticked(shape.names()))
        };
        self.mistakes.add(at, message, help);
    }

    /// Restricts names to what is safe in paths, tables and `vm/nic`.
    fn name(&mut self, name: &str, at: At, shape: &Shape) {
        let may_hold = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.len() > 64
            || !name.chars().all(may_hold)
            || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            self.mistakes.add(
                at,
                format!("`{}` can't be the name of {}", shown(name), shape.what),
                "write at most 64 letters, digits, `-`, `_` and `.`, a letter or digit first",
            );
        }
    }
}

/// The first mapping at or below `shape` that has this key.
fn owner(shape: &'static Shape, key: &str) -> Option<&'static Shape> {
    if shape.key(key).is_some() {
        return Some(shape);
    }
    shape.keys.iter().find_map(|Key(_, kind, _)| match kind {
        Map(inner) | Names(inner) | List(Map(inner)) => owner(inner, key),
        Scalar | Scalars | List(_) => None,
    })
}

fn kind_of(node: &Node) -> &'static str {
    match node.value {
        Value::Null => "nothing",
        Value::Text { .. } => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}

fn ticked<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_supported_yet_is_part_of_the_schema() {
        for (shape, key) in NOT_YET {
            assert!(shape.key(key).is_some(), "{key}");
        }
    }
}
