//! See `weir_fuzz::config_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::config_text::run(data));
