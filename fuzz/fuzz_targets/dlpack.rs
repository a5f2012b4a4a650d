#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    tidelock_fuzz::dlpack::run(input);
});
