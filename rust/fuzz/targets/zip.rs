//! A ZIP that is read is the one that we would write: the same bytes but for the times that nothing covers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdg_core::WriteAt;
use mdg_core::archive::zip::{self, DosTime, Layout};

fuzz_target!(|data: &[u8]| {
    let Ok(archive) = zip::read(&data.to_vec()) else { return };
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
