//! The fuzz targets where there is no fuzzer: over what is kept, and over inputs made from seeds.
#![forbid(unsafe_code)]

use weir_fuzz::replay::{random, replay};
use weir_fuzz::{config_text, header, requests, rings};

#[test]
fn headers_that_once_went_wrong_and_others_are_decided_by_their_bytes_alone() {
    replay("header", header::run);
    random("header", 20_000, header::run);
}

#[test]
fn rings_that_once_went_wrong_and_others_harm_nobody_else() {
    replay("rings", rings::run);
    random("rings", 2_000, rings::run);
}

#[test]
fn files_that_once_went_wrong_and_others_are_understood_or_refused() {
    replay("config", config_text::run);
    random("config", 5_000, config_text::run);
}

#[test]
fn requests_that_once_went_wrong_and_others_are_answered_with_a_sentence() {
    assert!(replay("requests", requests::run) > 0);
    random("requests", 5_000, requests::run);
}
