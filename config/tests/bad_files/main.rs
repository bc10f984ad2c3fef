//! Files with mistakes: where each is found, what is said, and what is offered instead.

use config::{Report, parse};

/// The text that a case stands in.
enum In {
    /// The case is the whole file.
    Whole(&'static str),
    /// The case follows a line with `cores`, so it begins on line 2.
    Top(&'static str),
    /// The case is keys of a NIC; it begins on line 8, column 9, and the socket is on line 7.
    Nic(&'static str),
    /// The case is a VM's limit, in column 15 of line 7.
    Limit(&'static str),
    /// The case is keys of a vhost-user port, in column 25 of line 8, instead of its path.
    Socket(&'static str),
}
use In::{Limit, Nic, Socket, Top, Whole};

impl In {
    fn text(&self) -> String {
        const VM: &str = "cores: [0]\nnetworks: { blue: {} }\nvms:\n  a:\n    nics:\n      n:\n";
        match self {
            Whole(text) => (*text).to_owned(),
            Top(text) => format!("cores: [0]\n{text}\n"),
            Nic(keys) => {
                let keys = keys.replace('\n', "\n        ");
                format!(
                    "{VM}        {{ network: blue, vhost-user: {{ path: /s }},\n        {keys} }}\n"
                )
            }
            Limit(limit) => {
                let nics = "{ n: { network: blue, vhost-user: { path: /s } } }";
                format!(
                    "cores: [0]\nnetworks: {{ blue: {{}} }}\nvms:\n  a:\n    nics: {nics}\n\n    \
                    limit:    {limit}\n"
                )
            }
            Socket(keys) => {
                format!("{VM}        network: blue\n        vhost-user:   {{ {keys} }}\n")
            }
        }
    }
}

/// One mistake as it should be found: line, column, part of the message, part of the help.
type Expected = (usize, usize, &'static str, &'static str);

fn report(text: &str) -> Report {
    match parse(text, "weir.yaml") {
        Ok(topology) => panic!("accepted:\n{text}\n{topology:?}"),
        Err(report) => report,
    }
}

fn assert_found(text: &str, expected: &[Expected]) {
    if let Some(difference) = difference(text, expected) {
        panic!("{difference}");
    }
}

/// Expected and found, if they differ.
fn difference(text: &str, expected: &[Expected]) -> Option<String> {
    let report = report(text);
    let found: Vec<_> = report
        .diagnostics()
        .iter()
        .map(|d| (d.line(), d.column(), d.message(), d.help()))
        .collect();
    let fits = |found: &(usize, usize, &str, &str), expected: &Expected| {
        (found.0, found.1) == (expected.0, expected.1)
            && found.2.contains(expected.2)
            && found.3.contains(expected.3)
    };
    let all_fit =
        found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| fits(f, e));
    (!all_fit).then(|| format!("in\n{text}\nexpected {expected:?}\nfound\n{report}\n"))
}

const CASES: &[(In, &[Expected])] = &[
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
        Top(
            "uplinks: { up0: { device: eth1, rate: 10gbit } }\nmetrics: { listen: \
            \"127.0.0.1:9477\" }",
        ),
        &[
            (
                2,
                33,
                "`rate` is not supported by this version",
                "remove `rate`",
            ),
            (
                3,
                1,
                "`metrics` is not supported by this version",
                "remove `metrics`",
            ),
        ],
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
    // Limits.
    (
        Limit("5gbit"),
        &[(7, 15, "a limit is a mapping", "`from-vm`, `to-vm`")],
    ),
    (
        Limit("{ rate: 1gbit }"),
        &[(
            7,
            17,
            "unknown key `rate` in a limit",
            "`rate` is a key of an uplink",
        )],
    ),
    (
        Limit("{ from-vm: {} }"),
        &[(7, 26, "this limits nothing", "write `rate` or `packets`")],
    ),
    (
        Limit("{ from-vm: { burst: 64KiB } }"),
        &[(7, 26, "this limits nothing", "write `rate` or `packets`")],
    ),
    (
        Limit("{ from-vm: { rate: 9999bit } }"),
        &[(7, 34, "a rate of 9999bit is too low", "`10kbit`")],
    ),
    (
        Limit("{ to-vm: { rate: 401gbit } }"),
        &[(7, 32, "a rate of 401gbit is more than", "`400gbit`")],
    ),
    (
        Limit("{ to-vm: { rate: 1gbit, queue: 900us } }"),
        &[(7, 46, "a queue of 900us is too short", "`1ms`")],
    ),
    (
        Limit("{ to-vm: { rate: 1gbit, queue: 2s } }"),
        &[(7, 46, "a queue of 2s is too long", "`1s`")],
    ),
    (
        Limit("{ to-vm: { rate: 1gbit, queue: 20 } }"),
        &[(7, 46, "a time needs a unit", "`20us`")],
    ),
    (
        Limit("{ to-vm: { queue: 20ms } }"),
        &[(7, 24, "this limits nothing", "`rate` or `packets`")],
    ),
    (
        Limit("{ from-vm: { rate: 1gbit, queue: 20ms } }"),
        &[(7, 41, "unknown key `queue`", "")],
    ),
    (
        Limit("{ to-vm: { packets: 1001mpps } }"),
        &[(7, 35, "1001mpps are more than", "`1000mpps`")],
    ),
    (
        Limit("{ to-vm: { packets: 5k } }"),
        &[(7, 35, "`k` is ambiguous", "`5kpps`")],
    ),
    (
        Limit("{ from-vm: { packets: 5kpps, burst: 64KiB } }"),
        &[(7, 51, "`burst` does nothing without a `rate`", "add `rate`")],
    ),
    (
        Limit("{ from-vm: { rate: 1mbit, burst: 1513B } }"),
        &[(
            7,
            48,
            "a burst of 1513B is smaller than one frame of 1514 bytes (MTU 1500)",
            "at least `1514B`",
        )],
    ),
    (
        Limit("{ from-vm: { rate: 10gbit, burst: 64KiB } }"),
        &[(
            7,
            49,
            "a burst of 64KiB is too small for this rate",
            "at least `312500B`",
        )],
    ),
    (
        Limit("{ from-vm: { rate: 1mbit, burst: 1025MiB } }"),
        &[(7, 48, "too large", "at most `1024MiB`")],
    ),
    (
        Limit("{ from-vm: { rate: fast, packets: 0pps }, to-vm: { rate: 1Gbit } }"),
        &[
            (7, 34, "this is not a rate", "`gbit`"),
            (7, 49, "zero lets nothing through", "leave the key out"),
            (7, 72, "the unit is written `gbit`", "`1gbit`"),
        ],
    ),
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

#[test]
fn every_mistake_is_found_in_its_place() {
    let differences: Vec<_> = CASES
        .iter()
        .filter_map(|(case, expected)| difference(&case.text(), expected))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Two VMs that were made by copying, with something left unchanged in each line.
#[test]
fn what_must_be_unique_is_claimed_once() {
    let text = "\
cores: [0]
control: { path: /tmp/w/control.sock }
networks: { blue: {} }
vms:
  a:
    nics:
      n0: { network: blue, mac: \"52:54:00:00:00:01\", vhost-user: { path: /tmp/w/a.sock } }
      n0: { network: blue, mac: \"52:54:00:00:00:02\", vhost-user: { path: /tmp/w//control.sock } }
  b:
    nics:
      n0: { network: blue, mac: \"52:54:00:00:00:01\", vhost-user: { path: /tmp/w/./a.sock } }
  a:
    nics:
      n1: { network: blue, vhost-user: { path: /tmp/w/n1.sock } }
";
    assert_found(
        text,
        &[
            (8, 7, "`n0` is here twice; the first is on line 7", "rename"),
            (
                8,
                74,
                "path already used by the control socket, on line 2",
                "of its own",
            ),
            (
                11,
                33,
                "address `52:54:00:00:00:01` already used by `a/n0` in the same network, on line 7",
                "of its own",
            ),
            (
                11,
                74,
                "path already used by `a/n0`, on line 7",
                "of its own",
            ),
            (12, 3, "`a` is here twice; the first is on line 5", "rename"),
        ],
    );
}

/// One file, a mistake of every kind: none hides another.
#[test]
fn all_mistakes_come_at_once() {
    let text = "\
cores: [2, two]
idle: alway
flows: 1M
control: { path: weir.sock, mode: 660 }
networks:
  blue: { vlan: 5000, mtu: \"1500\" }
  red: { colour: red }
vms:
  web:
    limit: { from-vm: { rate: 1gbps } }
    nics:
      net0:
        network: blu
        mac: \"53:54:00:00:00:01\"
        queues: 32
        vhost-user: { path: /run/weir/web.sock, listen: weir }
      net1: { netwrok: red, tap: { name: tap7 } }
  db: {}
";
    assert_found(
        text,
        &[
            (1, 12, "not a CPU number", ""),
            (2, 7, "`idle` can't be `alway`", ""),
            (3, 8, "`flows` is a whole number, not `1M`", ""),
            (4, 18, "not absolute", ""),
            (4, 35, "octal", ""),
            (6, 17, "`vlan` is out of range", ""),
            (6, 28, "`mtu` is a number, not text", ""),
            (7, 10, "unknown key `colour`", ""),
            (10, 31, "`gbps` is ambiguous", "`1gbit`"),
            (13, 18, "no network `blu`", "`blue`"),
            (14, 14, "group address", "52:54:00:00:00:01"),
            (15, 17, "`queues` is out of range", ""),
            (16, 49, "unknown key `listen`", "`listens`"),
            (17, 7, "`web/net1` has no `network`", ""),
            (17, 15, "unknown key `netwrok`", "`network`"),
            (18, 3, "VM `db` has no `nics`", ""),
        ],
    );
    assert!(report(text).to_string().ends_with("\n\n16 errors"));
}

#[test]
fn report_reads_like_a_compilers() {
    let expected = "\
error: unknown key `idel` in a topology
 --> weir.yaml:2:1
  |
2 | idel: poll
  | ^^^^
  = help: did you mean `idle`?

error: there is no network `bleu`
 --> weir.yaml:4:35
  |
4 | vms: { a: { nics: { n: { network: bleu, vhost-user: { path: /s } } } } }
  |                                   ^^^^
  = help: did you mean `blue`?

2 errors";
    let text = "cores: [0]\nidel: poll\nnetworks: { blue: {} }\n\
                vms: { a: { nics: { n: { network: bleu, vhost-user: { path: /s } } } } }\n";
    assert_eq!(report(text).to_string(), expected);
}

#[test]
fn mistake_in_a_merged_value_names_both_places() {
    let text = "cores: [0]\nx-n: &n\n  queues: 99\nnetworks: { b: {} }\n\
                vms: { a: { nics: { n: { <<: *n, network: b, vhost-user: { path: /s } } } } }\n";
    assert_found(
        text,
        &[(
            5,
            30,
            "`queues` is out of range: 99 (written on line 3)",
            "1 to 16",
        )],
    );
}

/// The help for line 3 repeats a name of line 2, which no terminal should get as it is.
#[test]
fn name_that_is_offered_is_printable() {
    let text = "cores: [0]\nnetworks: { \"\\x1b[2Jblu\": {} }\n\
                vms: { a: { nics: { n: { network: \"x[2Jblu\", vhost-user: { path: /s } } } } }\n";
    assert_found(
        text,
        &[
            (
                2,
                13,
                "`\u{fffd}[2Jblu` can't be the name of a network",
                "letters",
            ),
            (
                3,
                35,
                "no network `x[2Jblu`",
                "did you mean `\u{fffd}[2Jblu`?",
            ),
        ],
    );
}

#[test]
fn aliases_that_multiply_are_cut_off() {
    let mut text = "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("x-{n}: &a{n} [{aliases}]\n"));
    }
    text.push_str("cores: [0]\n");
    let report = report(&text);
    assert_eq!(report.diagnostics().len(), 1);
    assert!(
        report.diagnostics()[0]
            .message()
            .contains("grows too large"),
        "{report}"
    );
}

#[test]
fn deep_nesting_is_cut_off() {
    for text in [
        format!("x-a: {}", "[".repeat(100_000)),
        format!("cores: {}", "{a: ".repeat(10_000)),
        "- ".repeat(50_000),
    ] {
        assert_eq!(report(&text).diagnostics().len(), 1);
    }
}

#[test]
fn report_of_ten_thousand_mistakes_is_bounded() {
    let mut text = "cores: [0]\nnetworks: {".to_owned();
    for n in 0..10_000 {
        text.push_str(&format!(" n{n}: {{ mtu: 1 }},"));
    }
    text.push_str(" }\n");
    let report = report(&text).to_string();
    assert!(report.ends_with("1000 errors, and perhaps more"));
    assert!(report.len() < 1_000_000, "{}", report.len());
}
