//! A tar says the same whatever the pieces it arrives in, and what was read, written and read again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdg_core::Result;
use mdg_core::archive::tar::{self, Event, Reader};

/// Names and contents of the members, fed in pieces of `step` bytes.
fn members(archive: &[u8], step: usize) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut reader = Reader::new(archive.len() as u64);
    for piece in archive.chunks(step.max(1)) {
        reader.feed(piece, |event| {
            match event {
                Event::Start { name, .. } => found.push((name, Vec::new())),
                Event::Data(range) => found.last_mut().expect("a start comes first").1.extend_from_slice(&piece[range]),
                Event::End => {}
            }
            Ok(())
        })?;
    }
    reader.finish()?;
    Ok(found)
}

fn write(members: &[(String, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut archive = Vec::new();
    for (name, content) in members {
        archive.extend(tar::header(name, content.len() as u64).ok()?); // a GNU name may not fit into ustar
        archive.extend(content);
        archive.resize(archive.len() + tar::padding(content.len() as u64), 0);
    }
    archive.extend(tar::END);
    Some(archive)
}

fuzz_target!(|data: &[u8]| {
    let whole = members(data, data.len());
    assert_eq!(whole, members(data, 57));
    let Ok(whole) = whole else { return };
    let Some(written) = write(&whole) else { return };
    assert_eq!(written.len() as u64, tar::length(whole.iter().map(|(_, content)| content.len() as u64)));
    assert_eq!(members(&written, 513), Ok(whole));
});
