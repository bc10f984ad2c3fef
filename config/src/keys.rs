//! The table of keys: where each belongs, what kind of value it has, whether this version supports
//! it.
//!
//! One table serves reading, error messages and [`mod@crate::schema`]. `walk` compares a tree with
//! it, `check` checks the values.

/// Keys that this version doesn't support yet: (mapping, key). They are refused by name, never
/// ignored.
pub(crate) static NOT_YET: &[(&Shape, &str)] = &[(&UPLINK, "rate"), (&VM, "share")];

/// A mapping with fixed keys.
pub(crate) struct Shape {
    /// Its name in messages, with an article.
    pub(crate) what: &'static str,
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
    /// A mapping from words that the user chooses to scalars.
    Texts,
}

use Kind::{List, Map, Names, Scalar, Scalars, Texts};

/// The file.
pub(crate) static TOPOLOGY: Shape = Shape {
    what: "a topology",
    keys: &[
        Key("cores", List(&Scalar), "CPUs to poll on, as in [2, 3]"),
        Key(
            "idle",
            Scalar,
            "what an idle core does: adaptive (sleep) | poll",
        ),
        Key(
            "flows",
            Scalar,
            "capacity of the flow table, reserved at the start: 1024 to 16777216",
        ),
        Key(
            "ports",
            Scalar,
            "NICs and uplinks that there is room for, reserved at the start: 1 to 65000; default \
            4096",
        ),
        Key("control", Map(&CONTROL), "the socket for operators"),
        Key(
            "metrics",
            Map(&METRICS),
            "Prometheus text over HTTP; none: it is off",
        ),
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
        "IP address and port, as in \"127.0.0.1:9477\"",
    )],
};

const XDP_MODE: Key = Key(
    "mode",
    Scalar,
    "how frames are received: auto | zero-copy | copy | skb",
);
const RING: Key = Key(
    "ring",
    Scalar,
    "length of a queue's receive ring, in frames: 512 to 32768, a power of two",
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
            "true: attach the device even if the host uses it",
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

pub(crate) static VM: Shape = Shape {
    what: "a VM",
    keys: &[
        Key(
            "labels",
            Texts,
            "words for people and metrics, at most 16, as in { owner: shop }; nothing depends on \
            them",
        ),
        Key(
            "limit",
            Map(&LIMIT),
            "limits on what the VM sends and receives, over all its NICs",
        ),
        Key("share", Map(&SHARE), "the VM's part of each uplink it uses"),
        Key("nics", Names(&NIC), "its NICs, at least one"),
    ],
};

pub(crate) static LIMIT: Shape = Shape {
    what: "a limit",
    keys: &[
        Key("from-vm", Map(&RATE), "what it may send: the rest waits"),
        Key(
            "to-vm",
            Map(&RATE_TO),
            "what it may receive: the rest waits, for a bounded time",
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
    "bytes at once, as in 64KiB; none: 64KiB, or 4 ms of the rate if that is more",
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
        Key("min", Scalar, "what it is guaranteed, as in 200mbit"),
        Key("weight", Scalar, "its part of the rest"),
    ],
};

static NIC: Shape = Shape {
    what: "a NIC",
    keys: &[
        Key(
            "enabled",
            Scalar,
            "false: it keeps its place, but no guest can connect; default true",
        ),
        Key("network", Scalar, "name of the network it is plugged into"),
        Key(
            "mac",
            Scalar,
            "the only address that it may send from; none: the first one that it sends from",
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
            "which frames pass: the first match decides, and without a match they pass",
        ),
    ],
};

static VHOST_USER: Shape = Shape {
    what: "a vhost-user port",
    keys: &[
        Key("path", Scalar, "an absolute path, at most 107 bytes"),
        Key(
            "listens",
            Scalar,
            "which side creates the socket: weir | guest",
        ),
        Key("group", Scalar, "group that the socket is given to"),
        Key("mode", Scalar, "permission bits, as in \"0660\""),
    ],
};

static TAP: Shape = Shape {
    what: "a tap port",
    keys: &[Key(
        "name",
        Scalar,
        "name of the device, created if it is missing",
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
        Key("to-vm", Map(&MATCH), "what it receives"),
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
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.0)
    }

    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.0 == name)
    }

    /// Whether this version refuses the key.
    pub(crate) fn lacks_yet(&self, name: &str) -> bool {
        NOT_YET
            .iter()
            .any(|(shape, key)| shape.what == self.what && *key == name)
    }

    /// The first mapping at or below this one that has a key of that name.
    pub(crate) fn owner_of(&'static self, key: &str) -> Option<&'static Shape> {
        if self.key(key).is_some() {
            return Some(self);
        }
        self.keys.iter().find_map(|Key(_, kind, _)| match kind {
            Map(inner) | Names(inner) | List(Map(inner)) => inner.owner_of(key),
            Scalar | Scalars | Texts | List(_) => None,
        })
    }
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
