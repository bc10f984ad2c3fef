//! The file as such, and its keys.

use crate::In::{Top, Whole};
use crate::{Expected, In};

pub(super) const TEXT: &[(In, &[Expected])] = &[
    // The file as such.
    (
        Whole(""),
        &[(0, 0, "this file is empty", "examples/quickstart.yaml")],
    ),
    (
        Whole("# nothing but a comment\n"),
        &[(0, 0, "this file is empty", "")],
    ),
    (
        Whole("- cores\n"),
        &[(
            1,
            1,
            "a topology is a mapping of keys to values, not a list",
            "`cores`, `idle`",
        )],
    ),
    (
        Whole("hello"),
        &[(1, 1, "not a single value", "write its keys")],
    ),
    (
        Whole("cores: [0\nidle: poll\n"),
        &[(2, 5, "not valid YAML: illegal placement of ':'", "brackets")],
    ),
    (
        Whole("cores: [0]\nidle: \"poll\n"),
        &[(3, 1, "quoted text is not closed", "close the quotes")],
    ),
    (
        Whole("cores: [0]\nidle: \"p\\oll\"\n"),
        &[(
            2,
            7,
            "an unknown escape in quoted text",
            "`\\\\` for a backslash",
        )],
    ),
    (
        Whole("cores: [0]\nvms: { a: {}\n"),
        &[(2, 6, "this bracket is never closed", "close it")],
    ),
    (
        Whole("cores: [0]\nidle: poll: on\n"),
        &[(
            2,
            11,
            "a key with a colon is not allowed here",
            "a line of its own",
        )],
    ),
    (
        Whole("control:\n  path: /c\n mode: \"0660\"\n"),
        &[(3, 2, "not indented like its neighbours", "one column")],
    ),
    (
        Whole("cores: [0]\nidle poll\nflows: 1\n"),
        &[(2, 1, "a colon is missing on this line", "`key: value`")],
    ),
    (
        Whole("cores: [0]\nidle: @poll\n"),
        &[(2, 7, "this character can't begin a value", "quotes")],
    ),
    (
        Whole("cores: [0]\nidle: !!int poll\n"),
        &[(2, 13, "this value doesn't fit its tag", "remove the tag")],
    ),
    (
        Whole("cores: [0]\nidle: !mode poll\n"),
        &[(2, 13, "tags are not used here", "remove the tag")],
    ),
    (
        Whole("cores: [0]\n---\ncores: [1]\n"),
        &[(3, 1, "a second document begins here", "remove the `---`")],
    ),
    (
        Whole("cores: [0]\nnetworks:\n\tblue: {}\n  \tred: {}\n"),
        &[
            (3, 1, "a tab in the indentation", "spaces"),
            (4, 3, "a tab in the indentation", "spaces"),
        ],
    ),
    (
        Whole("cores: *cpus\n"),
        &[(1, 8, "an anchor that isn't there", "`&name`")],
    ),
    (
        Whole("x-a: &a [*a]\n"),
        &[(
            1,
            10,
            "this alias is inside the value that it refers to",
            "",
        )],
    ),
    (
        Whole("cores: [0]\n<<: 5\n"),
        &[(2, 5, "`<<` can merge mappings only", "*name")],
    ),
    // Keys.
    (
        Top("idel: poll"),
        &[(
            2,
            1,
            "unknown key `idel` in a topology",
            "did you mean `idle`?",
        )],
    ),
    (
        Top("bandwidth: 5"),
        &[(
            2,
            1,
            "unknown key `bandwidth`",
            "the keys here are `cores`, `idle`",
        )],
    ),
    (
        Top("queues: 5"),
        &[(
            2,
            1,
            "unknown key `queues` in a topology",
            "`queues` is a key of an uplink",
        )],
    ),
    (
        Top("idle: poll\nidle: adaptive"),
        &[(
            3,
            1,
            "`idle` is here twice; the first is on line 2",
            "keep one",
        )],
    ),
    (
        Top("vms: { a: { x-b: 1, nics: {} } }"),
        &[
            (2, 13, "unknown key `x-b` in a VM", ""),
            (2, 27, "VM `a` has no NICs", "net0"),
        ],
    ),
    (
        Top("[a, b]: 1"),
        &[(2, 1, "a list can't be a key", "a name")],
    ),
    (Top("~: 1"), &[(2, 1, "nothing can't be a key", "a name")]),
    (
        Top("control: /run/weir/control.sock"),
        &[(
            2,
            10,
            "the control socket is a mapping",
            "`path`, `group`, `mode`",
        )],
    ),
    (
        Top("networks: [blue]"),
        &[(2, 11, "`networks` is a mapping", "names below it")],
    ),
    (
        Top("networks: { blue: 100 }"),
        &[(2, 19, "a network is a mapping", "`vlan`, `uplink`, `mtu`")],
    ),
    (
        Top("networks: { bl/ue: {} }"),
        &[(2, 13, "`bl/ue` can't be the name of a network", "letters")],
    ),
    (
        Top("networks: { \"\": {} }"),
        &[(2, 13, "`` can't be the name", "letters")],
    ),
];
