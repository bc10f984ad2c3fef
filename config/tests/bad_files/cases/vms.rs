//! VMs, NICs and their kinds of port.

use crate::In::{Nic, Socket, Top, Whole};
use crate::{Expected, In};

pub(super) const VMS: &[(In, &[Expected])] = &[
    // VMs and NICs.
    (
        Top("vms: { a: {} }"),
        &[(2, 8, "VM `a` has no `nics`", "add `nics:`")],
    ),
    (Top("vms: { a: }"), &[(2, 8, "VM `a` has no `nics`", "")]),
    (
        Top("vms: { a: { nics: } }"),
        &[(2, 17, "VM `a` has no NICs", "at least one")],
    ),
    (
        Top("vms: { a: { nics: { n: } } }"),
        &[
            (2, 21, "NIC `a/n` has no `network`", "add it to `networks`"),
            (
                2,
                21,
                "NIC `a/n` has no kind of port",
                "path: /run/weir/a-n.sock",
            ),
        ],
    ),
    (
        Top(
            "networks: { blue: {} }\nvms: { a: { nics: { n: { network: bleu, vhost-user: { path: \
            /s } } } } }",
        ),
        &[(3, 35, "there is no network `bleu`", "did you mean `blue`?")],
    ),
    (
        Top(
            "networks: { blue: {} }\nvms: { a: { nics: { n: { network: storage, vhost-user: { \
            path: /s } } } } }",
        ),
        &[(3, 35, "there is no network `storage`", "`network: blue`")],
    ),
    (
        Nic("enabled: no"),
        &[(8, 18, "`enabled` can't be `no`", "`true` or `false`")],
    ),
    // Labels.
    (
        Top(
            "networks: { b: {} }\nvms:\n  a:\n    nics: { n: { network: b, vhost-user: { path: /s \
            } } }\n    labels:\n      7up: x\n      a-b: x\n      empty: \"\"\n      none:\n      \
            two: [a, b]\n      line: \"a\\nb\"\n      n: 7\n      n: 8",
        ),
        &[
            (7, 7, "`7up` can't be the name of a label", "a letter first"),
            (8, 7, "`a-b` can't be the name of a label", "and `_`"),
            (9, 14, "the label `empty` is empty", "1 to 128 bytes"),
            (10, 11, "`none` has no value", "remove the key"),
            (11, 12, "`two` is a single value, not a list", ""),
            (12, 13, "the label `line` holds a control character", ""),
            (14, 7, "`n` is here twice; the first is on line 13", ""),
        ],
    ),
    (
        Top("vms: { a: { labels: [ shop ] } }"),
        &[
            (2, 8, "VM `a` has no `nics`", ""),
            (2, 21, "`labels` is a mapping", "`labels: { a: b }`"),
        ],
    ),
    (
        Nic("mac: \"52:54:00:00:00\""),
        &[(8, 14, "not a MAC address", "52:54:00:00:00:01")],
    ),
    (
        Nic("mac: 52-54-00-00-00-09"),
        &[(8, 14, "not a MAC address", "\"52:54:00:00:00:09\"")],
    ),
    (
        Nic("mac: \"01:00:5e:00:00:01\""),
        &[(8, 14, "a group address", "\"00:00:5e:00:00:01\"")],
    ),
    (
        Nic("mac: \"00:00:00:00:00:00\""),
        &[(8, 14, "zero address", "")],
    ),
    (
        Nic("mac: \"ff:ff:ff:ff:ff:ff\""),
        &[(8, 14, "broadcast address", "")],
    ),
    (
        Nic("mac: any"),
        &[(8, 14, "`mac` is one address", "`macs: any`")],
    ),
    (
        Nic("macs: 0"),
        &[(8, 15, "`macs` is out of range: 0", "1 to 65536")],
    ),
    (
        Nic("macs: some"),
        &[(8, 15, "`macs` can't be `some`", "a number, or `any`")],
    ),
    (
        Nic("macs: \"52:54:00:00:00:01\""),
        &[(8, 15, "`macs` can't be", "`mac: \"52:54:00:00:00:01\"`")],
    ),
    (
        Nic("mac: \"52:54:00:00:00:01\",\nmacs: 4"),
        &[(9, 15, "both `mac` and `macs`", "keep")],
    ),
    (
        Nic("queues: 0"),
        &[(8, 17, "`queues` is out of range: 0", "1 to 16")],
    ),
    (
        Nic("queues: 17"),
        &[(8, 17, "`queues` is out of range: 17", "1 to 16")],
    ),
    (
        Nic("queues: 99999999999999999999999"),
        &[(8, 17, "`queues` is out of range", "1 to 16")],
    ),
    (
        Nic("queues: -1"),
        &[(8, 17, "`queues` is out of range: -1", "1 to 16")],
    ),
    (
        Nic("queues: 08"),
        &[(8, 17, "`08` begins with a zero", "without the zero")],
    ),
    (
        Nic("queues: true"),
        &[(8, 17, "`queues` is a whole number, not `true`", "")],
    ),
    (
        Nic("vhost_user: { path: /t }"),
        &[(8, 9, "unknown key `vhost_user` in a NIC", "`vhost-user`?")],
    ),
    (
        Nic("vhost-user: { path: /t }"),
        &[(8, 9, "`vhost-user` is here twice", "keep one")],
    ),
    // NICs by tap and by AF_XDP.
    (
        Whole(
            "cores: [0]\nuplinks: { up0: { device: veth0 } }\nnetworks: { b: {}, j: { mtu: 9000 } \
            }\nvms:\n  a:\n    nics:\n      \
             n0: { network: b, afxdp: { device: veth0 } }\n      \
             n1: { network: b, tap: {} }\n      \
             n2: { network: b, tap: { name: tap1 }, queues: 2 }\n      \
             n3: { network: j, afxdp: { device: veth1 } }\n      \
             n4: { network: b, tap: { name: veth1 } }\n      \
             n5: { network: b, afxdp: { device: veth2 }, queues: 99 }\n      \
             n6: { network: b, afxdp: { device: veth3, mode: zerocopy } }\n      \
             n7: { network: b, afxdp: { device: veth4, mode: [skb] } }\n      \
             n8: { network: b, afxdp: { device: veth5, ring: 64k } }\n",
        ),
        &[
            (
                7,
                42,
                "device `veth0` already used by uplink `up0`, on line 2",
                "only once",
            ),
            (8, 30, "the device of `a/n1` has no `name`", "`name: tap0`"),
            (9, 54, "a tap has one queue", "leave `queues` out"),
            (
                10,
                32,
                "`a/n3` has an `mtu` of 9000, but frames of this kind of port",
                "3498 or less",
            ),
            (
                11,
                38,
                "device `veth1` already used by `a/n3`, on line 10",
                "only once",
            ),
            (12, 59, "`queues` is out of range: 99", "1 to 64"),
            (
                13,
                55,
                "`mode` can't be `zerocopy`",
                "did you mean `zero-copy`?",
            ),
            (14, 55, "`mode` is a single value, not a list", "`mode: …`"),
            (15, 55, "`ring` can't be `64k`", "`512` or `1024`"),
        ],
    ),
    // vhost-user ports.
    (
        Socket("listens: weir"),
        &[(
            8,
            23,
            "the socket of `a/n` has no `path`",
            "/run/weir/a-n.sock",
        )],
    ),
    (
        Socket("path: a.sock"),
        &[(8, 31, "`path` is not absolute", "/run/weir/a.sock")],
    ),
    (
        Socket("path: /run/../a.sock"),
        &[(8, 31, "`path` holds `..`", "without it")],
    ),
    (
        Socket("path: /run/weir/"),
        &[(8, 31, "`path` names a folder", "/run/weir/web-net0.sock")],
    ),
    (
        Socket("path: \"\""),
        &[(8, 31, "`path` is empty", "absolute")],
    ),
    (
        Socket("path: \"/a\\0b\""),
        &[(8, 31, "`path` holds a control character", "plain")],
    ),
    (
        Socket(
            "path: /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
            xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ),
        &[(
            8,
            31,
            "`path` has 108 bytes; the kernel takes 107",
            "shorter",
        )],
    ),
    (
        Socket("path: /run/weir/control.sock"),
        &[(
            8,
            31,
            "already used by the control socket",
            "a socket of its own",
        )],
    ),
    (
        Socket("path: /s, listens: host"),
        &[(8, 44, "`listens` can't be `host`", "`weir` or `guest`")],
    ),
    (
        Socket("path: /s, listens: guest, mode: \"0660\", group: kvm"),
        &[
            (
                8,
                57,
                "`mode` does nothing where the guest makes the socket",
                "`listens: weir`",
            ),
            (
                8,
                72,
                "`group` does nothing where the guest makes the socket",
                "`listens: weir`",
            ),
        ],
    ),
    (
        Socket("path: [/s]"),
        &[(8, 31, "`path` is a single value, not a list", "")],
    ),
];
