//! A ZIP that is read is the one that we would write: the same bytes but for the times that nothing covers. One that
//! arrives piece by piece is taken if it would be read as a whole, and if its CRC-32s are right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdg_core::archive::zip::{self, DosTime, Layout, feed};
use mdg_core::{Code, WriteAt};

fuzz_target!(|data: &[u8]| {
    let archive = zip::read(&data.to_vec());
    let mut reader = feed::Reader::new();
    let fed = data.chunks(57).try_for_each(|piece| reader.feed(piece, |_| Ok(()))).and_then(|()| reader.finish());
    match (&fed, &archive) {
        // Only this reader looks at contents.
        (Err(error), Ok(_)) => assert_eq!(error.code(), Some(Code::ZipCrc)),
        _ => assert_eq!(fed.is_ok(), archive.is_ok()),
    }
    let Ok(archive) = archive else { return };
    let entries = archive.entries.iter().map(|entry| (entry.name.as_str(), entry.size));
    let layout = Layout::new(entries, archive.time.unwrap_or(DosTime(0))).expect("names that were read can be written");
    assert_eq!(layout.length(), data.len() as u64);

    let mut written = vec![0; data.len()];
    for (index, entry) in archive.entries.iter().enumerate() {
        assert_eq!(layout.content(index), Some(entry.offset));
        let content = &data[entry.offset as usize..][..entry.size as usize];
        written.write_at(entry.offset, content).expect("memory takes what was read from it");
    }
    let crcs: Vec<u32> = archive.entries.iter().map(|entry| entry.crc).collect();
    layout.finish(&crcs, &mut written).expect("one CRC for each entry");
    for (start, end) in &archive.times {
        let (start, end) = (*start as usize, *end as usize);
        written[start..end].copy_from_slice(&data[start..end]);
    }
    assert_eq!(written, data);
});
