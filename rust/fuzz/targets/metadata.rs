//! metadata.json that was read, written and read again is the same; files.json names the members or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdg_core::envelope::files::{self, Member};
use mdg_core::envelope::metadata::Metadata;

const ID: &str = "6f57f5fa-1cd1-45be-a5c3-fb209be1e0ec";

fuzz_target!(|data: &[u8]| {
    if let Ok(metadata) = Metadata::read(data, ID) {
        let written = metadata.write().expect("what was read can be written");
        assert_eq!(Metadata::read(&written, ID).expect("what was written can be read"), metadata);
    }

    let members = [Member { name: "metadata.json".into(), size: 2, sha256: [7; 32] }];
    if files::check(data, &members).is_ok() {
        assert!(data.windows(13).any(|text| text == b"metadata.json") || data.contains(&b'\\'));
    }
    files::check(&files::write(&members).expect("members can be listed"), &members).expect("a list of its members");
});
