//! Requests that change a limit.

use std::path::Path;

use config::{ObjectKind, Rewritten};

use crate::{loaded, rig, said, write};

#[test]
fn limit_is_patched_key_by_key() {
    let rig = rig();
    let limit = |text: &str| {
        let Rewritten {
            topology,
            text: file,
        } = rig.with_limit(text).unwrap_or_else(|r| panic!("{r}"));
        write(&rig.path("vms.d/web.yaml"), &file);
        assert_eq!(said(&loaded(&rig.folder)), said(&topology), "{file}");
        // The rest of it is what it was.
        assert_eq!(topology.vms[1].nics, rig.topology.vms[1].nics);
        assert_eq!(topology.vms[1].labels, rig.topology.vms[1].labels);
        let settings = topology.objects();
        let web = settings
            .iter()
            .find(|object| object.kind == ObjectKind::Vm && object.name == "web");
        let limits = web
            .unwrap()
            .settings
            .iter()
            .filter(|s| s.key.starts_with("limit"));
        limits
            .map(|s| match &s.value {
                config::Written::One(value) => format!("{} {value}", &s.key[6..]),
                config::Written::List(_) => unreachable!("a limit has no lists"),
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    let to_vm = "to-vm.rate 2gbit, to-vm.queue 20ms";
    assert_eq!(
        limit(r#"{ "from-vm": { "rate": "3gbit" } }"#),
        format!("from-vm.rate 3gbit, from-vm.packets 10kpps, {to_vm}")
    );
    assert_eq!(
        limit("from-vm: { packets: null, burst: 2MiB }\n"),
        format!("from-vm.rate 1gbit, from-vm.burst 2MiB, {to_vm}")
    );
    assert_eq!(limit("{ from-vm: null }"), to_vm);
    assert_eq!(limit("{ from-vm: null, to-vm: ~ }"), "");
    assert_eq!(
        limit("{ to-vm: { queue: none } }")
            .matches("queue none")
            .count(),
        1
    );
    assert_eq!(
        limit("{}"),
        format!("from-vm.rate 1gbit, from-vm.packets 10kpps, {to_vm}")
    );
}

#[test]
fn limit_that_is_wrong_is_refused_where_it_stands() {
    let rig = rig();
    for (text, expected) in [
        ("", (0, 0, "this is empty")),
        ("[]", (1, 1, "a limit is a mapping")),
        ("{ nics: {} }", (1, 3, "unknown key `nics` in a limit")),
        ("{ nics: null }", (1, 3, "unknown key `nics` in a limit")),
        ("{ from-vm: 1gbit }", (1, 12, "a rate is a mapping")),
        (
            "{ from-vm: { rate: [1gbit] } }",
            (1, 20, "`rate` is a single value, not a list"),
        ),
        (
            "{ from-vm: { queue: 5ms } }",
            (1, 14, "unknown key `queue` in a rate"),
        ),
        (
            "from-vm: { rate: 1gbit }\nfrom-vm: null\n",
            (2, 1, "`from-vm` is here twice; the first is on line 1"),
        ),
    ] {
        let found = rig.found(rig.with_limit(text), "the request");
        assert_eq!(
            (found[0].0, found[0].1),
            (expected.0, expected.1),
            "{text}: {found:?}"
        );
        assert!(
            found[0].2.contains(expected.2) && found.len() == 1,
            "{text}: {found:?}"
        );
    }
    // Values are shown as they would be in the file.
    let file = rig.path("vms.d/web.yaml").display().to_string();
    for (text, message) in [
        ("{ from-vm: { rate: 1gbps } }", "`gbps` is ambiguous"),
        ("{ from-vm: { rate: 1bit } }", "too low to be kept to"),
        (
            "{ from-vm: { rate: null, packets: null } }",
            "this limits nothing",
        ),
        (
            "{ from-vm: { rate: null, burst: 64KiB } }",
            "`burst` does nothing without a `rate`",
        ),
        ("{ from-vm: { burst: 1500B } }", "is smaller than one frame"),
    ] {
        let report = rig.with_limit(text).unwrap_err();
        assert_eq!(report.diagnostics()[0].file(), file);
        assert!(
            report.diagnostics()[0].message().contains(message),
            "{report}"
        );
        assert!(report.to_string().contains(" | "), "{report}");
    }
    let nobody = rig
        .topology
        .with_limit("nobody", "{}", "the request", Path::new("f"));
    assert!(nobody.is_none());
}

/// Whether it is a new limit, in whatever order its keys come, or the VM as a whole.
#[test]
fn file_has_one_order_however_it_was_asked_for() {
    let text = "cores: [0]\nnetworks: { b: {} }\nvms:\n  a: { nics: { n: { network: b, vhost-user: \
        { path: /s } } } }\n";
    let running = config::parse(text, "weir.yaml");
    let running = running.unwrap_or_else(|report| panic!("{report}"));
    let file = Path::new("vms.d/a.yaml");
    let limit = "to-vm: { packets: 2kpps, rate: 1gbit }\nfrom-vm: { rate: 2gbit }\n";
    let patched = running.with_limit("a", limit, "the request", file);
    let vm = format!(
        "{{ nics: {{ n: {{ network: b, vhost-user: {{ path: /s }} }} }}, limit: {{ {} }} }}",
        limit.trim_end().replace('\n', ", ")
    );
    let whole = running.with_vm("a", &vm, "the request", file);
    let [patched, whole] = [patched.unwrap(), whole].map(|it| it.unwrap_or_else(|r| panic!("{r}")));
    assert_eq!(patched, whole);
}
