use std::collections::BTreeMap;

use super::*;

const TIME: DosTime = DosTime(0x5CB8_30E0);

/// Terabytes of zeros with a few written places.
#[derive(Default)]
struct Sparse {
    size: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl WriteAt for Sparse {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.size = self.size.max(offset + bytes.len() as u64);
        self.pieces.insert(offset, bytes.to_vec());
        Ok(())
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        into.fill(0);
        let end = offset + into.len() as u64;
        assert!(end <= self.size);
        for (&start, piece) in self.pieces.range(..end) {
            let (from, to) = (start.max(offset), (start + piece.len() as u64).min(end));
            if from < to {
                let source = &piece[(from - start) as usize..(to - start) as usize];
                into[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
            }
        }
        Ok(())
    }
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let layout = Layout::new(entries.iter().map(|(name, data)| (*name, data.len() as u64)), TIME).expect("fits");
    let mut out = Vec::new();
    let mut crcs = Vec::new();
    for (index, (_, data)) in entries.iter().enumerate() {
        out.write_at(layout.content(index).expect("entry"), data).expect("memory");
        crcs.push(crc32fast::hash(data));
    }
    layout.finish(&crcs, &mut out).expect("memory");
    assert_eq!(out.len() as u64, layout.length());
    out
}

fn code(bytes: &[u8]) -> Option<Code> {
    read(&bytes.to_vec()).err().and_then(|error| error.code())
}

#[test]
fn what_is_written_is_read_and_every_other_byte_is_refused() {
    let whole = archive(&[("manifest.json", b"{}"), ("audit.json", b""), ("payload.encrypted", b"abc")]);
    let found = read(&whole).expect("strict archive");
    assert_eq!(found.time, Some(TIME));
    let contents: Vec<_> =
        found.entries.iter().map(|e| &whole[e.offset as usize..(e.offset + e.size) as usize]).collect();
    assert_eq!(contents, [&b"{}"[..], b"", b"abc"]);

    let inside = |at: u64, ranges: &[(u64, u64)]| ranges.iter().any(|(start, end)| (*start..*end).contains(&at));
    let data: Vec<_> = found.entries.iter().map(|e| (e.offset, e.offset + e.size)).collect();
    for at in 0..whole.len() {
        let mut broken = whole.clone();
        broken[at] ^= 0x01;
        let free = inside(at as u64, &found.times) || inside(at as u64, &data);
        assert_eq!(read(&broken).is_ok(), free, "byte {at}");
    }
    for end in 0..whole.len() {
        assert!(code(&whole[..end]).is_some(), "cut at {end}");
    }
}

/// An archive that arrives in steps: its entries and their contents.
fn fed(bytes: &[u8], step: usize) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = feed::Reader::new();
    let mut found: Vec<(Entry, Vec<u8>)> = Vec::new();
    let mut whole = 0;
    for piece in bytes.chunks(step) {
        reader.feed(piece, |event| {
            match event {
                feed::Event::Start(entry) => found.push((entry, Vec::new())),
                feed::Event::Data(range) => found.last_mut().expect("begun").1.extend_from_slice(&piece[range]),
                feed::Event::End => whole += 1,
            }
            Ok(())
        })?;
    }
    reader.finish()?;
    assert_eq!(whole, found.len());
    Ok(found)
}

/// What [`read`] says of the same archive, CRC-32s checked as its callers do.
fn read_whole(bytes: &[u8]) -> Option<Vec<(Entry, Vec<u8>)>> {
    let content = |entry: Entry| {
        let data = bytes[entry.offset as usize..(entry.offset + entry.size) as usize].to_vec();
        (crc32fast::hash(&data) == entry.crc).then_some((entry, data))
    };
    read(&bytes.to_vec()).ok()?.entries.into_iter().map(content).collect()
}

#[test]
fn an_archive_that_arrives_is_read_as_one_that_is_there() {
    let two = archive(&[("manifest.json", b"{}"), ("audit.json", b""), ("payload.encrypted", &[7; 700])]);
    for whole in [archive(&[]), archive(&[("a", b"")]), two] {
        for step in [1, 7, 57, 512, whole.len()] {
            assert_eq!(fed(&whole, step).ok(), read_whole(&whole), "steps of {step}");
        }
        for at in 0..whole.len() {
            for bit in [0x01, 0x80] {
                let mut broken = whole.clone();
                broken[at] ^= bit;
                assert_eq!(fed(&broken, 57).ok(), read_whole(&broken), "byte {at}");
            }
        }
        for end in 0..whole.len() {
            let error = fed(&whole[..end], 57).expect_err("cut off");
            assert_eq!(error.code(), Some(Code::ZipEnd), "cut at {end}");
        }
        let mut longer = whole.clone();
        longer.extend_from_slice(b"\n");
        assert_eq!(fed(&longer, 57).err().and_then(|error| error.code()), Some(Code::ZipEnd));
        longer.splice(0..0, *b"MZ");
        assert_eq!(fed(&longer, 57).err().and_then(|error| error.code()), Some(Code::ZipEnd));
    }
    let mut twice = archive(&[("a", b"1"), ("b", b"2")]);
    twice.iter_mut().filter(|byte| **byte == b'b').for_each(|byte| *byte = b'A');
    assert_eq!(fed(&twice, 57).err().and_then(|error| error.code()), Some(Code::ZipName));
    let mut packed = archive(&[("a", b"1")]);
    packed[8] = 8;
    assert!(matches!(fed(&packed, 57), Err(Error::Unsupported { .. })));
}

#[test]
fn an_archive_of_4_gib_and_one_of_65536_entries_arrive() {
    let zeros = vec![0; 1 << 20];
    let size = 1_u64 << 32;
    let mut crc = crc32fast::Hasher::new();
    (0..size >> 20).for_each(|_| crc.update(&zeros));
    let layout = Layout::new([("payload", size), ("b", 3)], TIME).expect("fits");
    let mut file = Sparse::default();
    layout.finish(&[crc.finalize(), crc32fast::hash(b"abc")], &mut file).expect("memory");
    file.write_at(layout.content(1).expect("there"), b"abc").expect("memory");
    let mut reader = feed::Reader::new();
    let mut entries = Vec::new();
    let mut piece = zeros;
    for at in (0..file.size).step_by(1 << 20) {
        piece.truncate((file.size - at).min(1 << 20) as usize);
        file.read_at(at, &mut piece).expect("inside");
        let start = |event| {
            if let feed::Event::Start(entry) = event {
                entries.push(entry);
            }
            Ok(())
        };
        reader.feed(&piece, start).expect("strict archive");
    }
    reader.finish().expect("whole");
    assert_eq!(entries, read(&file).expect("strict archive").entries);

    let names: Vec<_> = (0..65_536).map(|number| format!("{number}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let many = archive(&entries);
    assert_eq!(fed(&many, 4096).ok(), read_whole(&many));
}

#[test]
fn nothing_may_stand_around_the_entries() {
    let whole = archive(&[("a", b"1"), ("b", b"2")]);
    assert_eq!(code(&[b"MZ", &whole[..]].concat()), Some(Code::ZipDirectory));
    assert_eq!(code(&[&whole[..], b"\n"].concat()), Some(Code::ZipEnd));
    assert_eq!(code(&[&whole[..], &whole[whole.len() - 22..]].concat()), Some(Code::ZipDirectory));
    let mut claims = whole.clone();
    let end = claims.len() - 22;
    claims[end + 8..end + 12].copy_from_slice(&[0xFE; 4]);
    assert_eq!(code(&claims), Some(Code::ZipDirectory));
}

#[test]
fn names_are_safe_and_stand_once() {
    for bad in ["../x", "/x", "C:\\x", "x\0", "x.", "CON", "ä"] {
        assert!(Layout::new([(bad, 1)], TIME).is_err(), "{bad}");
    }
    assert!(Layout::new([("a", 1), ("A", 1)], TIME).is_err());
    let mut twice = archive(&[("a", b"1"), ("b", b"2")]);
    twice.iter_mut().filter(|byte| **byte == b'b').for_each(|byte| *byte = b'A');
    assert_eq!(code(&twice), Some(Code::ZipName));
}

#[test]
fn compressed_entries_are_valid_zip_but_not_read() {
    let mut whole = archive(&[("a", b"1")]);
    let directory = whole.len() - 22 - 47;
    whole[8] = 8;
    whole[directory + 10] = 8;
    assert!(matches!(read(&whole), Err(Error::Unsupported { .. })));
}

#[test]
fn zip64_appears_exactly_where_a_number_does_not_fit() {
    let four = 0xFFFF_FFFF_u64;
    for (sizes, version) in
        [(vec![four - 1], 20), (vec![four], 45), (vec![four + 1, 5], 45), (vec![four - 60, 9, 1], 20)]
    {
        let names: Vec<_> = (0..sizes.len()).map(|i| format!("e{i}")).collect();
        let entries = names.iter().map(String::as_str).zip(sizes.iter().copied());
        let layout = Layout::new(entries, TIME).expect("fits");
        let mut file = Sparse::default();
        layout.finish(&vec![7; sizes.len()], &mut file).expect("memory");
        assert_eq!(file.size, layout.length());
        let mut needed = [0; 2];
        file.read_at(4, &mut needed).expect("inside");
        assert_eq!(u16_at(&needed, 0), version);
        let found = read(&file).expect("strict archive");
        assert_eq!(found.entries.iter().map(|e| e.size).collect::<Vec<_>>(), sizes);
        assert_eq!(found.entries.last().map(|e| e.offset), layout.content(sizes.len() - 1));
    }
}

#[test]
fn the_number_of_entries_has_its_seam_at_65535() {
    for count in [65_534_u64, 65_535, 65_536] {
        let names: Vec<_> = (0..count).map(|i| format!("segments/{i:06}.seg")).collect();
        let layout = Layout::new(names.iter().map(|name| (name.as_str(), 1)), TIME).expect("fits");
        let mut file = Vec::new();
        layout.finish(&vec![9; names.len()], &mut file).expect("memory");
        assert_eq!(file.len() as u64, layout.length());
        assert_eq!(file.windows(4).rev().take(200).any(|w| w == b"PK\x06\x06"), count >= 65_535);
        assert_eq!(read(&file).expect("strict archive").entries.len() as u64, count);
    }
}

#[test]
fn times_are_real_times_from_1980_on() {
    assert_eq!(DosTime::from_timestamp("2025-05-24T06:14:00Z"), Some(DosTime(0x5AB8_31C0)));
    assert_eq!(DosTime::from_timestamp("2107-12-31T23:59:59Z"), Some(DosTime(0xFF9F_BF7D)));
    for bad in ["1979-12-31T23:59:59Z", "2108-01-01T00:00:00Z", "2025-02-29T00:00:00Z", "2025-05-24T24:00:00Z"] {
        assert_eq!(DosTime::from_timestamp(bad), None, "{bad}");
    }
    for bad in ["2025-05-24T06:14:60Z", "2025-05-24t06:14:00Z", "2025-05-24T06:14:00+00:00", "2025-13-01T00:00:00Z", ""]
    {
        assert_eq!(DosTime::from_timestamp(bad), None, "{bad}");
    }
}
