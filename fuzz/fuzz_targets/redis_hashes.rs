//! Fuzz program; what it checks stands in `fuzz-targets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::redis_hashes(data));
