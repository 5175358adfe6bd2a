//! Where a data set begins and how it is encoded: preamble, prefix and File Meta Information (PS3.10 7.1).
//!
//! Files without a preamble, or without any meta information, are read where the first bytes leave no doubt: a data set
//! then begins with group 0008, and [`super::read`] asks for its SOP class and instance.

use super::charset::trim;
use super::identity::is_uid;
use super::reader::{Encoding, Event, Reader};
use super::tags::{MEDIA_STORAGE_SOP_CLASS_UID, META_GROUP_LENGTH, TRANSFER_SYNTAX_UID};
use crate::{ReadAt, Result};

const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// The whole data set is one deflate stream (PS3.5 A.5, A.4.10).
const DEFLATED: [&str; 3] = ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"];

const PREAMBLE: usize = 128;
const PREFIX: &[u8] = b"DICM";

/// What the first bytes of a file say about the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// TransferSyntaxUID; for a file without meta information the one that its encoding shows.
    pub transfer_syntax: String,
    /// MediaStorageSOPClassUID of the file meta information.
    pub media_class: Option<String>,
    /// Whether that was said by the file itself.
    pub declared: bool,
    /// The data set is one deflate stream.
    pub deflated: bool,
    /// Whether the preamble is the beginning of a program, script or archive (CVE-2019-11687).
    pub executable_preamble: bool,
}

/// Reads up to the first element of the data set and leaves `reader` there.
pub fn start<S: ReadAt + ?Sized>(reader: &mut Reader<'_, S>) -> Result<Start> {
    let first = reader.peek(0, PREAMBLE + PREFIX.len())?;
    if first.get(PREAMBLE..) == Some(PREFIX) {
        let executable_preamble = is_executable(first);
        let (transfer_syntax, media_class) = file_meta(reader, (PREAMBLE + PREFIX.len()) as u64)?;
        let deflated = is_deflated(&transfer_syntax);
        return Ok(Start { transfer_syntax, media_class, declared: true, deflated, executable_preamble });
    }
    let ((transfer_syntax, media_class), declared) = match first {
        [0x02, 0, _, 0, ..] => (file_meta(reader, 0)?, true),
        [0x08, 0, element, 0, a, b, ..] if *element <= 0x18 => {
            let explicit = a.is_ascii_uppercase() && b.is_ascii_uppercase();
            let syntax = if explicit { EXPLICIT_VR_LITTLE_ENDIAN } else { IMPLICIT_VR_LITTLE_ENDIAN };
            reader.start(0, encoding(syntax));
            ((syntax.to_owned(), None), false)
        }
        [0, 0x08, 0, element, b'A'..=b'Z', b'A'..=b'Z', ..] if *element <= 0x18 => {
            reader.start(0, Encoding::ExplicitBigEndian);
            ((EXPLICIT_VR_BIG_ENDIAN.to_owned(), None), false)
        }
        _ => return Err(reader.foreign("not a DICOM file: no DICM at byte 128 and no data set at byte 0")),
    };
    let deflated = is_deflated(&transfer_syntax);
    Ok(Start { transfer_syntax, media_class, declared, deflated, executable_preamble: false })
}

/// Group 0002 from byte `begin`: explicit little endian in every file (PS3.10 7.1). Leaves `reader` at the data set and gives
/// TransferSyntaxUID and MediaStorageSOPClassUID.
fn file_meta<S: ReadAt + ?Sized>(reader: &mut Reader<'_, S>, begin: u64) -> Result<(String, Option<String>)> {
    reader.start(begin, Encoding::ExplicitLittleEndian);
    let mut announced = None;
    let mut transfer_syntax = None;
    let mut media_class = None;
    while let [2, 0, _, _, ..] = reader.peek(reader.position(), 8)? {
        let Event::Element(element) = reader.next_event()? else { break };
        match element.tag {
            META_GROUP_LENGTH if element.at == begin && element.length == Some(4) => {
                if let [a, b, c, d] = *reader.value(&element)? {
                    announced = Some(element.value + 4 + u64::from(u32::from_le_bytes([a, b, c, d])));
                }
            }
            TRANSFER_SYNTAX_UID => {
                let value = trim(reader.value(&element)?).to_vec();
                if transfer_syntax.is_some() || !is_uid(&value) {
                    return Err(reader.refuse(element.at, format!("{} is no UID or appears twice", element.tag)));
                }
                transfer_syntax = String::from_utf8(value).ok();
            }
            MEDIA_STORAGE_SOP_CLASS_UID => {
                let value = trim(reader.value(&element)?).to_vec();
                media_class = String::from_utf8(value).ok().filter(|uid| is_uid(uid.as_bytes()));
            }
            tag if element.length.is_none() => {
                return Err(reader.refuse(element.at, format!("{tag} has an undefined length in group 0002")));
            }
            _ => {}
        }
    }
    let end = reader.position();
    if announced.is_some_and(|announced| announced != end) {
        let tag = META_GROUP_LENGTH;
        return Err(reader.refuse(begin, format!("{tag} says that group 0002 ends elsewhere than at byte {end}")));
    }
    let Some(transfer_syntax) = transfer_syntax else {
        return Err(reader.refuse(begin, format!("group 0002 names no transfer syntax, {TRANSFER_SYNTAX_UID}")));
    };
    reader.start(end, encoding(&transfer_syntax));
    Ok((transfer_syntax, media_class))
}

fn is_deflated(transfer_syntax: &str) -> bool {
    DEFLATED.contains(&transfer_syntax)
}

/// Every syntax that is not named here, private ones included, is explicit little endian (PS3.5 A.4).
fn encoding(transfer_syntax: &str) -> Encoding {
    match transfer_syntax {
        IMPLICIT_VR_LITTLE_ENDIAN => Encoding::ImplicitLittleEndian,
        EXPLICIT_VR_BIG_ENDIAN => Encoding::ExplicitBigEndian,
        _ => Encoding::ExplicitLittleEndian,
    }
}

/// The signatures of PE, ELF, Mach-O, scripts and ZIP. TIFF is a legitimate use of the preamble (PS3.10 7.1).
fn is_executable(preamble: &[u8]) -> bool {
    const SIGNATURES: [&[u8]; 9] = [
        b"MZ",
        b"\x7FELF",
        b"\xFE\xED\xFA\xCE",
        b"\xFE\xED\xFA\xCF",
        b"\xCE\xFA\xED\xFE",
        b"\xCF\xFA\xED\xFE",
        b"\xCA\xFE\xBA\xBE",
        b"#!",
        b"PK",
    ];
    SIGNATURES.iter().any(|signature| preamble.starts_with(signature))
}
