//! What strict JSON accepts has one canonical form, and that form is strict JSON with the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdg_core::json;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = json::parse("fuzz", data) else { return };
    let written = json::canonical(&value).expect("what was parsed has a canonical form");
    let again = json::parse("fuzz", &written).expect("the canonical form is strict JSON");
    assert_eq!(json::canonical(&again).expect("as above"), written);
});
