use super::*;
use crate::base::looks::looks_of;
use crate::control::fixture::{sources, two_nics_each};

#[test]
fn report_has_what_the_page_shows_and_no_address() {
    let sources = sources(&two_nics_each(2));
    let json = serde_json::to_value(status(&sources)).unwrap();
    assert_eq!(json["topology"], 1);
    assert_eq!(json["vms"][0]["name"], "vm0");
    assert_eq!(json["vms"][0]["nics"][1]["network"], "red");
    assert_eq!(json["vms"][0]["nics"][1]["state"], "waiting");
    assert_eq!(json["vms"][0]["nics"][1]["sentence"], "waiting for guest");
    assert_eq!(
        json["vms"][0]["from_vm"]["limit_bits_per_second"],
        1_000_000_000
    );
    assert!(
        json["vms"][0]["to_vm"]
            .get("limit_bits_per_second")
            .is_none()
    );
    assert_eq!(json["uplinks"][0]["name"], "up0");
    assert_eq!(json["cores"][0]["cpu"], 0);
    assert_eq!(json["drops"], serde_json::json!([]));
    let text = json.to_string();
    for part in ["/run/weir", "mac", "rule", "null"] {
        assert!(!text.contains(part), "{part} in {text}");
    }
}

#[test]
fn report_of_more_vms_costs_no_more_for_each() {
    for n_vms in [10, 200] {
        let (sources, n_ports) = (sources(&two_nics_each(n_vms)), 2 * n_vms + 1);
        let looks = looks_of(|| status(&sources));
        assert!(
            (n_ports..=8 * n_ports).contains(&looks),
            "{looks} at {n_ports} ports"
        );
    }
}

#[test]
fn drops_are_summed_by_reason_and_named_as_in_the_api() {
    let drop = |reason: &DropReason, frames| DropReport {
        reason: reason.text().to_owned(),
        frames,
        sentence: String::new(),
    };
    let (first, second) = (&DropReason::ALL[0], &DropReason::ALL[1]);
    let sums = total([drop(second, 3), drop(first, 1), drop(second, 4)].iter());
    let sums: Vec<_> = sums
        .iter()
        .map(|drop| (&*drop.reason, drop.frames, &*drop.sentence))
        .collect();
    assert_eq!(
        sums,
        [
            (first.text(), 1, first.sentence()),
            (second.text(), 7, second.sentence())
        ]
    );
}

#[test]
#[ignore = "measures time"]
fn measured_report_of_a_thousand_vms() {
    let sources = sources(&two_nics_each(1000));
    let mut took: Vec<_> = (0..21)
        .map(|_| {
            let begin = std::time::Instant::now();
            let n_bytes = serde_json::to_vec(&status(&sources)).unwrap().len();
            (begin.elapsed(), n_bytes)
        })
        .collect();
    took.sort();
    let (min, median, max) = (took[0].0, took[10].0, took[20].0);
    println!(
        "{} bytes: min {min:?}, median {median:?}, max {max:?}",
        took[0].1
    );
}
