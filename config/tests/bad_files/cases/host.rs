//! Cores, idling, tables, the control socket, metrics.

use crate::In::{Top, Whole};
use crate::{Expected, In};

pub(super) const HOST: &[(In, &[Expected])] = &[
    // Cores, idle, flows.
    (
        Whole("idle: poll\n"),
        &[(1, 1, "the CPUs to poll on are missing", "add `cores: [2]`")],
    ),
    (
        Whole("cores: []\n"),
        &[(1, 8, "`cores` is empty", "at least one")],
    ),
    (
        Whole("cores:\n"),
        &[(1, 6, "`cores` is empty", "at least one")],
    ),
    (
        Whole("cores: 2\n"),
        &[(
            1,
            8,
            "`cores` is a list, not a single value",
            "`cores: [2]`",
        )],
    ),
    (
        Whole("cores: [2, 3, 2]\n"),
        &[(1, 15, "CPU 2 is in `cores` twice", "remove")],
    ),
    (
        Whole("cores: [2-3, -1, 1024, [4]]\n"),
        &[
            (1, 9, "not a CPU number", "0 to 1023"),
            (1, 14, "not a CPU number", "0 to 1023"),
            (1, 18, "not a CPU number", "0 to 1023"),
            (1, 24, "`cores` is a single value, not a list", ""),
        ],
    ),
    (
        Top("idle: sleep"),
        &[(2, 7, "`idle` can't be `sleep`", "`adaptive` or `poll`")],
    ),
    (
        Top("idle: pol"),
        &[(2, 7, "`idle` can't be `pol`", "did you mean `poll`?")],
    ),
    (
        Top("idle:"),
        &[(2, 5, "`idle` has no value", "remove the key")],
    ),
    (
        Top("flows: many"),
        &[(
            2,
            8,
            "`flows` is a whole number, not `many`",
            "1024 to 16777216",
        )],
    ),
    (
        Top("flows: \"65536\""),
        &[(
            2,
            8,
            "`flows` is a number, not text",
            "`flows: 65536`, without quotes",
        )],
    ),
    (
        Top("flows: 1_000_000"),
        &[(2, 8, "`flows` is a whole number", "decimal digits only")],
    ),
    (
        Top("flows: 10"),
        &[(2, 8, "`flows` is out of range: 10", "from 1024")],
    ),
    (
        Top("flows: [65536]"),
        &[(2, 8, "`flows` is a single value, not a list", "`flows: …`")],
    ),
    // Ports.
    (
        Top("ports: 0"),
        &[(2, 8, "`ports` is out of range: 0", "from 1 to 65000")],
    ),
    (
        Top("ports: 65001"),
        &[(2, 8, "`ports` is out of range: 65001", "from 1 to 65000")],
    ),
    (
        Top("ports: \"100\""),
        &[(2, 8, "`ports` is a number, not text", "`ports: 100`")],
    ),
    (
        Top("ports:"),
        &[(2, 6, "`ports` has no value", "remove the key")],
    ),
    (
        Top(
            "ports: 2\nuplinks: { up0: { device: eth1 } }\nnetworks: { b: {} }\nvms:\n  a:\n    \
            nics:\n      n0: { network: b, vhost-user: { path: /0 } }\n      n1: { network: b, \
            vhost-user: { path: /1 } }\n      n2: { network: b, vhost-user: { path: /2 } }",
        ),
        &[(
            9,
            7,
            "more than 2 NICs and uplinks, for which `ports` has room",
            "raise `ports`, with which the daemon must be restarted",
        )],
    ),
    (
        Top("ports: 1\nuplinks: { up0: { device: eth1 }, up1: { device: eth2 } }"),
        &[(3, 35, "more than 1 NICs and uplinks", "raise `ports`")],
    ),
    // A number of ports that is wrong itself says nothing of how many there are.
    (
        Top("ports: none\nuplinks: { up0: { device: eth1 }, up1: { device: eth2 } }"),
        &[(
            2,
            8,
            "`ports` is a whole number, not `none`",
            "decimal digits",
        )],
    ),
    // Metrics.
    (
        Top("metrics: {}"),
        &[(2, 10, "`metrics` has no `listen`", "127.0.0.1:9477")],
    ),
    (
        Top("metrics:"),
        &[(2, 8, "`metrics` has no `listen`", "remove `metrics`")],
    ),
    (
        Top("metrics: 127.0.0.1:9477"),
        &[(2, 10, "`metrics` is a mapping of keys", "`listen`")],
    ),
    (
        Top("metrics: { listen: localhost:9477 }"),
        &[(
            2,
            20,
            "`listen` can't be `localhost:9477`",
            "`listen: \"127.0.0.1:9477\"`",
        )],
    ),
    (
        Top("metrics: { listen: \":9477\" }"),
        &[(
            2,
            20,
            "`listen` can't be `:9477`",
            "\"0.0.0.0:9477\"` if other hosts are to read it",
        )],
    ),
    (
        Top("metrics: { listen: \"127.0.0.1\" }"),
        &[(
            2,
            20,
            "`listen` can't be `127.0.0.1`",
            "an IP address and a port",
        )],
    ),
    (
        Top("metrics: { listen: \"127.0.0.1:65536\" }"),
        &[(2, 20, "`listen` can't be", "an IP address and a port")],
    ),
    (
        Top("metrics: { listen: \"::1:9477\" }"),
        &[(2, 20, "`listen` can't be", "\"[::1]:9477\"")],
    ),
    (
        Top("metrics: { listen: \"127.0.0.1:0\" }"),
        &[(2, 20, "port 0 would be another one at each start", "")],
    ),
    (
        Top("metrics: { listen: [ \"127.0.0.1:9477\" ] }"),
        &[(2, 20, "`listen` is a single value, not a list", "")],
    ),
    (
        Top("metrics: { port: 9477 }"),
        &[
            (2, 10, "`metrics` has no `listen`", ""),
            (2, 12, "unknown key `port` in `metrics`", "match"),
        ],
    ),
    // The control socket.
    (
        Top("control: { path: weir.sock }"),
        &[(2, 18, "`path` is not absolute", "/run/weir/weir.sock")],
    ),
    (
        Top("control: { mode: 660 }"),
        &[(2, 18, "`mode` is octal", "write `mode: \"0660\"`")],
    ),
    (
        Top("control: { mode: \"01777\" }"),
        &[(2, 18, "bits beyond 0777", "\"0660\"")],
    ),
    (
        Top("control: { mode: rw }"),
        &[(2, 18, "`mode` is octal permission bits", "\"0660\"")],
    ),
    (
        Top("control: { group: \"k v m\" }"),
        &[(2, 19, "`k v m` can't be a group", "kvm")],
    ),
    (
        Top("include: [ \"vms.d/*.yaml\" ]"),
        &[(2, 12, "can't include files", "")],
    ),
    (
        Top("include: vms.yaml"),
        &[(2, 10, "`include` is a list", "`include: [vms.yaml]`")],
    ),
];
