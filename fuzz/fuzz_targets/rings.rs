//! See `weir_fuzz::rings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::rings::run(data));
