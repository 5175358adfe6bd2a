//! A header does not depend on what the pixels are, its pixel data lies inside the file, and its text is clean.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdg_core::dicom::{self, Keyword};

fuzz_target!(|data: &[u8]| {
    let mut file = data.to_vec();
    let Ok(header) = dicom::read(&file, "fuzz") else { return };
    for keyword in Keyword::ALL {
        if let Some(text) = header.text(*keyword) {
            assert!(!text.is_empty() && !text.starts_with(' ') && !text.ends_with(['\0', ' ']));
        }
    }
    if let Some(pixels) = header.pixels {
        let start = usize::try_from(pixels.offset).expect("an offset into memory");
        let end = pixels.length.map_or(file.len(), |length| start + length as usize);
        file[start..end].iter_mut().for_each(|byte| *byte = !*byte);
        assert_eq!(dicom::read(&file, "fuzz"), Ok(header));
    }
});
