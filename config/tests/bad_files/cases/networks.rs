//! Networks, uplinks, and what this version can't do.

use crate::In::{Nic, Top, Whole};
use crate::{Expected, In};

pub(super) const NETWORKS: &[(In, &[Expected])] = &[
    // Networks.
    (
        Top("networks: { a: { vlan: 0 }, b: { vlan: 4095 } }"),
        &[
            (2, 24, "`vlan` is out of range: 0", "1 to 4094"),
            (2, 40, "`vlan` is out of range: 4095", "1 to 4094"),
        ],
    ),
    (
        Top("networks: { a: { mtu: 67 }, b: { mtu: 9001 }, c: { mtu: 1500.0 } }"),
        &[
            (2, 23, "`mtu` is out of range: 67", "68 to 9000"),
            (2, 39, "`mtu` is out of range: 9001", "68 to 9000"),
            (2, 57, "`mtu` is a whole number, not `1500.0`", ""),
        ],
    ),
    (
        Top("networks:\n  a: { vlan: 7 }\n  b: { vlan: 7 }"),
        &[(
            4,
            14,
            "VLAN 7 already used by network `a`, on line 3",
            "of its own",
        )],
    ),
    (
        Top("networks:\n  a: {}\n  a: {}"),
        &[(4, 3, "`a` is here twice; the first is on line 3", "rename")],
    ),
    // What this version can't do.
    (
        Top("uplinks: { up0: { device: eth1, rate: 10gbit } }"),
        &[(
            2,
            33,
            "`rate` is not supported by this version",
            "remove `rate`",
        )],
    ),
    (
        Nic("tap: { name: tap7 }"),
        &[(
            8,
            9,
            "NIC `a/n` has two kinds of port",
            "make `tap` another NIC",
        )],
    ),
    (
        Whole(
            "cores: [0]\nnetworks: { b: {} }\nvms: { a: { limit: {}, share: {}, nics: { n: { \
            network: b, tap: { name: t } } } } }\n",
        ),
        &[
            (3, 20, "this limits nothing", "`from-vm` or `to-vm`"),
            (3, 24, "`share` is not supported", "remove"),
        ],
    ),
    // Uplinks, and networks on them.
    (
        Top("uplinks: { up0: {} }"),
        &[(2, 12, "uplink `up0` has no `device`", "`device: eth1`")],
    ),
    (
        Top("uplinks: { up0: eth1 }"),
        &[(
            2,
            17,
            "an uplink is a mapping",
            "`device`, `mode`, `queues`",
        )],
    ),
    (
        Top(
            "uplinks: { a: { device: \"\" }, b: { device: enp94s0f0np0v001 }, c: { device: \"eth \
            1\" }, d: { device: a/b } }",
        ),
        &[
            (2, 25, "`device` is not a name", "`ip link`"),
            (
                2,
                44,
                "`device` has 16 bytes; the kernel takes 15",
                "`ip link`",
            ),
            (2, 77, "`device` holds ` `", "`ip link`"),
            (2, 101, "`device` holds `/`", "`ip link`"),
        ],
    ),
    (
        Top("uplinks:\n  up0: { device: eth1 }\n  up1: { device: eth1 }"),
        &[(
            4,
            18,
            "device `eth1` already used by uplink `up0`, on line 3",
            "each with its VLAN",
        )],
    ),
    (
        Top("uplinks: { up0: { device: eth1, mode: zerocopy, queues: 65, take: yes } }"),
        &[
            (
                2,
                39,
                "`mode` can't be `zerocopy`",
                "did you mean `zero-copy`?",
            ),
            (2, 57, "`queues` is out of range: 65", "1 to 64"),
            (2, 67, "`take` can't be `yes`", "`true` or `false`"),
        ],
    ),
    (
        Top("uplinks: { up0: { device: eth1, ring: 3000 } }"),
        &[(
            2,
            39,
            "`ring` can't be `3000`",
            "write `512` or `1024` or `2048` or `4096` or `8192` or `16384` or `32768`",
        )],
    ),
    (
        Top("uplinks: { up0: { device: eth1, queues: all } }"),
        &[(2, 41, "`queues` is a whole number, not `all`", "1 to 64")],
    ),
    (
        Top("uplinks: { up0: { device: eth1 } }\nnetworks: { blue: { uplink: pu0 } }"),
        &[(3, 29, "there is no uplink `pu0`", "did you mean `up0`?")],
    ),
    (
        Top("networks: { blue: { uplink: up0 } }"),
        &[(
            2,
            29,
            "there is no uplink `up0`",
            "`uplinks: { up0: { device: eth1 } }`",
        )],
    ),
    (
        Top(
            "uplinks: { u: { device: e } }\nnetworks:\n  a: { uplink: u, vlan: 7 }\n  b: { uplink: \
            u, vlan: 7 }\n  c: { uplink: u }\n  d: { uplink: u }",
        ),
        &[
            (
                5,
                25,
                "VLAN 7 already used by network `a`, on line 4",
                "of its own",
            ),
            (
                7,
                16,
                "untagged frames of the uplink already used by network `c`, on line 6",
                "of its own",
            ),
        ],
    ),
    (
        Top("uplinks: { u: { device: e } }\nnetworks: { a: { uplink: u, mtu: 3499 } }"),
        &[(
            3,
            34,
            "`mtu` is 3499, but frames of an uplink are fetched by XDP, which without multi-buffer \
            ends at 3,498",
            "3498",
        )],
    ),
];
