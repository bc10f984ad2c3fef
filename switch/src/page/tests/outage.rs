//! A daemon that goes, falls silent, refuses, and comes back.

use serde_json::json;

use super::chromium::{Chromium, NOTICE as SAID};
use super::reports::{goes_on, report};
use super::served::{Mood, Served};

#[test]
fn page_says_that_the_daemon_has_gone_and_goes_on_when_it_is_back() {
    let mut served = Served::new(report(30));
    let Some(mut chromium) = Chromium::sized(&served, "#sort=-from&filter=web", (1280, 800)) else {
        return;
    };
    assert_eq!(chromium.text(SAID), "");
    let rows = "[...document.querySelectorAll('#vms tbody tr:not(.gap)')] \
         .map((row) => row.innerText).join()";
    let before = chromium.text(rows);
    served.stop();
    chromium.until(&format!(
        "({SAID}).includes('weir does not answer: no connection.')"
    ));
    let said = chromium.text(SAID);
    assert!(said.contains("What is shown is of "), "{said}");
    assert!(said.contains("tries again every 2 s"), "{said}");
    assert!(chromium.text("document.title").starts_with("(no answer)"));
    assert_eq!(chromium.text(rows), before, "what was known is still shown");
    // In grey, and not paler, which would be hard to read.
    let look = "(({ filter, opacity }) => [filter, opacity])(getComputedStyle(main))";
    assert_eq!(chromium.value(look), json!(["grayscale(1)", "1"]));
    // It comes back: another process, which counts from zero.
    served.change(|report| {
        report.started_at = "2026-03-02T00:00:00Z".to_owned();
        report.at_nanoseconds = 5;
        report.uptime_seconds = 1;
        for vm in &mut report.vms {
            vm.dropped_frames /= 2;
        }
    });
    served.start();
    chromium.until(&format!("({SAID}) === ''"));
    assert_eq!(
        chromium.value("document.querySelectorAll('.hot').length"),
        0
    );
    assert_eq!(
        chromium.value("location.hash + document.getElementById('filter').value"),
        "#sort=-from&filter=webweb"
    );
    served.change(goes_on);
    chromium.until("document.querySelector('#drops .hot')");
    chromium.is_well();
}

#[test]
fn daemon_that_is_silent_or_refuses_is_named_so() {
    let served = Served::new(report(3));
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    served.set(Mood::Refuses);
    chromium.until(&format!("({SAID}).includes('it answers 503')"));
    served.set(Mood::Babbles);
    chromium.until(&format!("({SAID}).includes(\"its answer can't be shown\")"));
    served.set(Mood::Silent);
    chromium.until(&format!("({SAID}).includes('no answer within 5 s')"));
    served.set(Mood::Answers);
    chromium.until(&format!("({SAID}) === ''"));
    chromium.is_well();
}

#[test]
fn page_of_another_version_is_loaded_anew() {
    let served = Served::new(report(3));
    let Some(mut chromium) = Chromium::sized(&served, "#sort=-from", (1280, 800)) else {
        return;
    };
    chromium.value("window.is_old = true");
    served.change(|report| report.version = "0.2.0".to_owned());
    chromium.until("window.is_old === undefined && document.querySelector('#about dd')");
    assert_eq!(
        chromium.text("document.querySelector('#about dd').textContent"),
        "0.2.0"
    );
    assert_eq!(chromium.value("location.hash"), "#sort=-from");
    chromium.refreshes(2);
    chromium.is_well();
}
