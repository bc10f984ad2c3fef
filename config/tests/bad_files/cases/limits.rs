//! Limits.

use crate::In::Limit;
use crate::{Expected, In};

pub(super) const LIMITS: &[(In, &[Expected])] = &[
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
];
