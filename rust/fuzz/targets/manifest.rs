//! A manifest that was read, written and read again is the same, and writing it twice gives the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdg_core::envelope::manifest::Manifest;

fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = Manifest::read(data) else { return };
    let written = manifest.write().expect("what was read can be written");
    let again = Manifest::read(&written).expect("what was written can be read");
    assert_eq!(again, manifest);
    assert_eq!(again.write().expect("as above"), written);
});
