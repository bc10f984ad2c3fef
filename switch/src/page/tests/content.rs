//! What is on the page.

use serde_json::json;

use super::chromium::Chromium;
use super::reports::{goes_on, nic, report, vm};
use super::served::Served;
use crate::api::state::State;

/// The cells of a table, row by row.
fn cells(chromium: &mut Chromium, table: &str) -> Vec<Vec<String>> {
    let rows = chromium.value(&format!(
        "[...document.querySelectorAll('#{table} tbody tr:not(.gap)')].map((row) => \
         [...row.cells].filter((cell) => getComputedStyle(cell).display !== 'none') \
         .map((cell) => cell.innerText.replaceAll('\\u00a0', ' ').trim()))"
    ));
    serde_json::from_value(rows).unwrap()
}

fn pairs(chromium: &mut Chromium, list: &str) -> Vec<(String, String)> {
    let pairs = chromium.value(&format!(
        "[...document.querySelectorAll('#{list} div')].map((pair) => \
         [...pair.children].map((part) => part.textContent.replaceAll('\\u00a0', ' ')))"
    ));
    serde_json::from_value(pairs).unwrap()
}

#[test]
fn page_shows_what_is_reported() {
    let served = Served::new(report(3));
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    let about = pairs(&mut chromium, "about");
    let about: Vec<_> = about.iter().map(|(term, is)| (&**term, &**is)).collect();
    assert_eq!(
        about[..2],
        [("Version", "0.1.0"), ("Topology", "number 17")]
    );
    assert_eq!(about[2], ("Up", "1 d 2 h"));
    assert_eq!(
        cells(&mut chromium, "vms"),
        [
            [
                "cache2",
                "up",
                "838 Mbit/s",
                "no limit",
                "–",
                "279 Mbit/s",
                "no limit",
                "0",
                "40"
            ],
            [
                "database1",
                "up",
                "919 Mbit/s",
                "92 % of 1 Gbit/s",
                "0 %",
                "306 Mbit/s",
                "no limit",
                "0",
                "0"
            ],
            [
                "web0",
                "up",
                "0 bit/s",
                "0 % of 1 Gbit/s",
                "0 %",
                "0 bit/s",
                "0 % of 2 Gbit/s, 200 kpps",
                "0",
                "0"
            ],
        ]
    );
    assert_eq!(
        cells(&mut chromium, "cores")[..2],
        [
            ["2", "42 %", "100 %", "1.26 Mpps"],
            ["3", "97 %", "100 %", "2.91 Mpps"]
        ]
    );
    assert_eq!(
        cells(&mut chromium, "uplinks"),
        [
            ["storage", "waiting", "0 bit/s", "0 bit/s", "0", "1,234"],
            ["up0", "up", "4.21 Gbit/s", "2.90 Gbit/s", "0", "0"],
        ]
    );
    assert_eq!(
        pairs(&mut chromium, "notes"),
        [(
            "storage".to_owned(),
            "waiting for the device eth9".to_owned()
        )]
    );
    assert_eq!(
        cells(&mut chromium, "drops"),
        [["denied", "0", "98,765"], ["receiver-full", "0", "120"]]
    );
    served.change(goes_on);
    chromium.until("document.querySelector('#vms .hot')?.innerText === '25'");
    assert_eq!(
        cells(&mut chromium, "drops")[0],
        ["receiver-full", "250", "370"],
        "what grows comes first"
    );
    let totals = pairs(&mut chromium, "totals");
    assert!(
        totals.contains(&("Drops/s".to_owned(), "250".to_owned())),
        "{totals:?}"
    );
    chromium.is_well();
}

#[test]
fn state_says_what_is_waited_for() {
    let mut made = report(2);
    made.vms[0].nics = vec![
        nic("net0", "blue", State::Up),
        nic("net1", "red", State::Connected),
    ];
    made.vms[0].nics[1].sentence = Some("no shared memory".to_owned());
    made.vms[1].nics = vec![nic("net0", "blue", State::Disabled)];
    let served = Served::new(made);
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    let states: Vec<_> = cells(&mut chromium, "vms")
        .into_iter()
        .map(|row| row[1].clone())
        .collect();
    assert_eq!(states, ["disabled", "1 of 2 up; net1: no shared memory"]);
    let [nics, ..] = &pairs(&mut chromium, "totals")[..] else {
        panic!("no totals");
    };
    assert_eq!(nics.1, "1 of 2", "one that is disabled is not missed");
}

#[test]
fn text_of_a_topology_is_never_html() {
    const EVIL: &str = "<script>hit=1</script><img src=x onerror='hit=1'>&amp;\"";
    let mut made = report(2);
    let evil = &mut made.vms[0];
    evil.name = EVIL.to_owned();
    evil.labels.insert("note".to_owned(), EVIL.to_owned());
    evil.nics = vec![nic(EVIL, EVIL, State::Impaired)];
    evil.nics[0].sentence = Some(EVIL.to_owned());
    evil.drops = [(EVIL.to_owned(), 3)].into();
    made.uplinks[0].name = EVIL.to_owned();
    made.uplinks[0].sentence = Some(EVIL.to_owned());
    made.drops[0].reason = EVIL.to_owned();
    made.drops[0].sentence = EVIL.to_owned();
    made.version = EVIL.to_owned();
    let served = Served::new(made);
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    chromium.value("document.querySelector('#vms .name').click()");
    chromium.value("document.getElementById('filter').focus()");
    chromium.types("<script>");
    chromium.until("document.getElementById('count').textContent === '1 of 2 VMs'");
    chromium.refreshes(2);
    let seen = json!([
        chromium.value("typeof hit"),
        chromium.value("document.querySelectorAll('img').length"),
        chromium.value("document.querySelectorAll('script').length"),
        chromium.text("document.querySelector('#vms .name').textContent"),
        chromium.text("document.getElementById('detail-title').textContent"),
    ]);
    assert_eq!(seen, json!(["undefined", 0, 1, EVIL, EVIL]));
    let facts = pairs(&mut chromium, "facts");
    assert!(
        facts.contains(&("Label note".to_owned(), EVIL.to_owned())),
        "{facts:?}"
    );
    assert_eq!(cells(&mut chromium, "nics"), [[EVIL, EVIL, EVIL]]);
    chromium.is_well();
}

#[test]
fn policy_keeps_scripts_of_others_and_other_addresses_out() {
    let served = Served::new(report(1));
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    chromium.value(
        "(() => {
            const script = document.createElement('script');
            script.textContent = 'hit = 1';
            document.body.append(script);
            const image = document.createElement('img');
            image.src = 'http://127.0.0.1:1/x';
            document.body.append(image);
            fetch('http://127.0.0.1:1/x').catch(() => {});
        })()",
    );
    chromium.until("wrong.length >= 3");
    assert_eq!(chromium.value("typeof hit"), "undefined");
    let mut wrong: Vec<String> = serde_json::from_value(chromium.value("wrong")).unwrap();
    wrong.sort();
    assert_eq!(wrong, ["connect-src", "img-src", "script-src-elem"]);
}

#[test]
fn one_vm_can_be_opened_and_says_when_it_has_gone() {
    let served = Served::new(report(20));
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    chromium.value(
        "[...document.querySelectorAll('#vms .name')] \
         .find((name) => name.textContent === 'cache2').click()",
    );
    assert_eq!(
        cells(&mut chromium, "reasons"),
        [["receiver-full", "0", "40"]]
    );
    served.change(goes_on);
    chromium.until("document.querySelector('#reasons .hot')?.innerText === '25'");
    served.change(|report| report.vms.retain(|vm| vm.name != "cache2"));
    chromium.until("!document.getElementById('gone').hidden");
    served.change(|report| report.vms.push(vm(2)));
    chromium.until("document.getElementById('gone').hidden");
    chromium.is_well();
}

#[test]
fn switch_without_vms_says_so() {
    let mut made = report(0);
    made.uplinks.clear();
    made.drops.clear();
    let served = Served::new(made);
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    let said = chromium.text("document.getElementById('main').innerText");
    for sentence in [
        "There is no VM in the topology.",
        "There is no uplink.",
        "No frame was dropped.",
    ] {
        assert!(said.contains(sentence), "{said}");
    }
    chromium.is_well();
}

#[test]
fn first_drop_for_a_reason_is_seen_as_it_comes() {
    let mut made = report(3);
    made.drops.clear();
    let served = Served::new(made);
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    served.change(|made| {
        made.at_nanoseconds += 2_000_000_000;
        made.drops = report(3).drops;
    });
    chromium.until("document.querySelector('#drops .hot')");
    assert_eq!(
        cells(&mut chromium, "drops"),
        [
            ["denied", "49,383", "98,765"],
            ["receiver-full", "60", "120"]
        ]
    );
    // A VM that comes says nothing of what it dropped before.
    served.change(|made| {
        made.at_nanoseconds += 1_000_000_000;
        made.vms.push(vm(15));
    });
    chromium.until("document.getElementById('count').textContent === '4 VMs'");
    assert_eq!(
        chromium.value("document.querySelectorAll('#vms .hot').length"),
        0
    );
    chromium.is_well();
}
