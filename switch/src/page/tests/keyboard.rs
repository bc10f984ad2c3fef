//! The page without a mouse.

use serde_json::json;

use super::chromium::Chromium;
use super::reports::report;
use super::served::Served;

#[test]
fn everything_is_reached_by_keys() {
    let served = Served::new(report(50));
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    chromium.press("Tab");
    assert_eq!(
        chromium.text("document.activeElement.textContent"),
        "To the VMs"
    );
    // Sort by a column.
    let focused = "document.activeElement.closest('#vms') && document.activeElement.textContent";
    for _ in 0..60 {
        chromium.press("Tab");
        if chromium.value(focused) == "From VM" {
            break;
        }
    }
    assert_eq!(chromium.value(focused), "From VM");
    chromium.press("Enter");
    let sorted = "document.querySelector('#vms th[aria-sort]').textContent";
    assert_eq!(chromium.text(sorted), "From VM");
    // Walk along the rows.
    chromium.value("document.querySelector('#vms .name').focus()");
    let names = chromium
        .value("[...document.querySelectorAll('#vms .name')].map((name) => name.textContent)");
    for place in 1..20 {
        chromium.press("ArrowDown");
        assert_eq!(
            chromium.value("document.activeElement.textContent"),
            names[place]
        );
        let seen = "(() => { const box = document.activeElement.getBoundingClientRect(); \
             return box.top >= 30 && box.bottom <= innerHeight; })()";
        assert_eq!(chromium.value(seen), true, "row {place} is in view");
    }
    chromium.press("ArrowUp");
    assert_eq!(
        chromium.value("document.activeElement.textContent"),
        names[18]
    );
    // Open a VM, and close it.
    chromium.press("Enter");
    assert_eq!(
        chromium.value("[document.getElementById('detail').hidden, document.activeElement.id]"),
        json!([false, "detail-title"])
    );
    chromium.press("Escape");
    assert_eq!(
        chromium.value(
            "[document.getElementById('detail').hidden, document.activeElement.textContent]"
        ),
        json!([true, names[18]])
    );
    chromium.is_well();
}

#[test]
fn everything_has_a_name_for_readers_of_the_screen() {
    let served = Served::new(report(20));
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    chromium.value("document.querySelector('#vms .name').click()");
    chromium.call("Accessibility.enable", json!({}));
    let tree = chromium.call("Accessibility.getFullAXTree", json!({}));
    let mut n_named = 0;
    for node in tree["nodes"].as_array().unwrap() {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        if [
            "button",
            "searchbox",
            "table",
            "region",
            "columnheader",
            "link",
            "complementary",
        ]
        .contains(&role)
        {
            let name = node["name"]["value"].as_str().unwrap_or_default();
            assert!(!name.is_empty(), "{node}");
            n_named += 1;
        }
    }
    assert!(n_named > 40, "{n_named}");
}
