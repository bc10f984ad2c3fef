//! What is written reads back, and any request is survived.

use config::{ObjectKind, Rewritten, Topology};
use proptest::prelude::*;

use crate::{loaded, rig, said, write};

/// One NIC with these choices, on a path of its own.
fn nic(n: usize, choices: [u8; 4]) -> String {
    let [macs, kind, rules, more] = choices;
    let macs = ["", "macs: any, ", "macs: 8, ", "mac: \"52:54:00:00:01:0"][usize::from(macs % 4)];
    let macs = match macs.strip_suffix('0') {
        Some(mac) => format!("{mac}0{n}\", "),
        None => macs.to_owned(),
    };
    let kind = match kind % 4 {
        0 => format!(
            "queues: {}, vhost-user: {{ path: \"/run/a b#{n}\", group: kvm }}",
            1 + more % 16
        ),
        1 => format!("vhost-user: {{ path: /run/{n}, listens: guest }}"),
        2 => format!("tap: {{ name: \"t*{n}\" }}"),
        _ => format!(
            "queues: {}, afxdp: {{ device: d{n}, mode: copy, ring: 512 }}",
            1 + more % 64
        ),
    };
    let rules = [
        "",
        "deny: { to-vm: { proto: tcp, port: [25, 80-90] } }",
        "allow: { from-vm: {}, to-vm: { cidr: 10.0.0.0/8 } }",
        "deny: { from-vm: { proto: icmp6, icmp-type: 128, cidr: \"2001:db8::/32\" } }",
        "deny: { to-vm: { proto: non-ip } }, x: 1",
        "allow: { to-vm: { proto: 47 } }",
    ][usize::from(rules % 6)]
    .replace(", x: 1", "");
    let rules = if rules.is_empty() {
        rules
    } else {
        format!(", rules: [ {{ {rules} }} ]")
    };
    let enabled = if more & 1 > 0 { ", enabled: false" } else { "" };
    let network = if more & 2 > 0 || kind.contains("afxdp") {
        "blue"
    } else {
        "big"
    };
    format!("  n{n}: {{ network: {network}, {macs}{kind}{rules}{enabled} }}\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever a VM is, its file says the same when it is read, and so does the file of that.
    #[test]
    fn file_of_a_vm_reads_back_as_the_vm(
        nics in proptest::collection::vec(any::<[u8; 4]>(), 1..3),
        label in "[ -~äé🦀\u{2028}\u{feff}\u{202e}]{1,30}",
        limit in 0usize..4,
    ) {
        let rig = rig();
        let nics: String = nics.iter().enumerate().map(|(n, nic_)| nic(n, *nic_)).collect();
        let limit = [
            "",
            "limit: { from-vm: { rate: 1500mbit } }\n",
            "limit: { to-vm: { packets: 5kpps, queue: none } }\n",
            "limit: { to-vm: { rate: 10gbit, burst: 8MiB, queue: 999us } }\n",
        ][limit].replace("999us", "7ms");
        let label = serde_json::json!(label);
        let text = format!("labels: {{ a: {label} }}\n{limit}nics:\n{nics}");
        let Rewritten { topology, text } = rig.with_vm("new", &text).map_err(|report| {
            TestCaseError::fail(format!("{report}\n{text}"))
        })?;
        write(&rig.path("vms.d/new.yaml"), &text);
        let read = loaded(&rig.folder);
        prop_assert_eq!(said(&read), said(&topology), "{}", text);
        // `new` comes before `web` on disk, and last in memory.
        let vm = |topology: &Topology| topology.vms.iter().find(|vm| vm.name == "new").cloned();
        prop_assert_eq!(vm(&read), vm(&topology));
        prop_assert_eq!(
            read.origin.place(ObjectKind::Nic, "new/n0"),
            topology.origin.place(ObjectKind::Nic, "new/n0")
        );
        // Text of text is the same text.
        let body: String = text
            .lines()
            .skip(3)
            .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line)))
            .collect();
        prop_assert_eq!(rig.with_vm("new", &body).map(|again| again.text), Ok(text));
    }

    #[test]
    fn any_request_ends_in_a_vm_or_a_report(
        text in "\\PC{0,80}|(?s).{0,40}|[\\[\\]{}:,\"a-z \\n]{0,40}",
    ) {
        let rig = rig();
        for result in [rig.with_vm("new", &text), rig.with_limit(&text)] {
            if let Err(report) = result {
                prop_assert!(!report.to_string().contains("report it"), "{}", report);
            }
        }
    }
}
