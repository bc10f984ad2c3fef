//! How the page looks: contrast, width, and pictures for a person.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::chromium::Chromium;
use super::reports::{goes_on, report};
use super::served::Served;

const SIZES: [(u32, u32); 2] = [(1280, 800), (390, 844)];

/// Texts whose contrast to what is behind them is below that of WCAG 2.2, level AA.
const FAINT: &str = "(() => {
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
        .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, idx) => sum + value * [0.2126, 0.7152, 0.0722][idx], 0);
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const color = numbers(getComputedStyle(element).backgroundColor);
            if (color.length === 3 || color[3] === 1) return light(color);
        }
        return 1;
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = [];
    let n = 0;
    while (texts.nextNode()) {
        const parent = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !parent.checkVisibility()) continue;
        if (['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(parent.tagName)) continue;
        const pair = [light(numbers(getComputedStyle(parent).color)), behind(parent)];
        pair.sort((a, b) => b - a);
        const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
        n += 1;
        if (ratio < 4.5) faint.push([texts.currentNode.data, ratio.toFixed(2)]);
    }
    return [n > 50, faint];
})()";

#[test]
fn every_text_stands_out_and_nothing_is_wider_than_the_window() {
    let served = Served::new(report(30));
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    served.change(goes_on);
    chromium.until("document.querySelector('#vms .hot')");
    chromium.value("document.querySelector('#vms .name').click()");
    for size in SIZES {
        for is_dark in [false, true] {
            chromium.resize(size, is_dark);
            let what = format!("{size:?}, dark: {is_dark}");
            assert_eq!(chromium.value(FAINT), json!([true, []]), "{what}");
            let width = chromium.value("document.documentElement.scrollWidth - innerWidth");
            assert!(width.as_i64().unwrap() <= 0, "{what}: wider by {width}");
        }
    }
}

#[test]
fn numbers_are_never_cut_off() {
    let served = Served::new(report(40));
    let Some(mut chromium) = Chromium::on(&served) else {
        return;
    };
    for size in [SIZES[0], SIZES[1], (1600, 900)] {
        chromium.resize(size, false);
        let cut = chromium.value(
            "[...document.querySelectorAll('td.right, th')].filter((cell) => \
             cell.checkVisibility() && cell.scrollWidth > cell.clientWidth + 1) \
             .map((cell) => cell.innerText)",
        );
        assert_eq!(cut, json!([]), "{size:?}");
    }
}

/// Takes pictures, if the variable `WEIR_PICTURES` names a folder for them.
#[test]
fn pictures_can_be_taken() {
    let Some(folder) = std::env::var_os("WEIR_PICTURES").map(PathBuf::from) else {
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    for n_vms in [3, 12, 1000] {
        let served = Served::new(report(n_vms));
        let Some(mut chromium) = Chromium::on(&served) else {
            return;
        };
        served.change(goes_on);
        chromium.until("document.querySelector('#drops .hot')");
        for size in SIZES {
            for (is_dark, name) in [(false, "light"), (true, "dark")] {
                chromium.resize(size, is_dark);
                let (width, height) = size;
                for (view, script) in [
                    ("top", "scrollTo(0, 0)"),
                    ("list", "document.getElementById('vms').scrollIntoView()"),
                    ("open", "document.querySelector('#vms .name').click()"),
                    ("closed", "close()"),
                ] {
                    chromium.value(script);
                    if view == "closed" {
                        continue;
                    }
                    // Two frames, so that what was scrolled to is drawn.
                    chromium.value(
                        "new Promise((drawn) => requestAnimationFrame(() => \
                         requestAnimationFrame(() => drawn(null))))",
                    );
                    let picture = BASE64_STANDARD.decode(chromium.picture()).unwrap();
                    let file = format!("{n_vms}-{width}x{height}-{name}-{view}.png");
                    std::fs::write(folder.join(file), picture).unwrap();
                }
            }
        }
    }
}
