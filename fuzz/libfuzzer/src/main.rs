//! Gives what libFuzzer makes up to the target that MYELIN_FUZZ_TARGET names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("MYELIN_FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = myelin_fuzz::TARGETS.iter().map(|target| target.name).collect();
    let target = myelin_fuzz::target(&name);
    target.unwrap_or_else(|| panic!("MYELIN_FUZZ_TARGET must be one of {}", names.join(", "))).run
});

fuzz_target!(|data: &[u8]| TARGET(data));
