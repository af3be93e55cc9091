#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luge_benches::targets::requests(bytes));
