use super::*;

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in members {
        out.extend(header(name, data.len() as u64).expect("fits"));
        out.extend(*data);
        out.resize(out.len() + padding(data.len() as u64), 0);
    }
    out.extend(END);
    assert_eq!(out.len() as u64, length(members.iter().map(|(_, data)| data.len() as u64)));
    out
}

fn read(bytes: &[u8], step: usize) -> Result<Vec<(String, Vec<u8>)>> {
    let mut reader = Reader::new(bytes.len() as u64);
    let mut found: Vec<(String, u64, Vec<u8>)> = Vec::new();
    let mut ends = 0;
    for piece in bytes.chunks(step) {
        reader.feed(piece, |event| {
            match event {
                Event::Start { name, size } => found.push((name, size, Vec::new())),
                Event::Data(range) => found.last_mut().expect("a member began").2.extend(&piece[range]),
                Event::End => ends += 1,
            }
            Ok(())
        })?;
    }
    reader.finish()?;
    assert_eq!(ends, found.len());
    Ok(found
        .into_iter()
        .map(|(name, size, data)| {
            assert_eq!(size, data.len() as u64);
            (name, data)
        })
        .collect())
}

fn code(bytes: &[u8]) -> Option<Code> {
    read(bytes, 1000).err().and_then(|error| error.code())
}

/// A valid archive of one member with its header edited and its checksum made good again.
fn edited(edit: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut whole = archive(&[("dicom/1.2.dcm", b"abc"), ("files.json", b"[]")]);
    let mut block: [u8; BLOCK] = whole[..BLOCK].try_into().expect("one block");
    edit(&mut block);
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    whole[..BLOCK].copy_from_slice(&block);
    whole
}

#[test]
fn members_come_back_whatever_the_size_of_the_pieces() {
    let sizes = [0, 1, 511, 512, 513, 1024];
    let data: Vec<_> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
    let names: Vec<_> = sizes.iter().map(|size| format!("dicom/1.2.{size}.dcm")).collect();
    let members: Vec<_> = names.iter().map(String::as_str).zip(data.iter().map(Vec::as_slice)).collect();
    let whole = archive(&members);
    for step in [1, 57, 511, 512, 513, 4096] {
        let found = read(&whole, step).expect("strict archive");
        assert!(
            found.iter().map(|(name, data)| (name.as_str(), data.as_slice())).eq(members.iter().copied()),
            "{step}"
        );
    }
}

#[test]
fn a_cut_archive_is_refused_everywhere() {
    let whole = archive(&[("metadata.json", b"{}"), ("files.json", b"[]")]);
    for end in 0..whole.len() {
        assert!(code(&whole[..end]).is_some(), "cut at {end}");
    }
}

#[test]
fn long_names_are_cut_at_a_slash_into_prefix_and_name() {
    let long = format!("files/{}/{}", "d".repeat(120), "f".repeat(96));
    assert_eq!(read(&archive(&[(&long, b"1")]), 99).expect("strict archive")[0].0, long);
    assert!(header(&format!("files/{}", "f".repeat(101)), 1).is_err());
    assert!(header("x", MEMBER + 1).is_err());
    assert!(header("../x", 1).is_err());
}

#[test]
fn only_regular_files_and_directories_are_members() {
    for kind in [b'1', b'2', b'3', b'4', b'6', b'7', b'g', b'x', b'L', b'K', b'S', b'D'] {
        assert_eq!(code(&edited(|b| b[156] = kind)), Some(Code::TarType), "{}", kind as char);
    }
    assert_eq!(code(&edited(|b| b[157] = b'l')), Some(Code::TarType));
    assert_eq!(code(&edited(|b| b[156] = b'5')), Some(Code::TarSize));
}

#[test]
fn directories_and_prefixes_of_other_writers_are_passed_over() {
    let mut whole = header("payload", 0).expect("fits").to_vec();
    whole[156] = b'5';
    let block: [u8; BLOCK] = whole[..BLOCK].try_into().expect("one block");
    whole[148..156].copy_from_slice(format!("{:06o}\0 ", checksum(&block)).as_bytes());
    whole.extend(archive(&[("payload/metadata.json", b"{}")]));
    assert_eq!(read(&whole, 700).expect("strict archive")[0].0, "metadata.json");
}

#[test]
fn sizes_names_and_modes_that_lie_are_refused() {
    assert_eq!(code(&edited(|b| b[124] = 0x80)), Some(Code::TarSize));
    assert_eq!(code(&edited(|b| b[124..135].copy_from_slice(b"-0000000003"))), Some(Code::TarSize));
    assert_eq!(code(&edited(|b| b[124..135].copy_from_slice(b"00000077777"))), Some(Code::TarSize));
    assert_eq!(code(&edited(|b| b[100..107].copy_from_slice(b"0004755"))), Some(Code::TarHeader));
    assert_eq!(code(&edited(|b| b[257] = b'U')), Some(Code::TarHeader));
    for bad in [&b"../x\0"[..], b"/x\0", b"a\\b\0", b"x\0y\0", b"\xFF\0"] {
        assert_eq!(code(&edited(|b| b[..bad.len()].copy_from_slice(bad))), Some(Code::TarName), "{bad:?}");
    }
    for (first, second) in [("a", "A"), ("a/b", "A"), ("a", "A/b"), ("a/b/c", "a/B")] {
        assert_eq!(code(&archive(&[(first, b"1"), (second, b"2")])), Some(Code::TarName), "{first} {second}");
    }
    assert!(read(&archive(&[("a/b", b"1"), ("A/c", b"2")]), 1000).is_ok());
}

#[test]
fn folders_that_names_imply_are_counted() {
    // 100 folders each.
    let names: Vec<_> = (0..1001).map(|number| format!("{number:04}{}/x", "/a".repeat(99))).collect();
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert!(read(&archive(&members[..1000]), 1 << 20).is_ok());
    assert_eq!(code(&archive(&members)), Some(Code::Limit));
}

#[test]
fn bytes_outside_the_members_are_zero() {
    let whole = archive(&[("a", b"1")]);
    for at in [BLOCK + 1, 2 * BLOCK - 1] {
        let mut broken = whole.clone();
        broken[at] = 1;
        assert_eq!(code(&broken), Some(Code::TarSize), "{at}");
    }
    let mut broken = whole.clone();
    broken[3 * BLOCK] = 1;
    assert_eq!(code(&broken), Some(Code::TarName));
    let mut broken = whole;
    broken[0] ^= 1;
    assert_eq!(code(&broken), Some(Code::TarHeader));
}
