//! Headers made byte by byte: what is read, what is refused and at which byte, and that no input panics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Header, Keyword, read};
use crate::limits::{DICOM_DEPTH, DICOM_ELEMENTS, DICOM_HELD, DICOM_INFLATED_FREE, DICOM_ITEMS};
use crate::{Code, Error, ReadAt, Result};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const UNDEFINED: u32 = 0xFFFF_FFFF;

/// Elements one after the other.
#[derive(Default, Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn tag(mut self, tag: u32) -> Self {
        self.0.extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
        self.0.extend_from_slice(&(tag as u16).to_le_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// An explicit element with the length its value has.
    fn element(self, tag: u32, vr: &str, value: &[u8]) -> Self {
        let long = matches!(vr, "OB" | "OW" | "SQ" | "UN" | "UT");
        let head = self.tag(tag).raw(vr.as_bytes());
        let head = match long {
            true => head.raw(&[0, 0]).raw(&(value.len() as u32).to_le_bytes()),
            false => head.raw(&(value.len() as u16).to_le_bytes()),
        };
        head.raw(value)
    }

    /// The head of an explicit element of a long VR.
    fn head(self, tag: u32, vr: &str, length: u32) -> Self {
        self.tag(tag).raw(vr.as_bytes()).raw(&[0, 0]).raw(&length.to_le_bytes())
    }

    /// An implicit element, or an item or delimiter.
    fn implicit(self, tag: u32, value: &[u8]) -> Self {
        self.bare(tag, value.len() as u32).raw(value)
    }

    fn bare(self, tag: u32, length: u32) -> Self {
        self.tag(tag).raw(&length.to_le_bytes())
    }
}

fn start() -> Bytes {
    Bytes::default()
}

/// A Part 10 file.
fn file(syntax: &str, data_set: Bytes) -> Vec<u8> {
    let mut syntax = syntax.as_bytes().to_vec();
    syntax.resize(syntax.len().next_multiple_of(2), 0);
    let meta = start().element(0x0002_0001, "OB", &[0, 1]).element(0x0002_0010, "UI", &syntax);
    let length = (meta.0.len() as u32).to_le_bytes();
    let head = start().raw(&[0; 128]).raw(b"DICM").element(0x0002_0000, "UL", &length);
    head.raw(&meta.0).raw(&data_set.0).0
}

fn sample() -> Bytes {
    let qualifiers = start().element(0x0040_0032, "UT", b"1.2.36.1.2001.1003.0").element(0x0040_0033, "CS", b"ISO ");
    let other = start()
        .element(0x0010_0020, "LO", b"8003608833357361")
        .element(0x0010_0021, "LO", b"AUSHIC")
        .element(0x0010_0022, "CS", b"TEXT")
        .element(0x0010_0024, "SQ", &start().implicit(0xFFFE_E000, &qualifiers.0).0);
    start()
        .element(0x0008_0005, "CS", b"ISO_IR 100")
        .element(0x0008_0018, "UI", b"1.2.3\0")
        .element(0x0008_0060, "CS", b"CT")
        .element(0x0010_0010, "PN", b"M\xFCller^A ")
        .element(0x0010_0020, "LO", b"  17 ")
        .head(0x0010_1002, "SQ", UNDEFINED)
        .bare(0xFFFE_E000, UNDEFINED)
        .raw(&other.0)
        .bare(0xFFFE_E00D, 0)
        .bare(0xFFFE_E0DD, 0)
        .element(0x0020_000D, "UI", b"1.2")
        .element(0x0028_0010, "US", &512_u16.to_le_bytes())
        .element(0x7FE0_0010, "OW", &[7; 32])
}

fn header(bytes: &[u8]) -> Header {
    read(bytes, "file.dcm").expect("a good file")
}

/// Code and byte of the refusal.
fn refusal(bytes: &[u8]) -> (Code, u64) {
    match read(bytes, "file.dcm") {
        Err(Error::Refused { code, at: Some(at), part, .. }) => {
            assert_eq!(part, "file.dcm");
            (code, at)
        }
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn facts_of_an_explicit_file() {
    let bytes = file(EXPLICIT, sample());
    let header = header(&bytes);
    assert_eq!(header.transfer_syntax, EXPLICIT);
    assert_eq!(header.text(Keyword::PatientName), Some("Müller^A"));
    assert_eq!(header.text(Keyword::PatientID), Some("17"));
    assert_eq!(header.text(Keyword::SOPInstanceUID), Some("1.2.3"));
    assert_eq!(header.text(Keyword::StudyDate), None);
    assert_eq!((header.rows, header.columns), (Some(512), None));
    let pixels = header.pixels.expect("pixel data");
    assert_eq!((pixels.offset, pixels.length), (bytes.len() as u64 - 32, Some(32)));
    assert_eq!(header.other_patient_ids.len(), 1);
    assert_eq!(
        header.ihis.iter().map(|(ihi, form)| (ihi.as_str(), *form)).collect::<Vec<_>>(),
        [("8003608833357361", 1)]
    );
}

#[test]
fn implicit_and_un_encodings_give_the_same_identity() {
    let item = start().implicit(0x0010_0020, b"8003608833357361").implicit(0x0010_0021, b"IHI ").0;
    let sequence = start().implicit(0xFFFE_E000, &item).0;
    let implicit = file(IMPLICIT, start().implicit(0x0010_1002, &sequence));
    let unknown = file(EXPLICIT, start().element(0x0010_1002, "UN", &sequence));
    let undefined = start().head(0x0010_1002, "UN", UNDEFINED).raw(&sequence).bare(0xFFFE_E0DD, 0);
    for bytes in [implicit, unknown, file(EXPLICIT, undefined)] {
        let found = header(&bytes);
        assert_eq!(found.other_patient_ids[0].issuer.as_deref(), Some("IHI"));
        assert_eq!(found.ihis[0].1, 5);
    }
}

#[test]
fn two_different_ihis_are_both_given() {
    let item = |ihi: &[u8]| {
        let item = start().element(0x0010_0020, "LO", ihi).element(0x0010_0021, "LO", b"AUSHIC").0;
        start().implicit(0xFFFE_E000, &item).0
    };
    let items = [item(b"8003608833357361"), item(b"8003 6080 0000 0018 ")].concat();
    let found = header(&file(EXPLICIT, start().element(0x0010_1002, "SQ", &items)));
    assert_eq!(found.other_patient_ids.len(), 2);
    let ihis: Vec<_> = found.ihis.iter().map(|(ihi, _)| ihi.as_str()).collect();
    assert_eq!(ihis, ["8003608833357361", "8003608000000018"]);
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let bytes = file(EXPLICIT, sample());
    for length in 0..bytes.len() {
        let result = read(&bytes[..length], "file.dcm");
        let ends_between_elements = result.as_ref().is_ok_and(|header| header.pixels.is_none());
        assert!(result.is_err() || ends_between_elements, "{length} bytes");
    }
    assert!(read(&bytes[..bytes.len() - 1], "file.dcm").is_err());
}

#[test]
fn no_changed_byte_panics() {
    for bytes in [file(EXPLICIT, sample()), file(IMPLICIT, start().implicit(0x0010_0020, b"17").bare(0x0010_1002, 8))] {
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFE, 0xFF, bytes[at] ^ 1, bytes[at] ^ 0x20] {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Err(error) = read(&changed, "file.dcm") {
                    assert!(matches!(error, Error::Refused { .. } | Error::Unsupported { .. }), "{error}");
                }
            }
        }
    }
}

#[test]
fn file_meta_that_lies_is_refused() {
    let good = file(EXPLICIT, sample());
    let lying = |at: usize, by: u8| {
        let mut bytes = good.clone();
        bytes[at] = bytes[at].wrapping_add(by);
        bytes
    };
    // (0002,0000) has its value at byte 140.
    for by in [1, 2, 255] {
        assert_eq!(refusal(&lying(140, by)), (Code::Dicom, 132));
    }
    assert_eq!(refusal(&good[..132]), (Code::Dicom, 132));
    let no_syntax = start().raw(&[0; 128]).raw(b"DICM").element(0x0002_0001, "OB", &[0, 1]).raw(&sample().0).0;
    assert_eq!(refusal(&no_syntax), (Code::Dicom, 132));
    assert_eq!(refusal(b"%PDF-1.7 and more"), (Code::NotDicom, 0));
    assert_eq!(refusal(b""), (Code::NotDicom, 0));
}

#[test]
fn a_length_past_the_end_names_its_element() {
    let bytes =
        file(EXPLICIT, start().element(0x0008_0060, "CS", b"CT").raw(&[8, 0, 0x30, 0x10, b'L', b'O', 9, 0, b'x']));
    let at = bytes.len() as u64 - 9;
    assert_eq!(refusal(&bytes), (Code::Dicom, at));
    let text = read(bytes.as_slice(), "file.dcm").expect_err("refused").to_string();
    assert!(text.contains("(0008,1030) says 9 bytes, the file has 1 left"), "{text}");

    // Inside an item the item is the border, though the file goes on.
    let item = start().tag(0x0010_0020).raw(b"LO\x08\x00").raw(b"123456").0;
    let sequence = start().implicit(0xFFFE_E000, &item).0;
    let bytes = file(EXPLICIT, start().element(0x0010_1002, "SQ", &sequence).element(0x0020_000D, "UI", b"1.2.3.4 "));
    assert_eq!(refusal(&bytes).0, Code::Dicom);
}

#[test]
fn an_undefined_length_belongs_to_sequences_and_pixels() {
    for (tag, vr) in [(0x0009_1001, "OB"), (0x0040_A160, "UT")] {
        let data_set = start().head(tag, vr, UNDEFINED).bare(0xFFFE_E0DD, 0);
        assert_eq!(refusal(&file(EXPLICIT, data_set)).0, Code::Dicom);
    }
    assert_eq!(refusal(&file(IMPLICIT, start().bare(0x0010_0020, UNDEFINED).bare(0xFFFE_E0DD, 0))).0, Code::Dicom);
    let encapsulated = file(EXPLICIT, start().head(0x7FE0_0010, "OB", UNDEFINED).bare(0xFFFE_E000, 0));
    let pixels = header(&encapsulated).pixels.expect("pixel data");
    assert_eq!((pixels.encapsulated(), pixels.offset), (true, encapsulated.len() as u64 - 8));
    for stray in [0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD] {
        assert_eq!(refusal(&file(EXPLICIT, start().bare(stray, 0))).0, Code::Dicom);
    }
}

fn nested(levels: usize) -> Bytes {
    let open = (0..levels).fold(start(), |all, _| all.head(0x0040_A730, "SQ", UNDEFINED).bare(0xFFFE_E000, UNDEFINED));
    (0..levels).fold(open, |all, _| all.bare(0xFFFE_E00D, 0).bare(0xFFFE_E0DD, 0))
}

#[test]
fn sequences_nest_to_the_limit_and_no_further() {
    header(&file(EXPLICIT, nested(DICOM_DEPTH)));
    let too_deep = file(EXPLICIT, nested(DICOM_DEPTH + 1));
    let (code, at) = refusal(&too_deep);
    assert_eq!((code, at), (Code::Limit, file(EXPLICIT, start()).len() as u64 + 20 * DICOM_DEPTH as u64));
    assert_eq!(refusal(&file(EXPLICIT, nested(100_000))), (code, at));
}

#[test]
fn items_and_elements_are_counted() {
    let items = |count: u32| {
        let sequence = start().head(0x0040_A730, "SQ", UNDEFINED);
        (0..count).fold(sequence, |all, _| all.bare(0xFFFE_E000, 0)).bare(0xFFFE_E0DD, 0)
    };
    header(&file(EXPLICIT, items(DICOM_ITEMS)));
    assert_eq!(refusal(&file(EXPLICIT, items(DICOM_ITEMS + 1))).0, Code::Limit);
    // The two of group 0002 count too.
    let elements = |count: u32| (0..count).fold(start(), |all, _| all.element(0x0009_1001, "LO", b""));
    header(&file(EXPLICIT, elements(DICOM_ELEMENTS - 3)));
    assert_eq!(refusal(&file(EXPLICIT, elements(DICOM_ELEMENTS - 2))).0, Code::Limit);
}

#[test]
fn uids_are_valid_or_refused() {
    let with = |uid: &[u8]| file(EXPLICIT, start().element(0x0020_000D, "UI", uid));
    let longest = [b"1.", "2".repeat(62).as_bytes()].concat();
    for good in [b"1.2".as_slice(), b"1.2\0", b"0.0 ", b"1.20.3", &longest] {
        assert!(header(&with(good)).text(Keyword::StudyInstanceUID).is_some());
    }
    let too_long = [longest.as_slice(), b"2"].concat();
    let bad = [b"../x".as_slice(), b"/etc/x", b"1.02", b"1..2", b".1", b"1.", b"1.\x002", b"1. 2", b"1,2", &too_long];
    for uid in bad {
        assert_eq!(refusal(&with(uid)).0, Code::Dicom, "{uid:?}");
    }
    for empty in [b"".as_slice(), b"\0\0", b"  "] {
        assert_eq!(header(&with(empty)).text(Keyword::StudyInstanceUID), None);
    }
}

#[test]
fn an_attribute_that_appears_twice_is_refused() {
    let twice = start().element(0x0010_0020, "LO", b"17").element(0x0010_0020, "LO", b"18");
    assert_eq!(refusal(&file(EXPLICIT, twice)).0, Code::Dicom);
    assert_eq!(refusal(&file(EXPLICIT, start().element(0x0028_0010, "UL", &[0, 2, 0, 0]))).0, Code::Dicom);
    assert_eq!(refusal(&file(EXPLICIT, start().element(0x0010_0020, "SQ", b""))).0, Code::Dicom);
}

#[test]
fn without_file_meta_only_a_whole_data_set_is_recognised() {
    let ids = || start().element(0x0008_0016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0").element(0x0008_0018, "UI", b"1.2");
    assert_eq!(header(&ids().0).transfer_syntax, EXPLICIT);
    let implicit = start().implicit(0x0008_0016, b"1.2 ").implicit(0x0008_0018, b"1.2 ");
    assert_eq!(header(&implicit.0).transfer_syntax, IMPLICIT);
    assert_eq!(refusal(&start().element(0x0008_0018, "UI", b"1.2").0).0, Code::Dicom);
    assert_eq!(refusal(&ids().head(0x7FE0_0010, "OB", UNDEFINED).0), (Code::Dicom, 0));
    let big_endian = b"\0\x08\0\x16UI\0\x041.2 \0\x08\0\x18UI\0\x041.3 \0\x28\0\x10US\0\x02\x02\x01";
    assert_eq!(header(big_endian).transfer_syntax, "1.2.840.10008.1.2.2");
    assert_eq!(header(big_endian).rows, Some(513));
}

#[test]
fn preambles_of_programs_are_flagged() {
    for (signature, flagged) in
        [("MZ", true), ("\x7FELF", true), ("#!/bin/sh", true), ("PK\x03\x04", true), ("II*\0", false), ("", false)]
    {
        let mut bytes = file(EXPLICIT, sample());
        bytes[..signature.len()].copy_from_slice(signature.as_bytes());
        assert_eq!(header(&bytes).executable_preamble, flagged, "{signature:?}");
    }
}

const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

fn deflated(data_set: &[u8]) -> Vec<u8> {
    file(DEFLATED, start().raw(&miniz_oxide::deflate::compress_to_vec(data_set, 6)))
}

#[test]
fn a_deflated_data_set_gives_the_same_facts_but_no_pixel_offset() {
    let mut expected = header(&file(EXPLICIT, sample()));
    expected.transfer_syntax = DEFLATED.to_owned();
    expected.pixels = None;
    assert_eq!(header(&deflated(&sample().0)), expected);
    // Past what is inflated at once, with a value that is not kept in between.
    let noise: Vec<u8> = (0..300_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let long =
        start().element(0x0008_0005, "CS", b"ISO_IR 100").element(0x0008_1140, "OB", &noise).raw(&sample().0[18..]);
    assert_eq!(header(&deflated(&long.0)), expected);
}

#[test]
fn a_deflated_file_cut_at_any_byte_is_refused() {
    let bytes = deflated(&sample().0);
    for length in 0..bytes.len() {
        assert!(matches!(read(&bytes[..length], "file.dcm"), Err(Error::Refused { .. })), "{length} bytes");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        let _ = read(changed.as_slice(), "file.dcm");
    }
}

#[test]
fn a_deflated_bomb_stops_at_the_ratio() {
    let bomb = deflated(&vec![0; 64 << 20]);
    let error = read(bomb.as_slice(), "file.dcm").expect_err("a bomb");
    assert_eq!(error.code(), Some(Code::Limit));
    let became = error.to_string().rsplit(' ').next().and_then(|size| size.parse::<u64>().ok()).expect("a size");
    assert!(became < 2 * DICOM_INFLATED_FREE, "{error}");
    header(&deflated(&start().element(0x0009_1001, "OB", &[0; 900_000]).0));
}

/// A file whose end is zeros that nobody stores; it counts the bytes that are read.
struct Sparse {
    bytes: Vec<u8>,
    size: u64,
    read: AtomicU64,
}

impl Sparse {
    fn new(bytes: Vec<u8>, size: u64) -> Self {
        Self { bytes, size, read: AtomicU64::new(0) }
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        assert!(offset + into.len() as u64 <= self.size, "a read past the end");
        self.read.fetch_add(into.len() as u64, Ordering::Relaxed);
        into.fill(0);
        let there = self.bytes.get(offset as usize..).unwrap_or_default();
        let length = there.len().min(into.len());
        into[..length].copy_from_slice(&there[..length]);
        Ok(())
    }
}

#[test]
fn pixel_data_and_large_values_are_not_read() {
    const BLOCK: u32 = 1 << 30;
    let head = file(EXPLICIT, start().element(0x0008_0060, "CS", b"MR").head(0x0009_1001, "OB", BLOCK));
    let middle = head.len() as u64 + u64::from(BLOCK);
    let source = Sparse::new(head, middle);
    assert_eq!(read(&source, "file.dcm").expect("a good file").text(Keyword::Modality), Some("MR"));
    assert!(source.read.into_inner() <= 4096);

    let head = file(EXPLICIT, start().head(0x7FE0_0010, "OW", BLOCK));
    let size = head.len() as u64 + u64::from(BLOCK);
    let source = Sparse::new(head, size);
    assert_eq!(read(&source, "file.dcm").expect("a good file").pixels.and_then(|pixels| pixels.length), Some(BLOCK));
    assert!(source.read.into_inner() <= 4096);
}

#[test]
fn kept_values_have_a_budget_together() {
    let name = |length: u32| {
        let head = file(EXPLICIT, start().head(0x0010_0010, "UT", length));
        let size = head.len() as u64 + u64::from(length);
        Sparse::new(head, size)
    };
    assert_eq!(read(&name(DICOM_HELD as u32 - 64), "file.dcm").map(|_| ()), Ok(()));
    let error = read(&name(DICOM_HELD as u32), "file.dcm").expect_err("over the limit");
    assert_eq!(error.code(), Some(Code::Limit));
}

#[test]
fn accession_issuer_is_the_local_name_or_else_the_universal_one() {
    let issuer = |item: Bytes| {
        let sequence = start().implicit(0xFFFE_E000, &item.0).0;
        header(&file(EXPLICIT, start().element(0x0008_0051, "SQ", &sequence))).issuer_of_accession_number
    };
    assert_eq!(issuer(start().element(0x0040_0031, "UT", b"RIS ")).as_deref(), Some("RIS"));
    assert_eq!(issuer(start().element(0x0040_0032, "UT", b"1.2.3")).as_deref(), Some("1.2.3"));
    assert_eq!(issuer(start()), None);
}
