//! Cores, idling, the control socket.

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
