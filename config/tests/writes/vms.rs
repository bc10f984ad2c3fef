//! Requests for whole VMs.

use std::fs;

use config::{ObjectKind, Rewritten};

use crate::{MAIN, Rig, WEB, loaded, names, rig, said, write};

#[test]
fn vm_is_added_from_yaml_or_json_and_its_file_is_yaml() {
    let yaml = "nics:\n  net0: { network: blue, queues: 4, vhost-user: { path: /run/n.sock } }\n";
    let json = r#"{
	"nics": { "net0": { "network": "blue", "queues": 4,
		"vhost-user": { "path": "/run/n.sock" } } }
}"#;
    let expected = "\
# Written by weir, which replaces the whole file when this VM is changed.
vms:
  new:
    nics:
      net0:
        network: blue
        queues: 4
        vhost-user:
          path: /run/n.sock
";
    for text in [yaml, json] {
        let rig = rig();
        let Rewritten { topology, text } =
            rig.with_vm("new", text).unwrap_or_else(|r| panic!("{r}"));
        assert_eq!(text, expected);
        assert_eq!(names(&topology), ["db", "web", "new"]);
        let place = topology.origin.place(ObjectKind::Nic, "new/net0").unwrap();
        assert_eq!((&place.file, place.line), (&rig.path("vms.d/new.yaml"), 5));
        // What is read from that file is what was made of the request.
        write(&rig.path("vms.d/new.yaml"), &text);
        assert_eq!(said(&loaded(&rig.folder)), said(&topology));
    }
}

#[test]
fn vm_that_is_there_is_replaced_in_its_place_and_does_not_disturb_itself() {
    let rig = Rig::new(
        MAIN,
        &[
            ("vms.d/web.yaml", WEB),
            ("vms.d/x.yaml", &WEB.replace("web", "x")),
        ],
    );
    let text = "{ nics: { net1: { network: big, vhost-user: { path: /run/web.sock } } } }";
    let Rewritten { topology, .. } = rig.with_vm("web", text).unwrap();
    assert_eq!(names(&topology), ["db", "web", "x"]);
    assert_eq!(topology.vms[1].nics[0].network_idx, 1);
    assert_eq!(topology.vms[1].limit, config::VmLimit::default());
    let place = |name| topology.origin.place(ObjectKind::Nic, name);
    assert!(place("web/net0").is_none() && place("web/net1").is_some());
}

#[test]
fn edits_of_other_files_have_no_say() {
    let rig = rig();
    write(&rig.path("weir.yaml"), "no: [ topology\n");
    fs::remove_dir_all(rig.path("vms.d")).unwrap();
    let text = "{ nics: { n: { network: blue, vhost-user: { path: /run/n.sock } } } }";
    assert_eq!(
        names(&rig.with_vm("new", text).unwrap().topology),
        ["db", "web", "new"]
    );
    assert!(rig.with_limit("{ from-vm: { rate: 3gbit } }").is_ok());
    // A network that is in the file only is none yet.
    write(
        &rig.path("weir.yaml"),
        &MAIN.replace("blue: {}", "blue: {}, red: {}"),
    );
    rig.assert_wrong(
        "new",
        "nics: { n: { network: red, vhost-user: { path: /n } } }",
        &[(1, 23, "there is no network `red`")],
    );
}

#[test]
fn what_another_vm_uses_is_refused_with_both_places() {
    let rig = rig();
    let nic = |keys: &str| format!("nics:\n  n: {{ network: blue, {keys} }}\n");
    let cases = [
        (
            "vhost-user: { path: /run/db.sock }",
            43,
            "path already used by `db/net0`, in DIR/weir.yaml:10",
        ),
        (
            "vhost-user: { path: /run/web.sock }",
            43,
            "used by `web/net0`, in DIR/vms.d/web.yaml:6",
        ),
        (
            "vhost-user: { path: /run/weir/control.sock }",
            43,
            "by the control socket, in DIR/weir.yaml:3",
        ),
        (
            "tap: { name: tap7 }",
            36,
            "device `tap7` already used by `db/net1`, in DIR/weir.yaml:11",
        ),
        (
            "afxdp: { device: eth1 }",
            40,
            "used by uplink `up0`, in DIR/weir.yaml:5",
        ),
        (
            "mac: \"52:54:00:00:00:01\", vhost-user: { path: /n }",
            28,
            "already used by `db/net0` in the same network, in DIR/weir.yaml:10",
        ),
    ];
    for (keys, column, message) in cases {
        rig.assert_wrong("new", &nic(keys), &[(2, column, message)]);
    }
    // Whoever uses it twice in one request is told so, too.
    rig.assert_wrong(
        "new",
        "nics:\n  n: { network: blue, tap: { name: t } }\n  m: { network: blue, tap: { name: t } }",
        &[(3, 36, "device `t` already used by `new/n`, on line 2")],
    );
    let default = Rig::new("cores: [0]\nnetworks: { blue: {} }\n", &[]);
    default.assert_wrong(
        "new",
        &nic("vhost-user: { path: /run/weir/control.sock }"),
        &[(2, 43, "by the control socket, at its default path")],
    );
}

#[test]
fn bounds_count_what_is_there() {
    // Two of `db`, one of `web`, and the uplink.
    let rig = rig();
    let vm = |n: usize| {
        let nic = |n| format!("n{n}: {{ network: blue, vhost-user: {{ path: /{n} }} }}");
        format!(
            "nics: {{\n{}\n}}",
            (0..n).map(nic).collect::<Vec<_>>().join(",\n")
        )
    };
    assert!(rig.with_vm("new", &vm(2)).is_ok());
    rig.assert_wrong("new", &vm(3), &[(4, 1, "more than 6 NICs and uplinks")]);
    // One that is replaced doesn't count.
    assert!(rig.with_vm("web", &vm(3)).is_ok());

    let full: String = (0..1023)
        .map(|n| {
            format!("  v{n}: {{ nics: {{ n: {{ network: a, vhost-user: {{ path: /{n} }} }} }} }}\n")
        })
        .collect();
    let rig = Rig::new(
        &format!("cores: [0]\nnetworks: {{ a: {{}} }}\nvms:\n{full}"),
        &[],
    );
    let vm = |n: usize| vm(n).replace("blue", "a").replace("path: /", "path: /x");
    assert!(rig.with_vm("new", &vm(1)).is_ok());
    rig.assert_wrong(
        "new",
        &vm(2),
        &[(3, 1, "more than 1024 NICs in one network")],
    );
}

#[test]
fn request_that_is_not_a_vm_is_refused() {
    let rig = rig();
    for (text, expected) in [
        ("", &[(0, 0, "this is empty")][..]),
        ("null", &[(0, 0, "this is empty")]),
        (
            "[]",
            &[(1, 1, "a VM is a mapping of keys to values, not a list")],
        ),
        (
            "7",
            &[(
                1,
                1,
                "a VM is a mapping of keys to values, not a single value",
            )],
        ),
        ("{}", &[(1, 1, "VM `new` has no `nics`")]),
        ("nics: {}", &[(1, 7, "VM `new` has no NICs")]),
        (
            "vms: { other: {} }\ninclude: [ /etc/passwd ]\nx-a: 1\nnics: { n: { network: blue, \
            vhost-user: { path: /n } } }",
            &[
                (1, 1, "unknown key `vms` in a VM"),
                (2, 1, "unknown key `include` in a VM"),
                (3, 1, "unknown key `x-a` in a VM"),
            ],
        ),
        (
            "nics: { n: { network: blue, vhost-user: { path: /n } } }\n---\nnics: {}\n",
            &[(3, 1, "a second document begins here")],
        ),
        (
            "{ \"nics\": { \"n\": ",
            &[(1, 11, "this bracket is never closed")],
        ),
        (
            r#"{ "nics": { "../n": { "network": "blue", "vhost-user": { "path": "/n" } } } }"#,
            &[(1, 13, "`../n` can't be the name of a NIC")],
        ),
        (
            "{ \"share\": { \"min\": \"1gbit\" }, \"nics\": { \"n\": { \"network\": \"blue\", \
            \"vhost-user\": { \"path\": \"/n\" } } } }",
            &[(1, 3, "`share` is not supported by this version")],
        ),
    ] {
        rig.assert_wrong("new", text, expected);
    }
    let nic = "{ nics: { n: { network: blue, vhost-user: { path: /n } } } }";
    for name in ["../../etc/cron", "a/b", "", ".", "a b", "-a", "é"] {
        let found = rig.found(rig.with_vm(name, nic), "the request");
        assert!(
            found[0].2.contains("can't be the name of a VM"),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn json_with_escapes_and_labels_that_yaml_would_take_for_something_else_keep_their_text() {
    let rig = rig();
    let labels = |text: &str| {
        let body = format!(
            "{{ \"labels\": {{ {text} }},\t\"nics\": {{ \"n\": {{ \"network\": \"blue\", \
            \"vhost-user\": {{ \"path\": \"/n\" }} }} }} }}"
        );
        let Rewritten { topology, text } =
            rig.with_vm("new", &body).unwrap_or_else(|r| panic!("{r}"));
        write(&rig.path("vms.d/new.yaml"), &text);
        assert_eq!(said(&loaded(&rig.folder)), said(&topology), "{text}");
        topology.vms[2].labels.values().cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        labels(r#""a": "\ud83e\udd80 \u00e9 \"x\" \\""#),
        ["🦀 é \"x\" \\"]
    );
    let odd = [
        "yes", "null", "~", "1e9", "0660", "- a", "a: b", "#x", " a ", "{", "*a", "!x", "'",
    ];
    for text in odd {
        assert_eq!(
            labels(&format!("\"a\": {}", serde_json::json!(text))),
            [text]
        );
    }
    assert_eq!(labels(r#""a": 7, "b": true"#), ["7", "true"]);
}

#[test]
fn vm_is_taken_away_with_its_places() {
    let rig = rig();
    let topology = rig.topology.without_vm("web").unwrap();
    assert_eq!(names(&topology), ["db"]);
    assert!(topology.origin.place(ObjectKind::Vm, "web").is_none());
    assert!(topology.origin.place(ObjectKind::Nic, "web/net0").is_none());
    assert!(topology.origin.place(ObjectKind::Nic, "db/net0").is_some());
    assert_eq!(rig.topology.without_vm("nobody"), None);
    // What it used is free.
    let text = "nics: { n: { network: blue, vhost-user: { path: /run/web.sock } } }";
    let file = rig.path("vms.d/new.yaml");
    assert!(topology.with_vm("new", text, "the request", &file).is_ok());
}
