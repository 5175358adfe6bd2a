//! The facts of one file that discovery, FHIR and JMIX need.

use super::charset::{CharacterSet, trim};
use super::deflate::Inflated;
use super::frames::PixelData;
use super::identity::{Claim, Ihi, OtherPatientId, is_uid};
use super::meta;
use super::reader::{Element, Event, Reader};
use super::tags::{self, Keyword, Kind, Tag};
use crate::{ReadAt, Result};

/// Media Storage Directory Storage: a DICOMDIR, which lists the files of a disk (PS3.10 8.6, PS3.4 I.4).
pub const DIRECTORY: &str = "1.2.840.10008.1.3.10";

const KEYWORDS: usize = Keyword::ALL.len();

/// Facts of one DICOM file. Text is decoded and never padded; empty values are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// TransferSyntaxUID of the file meta information, or what the encoding shows where there is none.
    pub transfer_syntax: String,
    /// MediaStorageSOPClassUID of the file meta information; [`DIRECTORY`] for a DICOMDIR.
    pub media_class: Option<String>,
    texts: [Option<String>; KEYWORDS],
    /// LocalNamespaceEntityID, or else UniversalEntityID, of IssuerOfAccessionNumberSequence.
    pub issuer_of_accession_number: Option<String>,
    /// Rows
    pub rows: Option<u16>,
    /// Columns
    pub columns: Option<u16>,
    /// BitsAllocated
    pub bits_allocated: Option<u16>,
    /// The items of OtherPatientIDsSequence that name an identifier.
    pub other_patient_ids: Vec<OtherPatientId>,
    /// Every valid IHI in one of the five spellings, with the number of that spelling, in order of appearance.
    pub ihis: Vec<(Ihi, u8)>,
    /// How many values look like an IHI while nothing says who issued them.
    pub ihi_candidates: u32,
    /// Where the pixel data lies, when there is any and it is not inside a deflate stream.
    pub pixels: Option<PixelData>,
    /// The preamble begins like a program or archive.
    pub executable_preamble: bool,
}

impl Header {
    /// The value of a text attribute.
    #[must_use]
    pub fn text(&self, keyword: Keyword) -> Option<&str> {
        self.texts[keyword as usize].as_deref()
    }

    /// Moves the value of a text attribute out.
    pub fn take(&mut self, keyword: Keyword) -> Option<String> {
        self.texts[keyword as usize].take()
    }
}

/// Reads the header of `source`; `part` names it in errors. Pixel data is not read.
///
/// [`crate::Code::Dicom`] with the byte for what is not well-formed, [`crate::Code::Limit`] over a budget.
pub fn read<S: ReadAt + ?Sized>(source: &S, part: &str) -> Result<Header> {
    let mut reader = Reader::new(source, part);
    let start = meta::start(&mut reader)?;
    let mut found = Found::default();
    if start.deflated {
        let inflated = Inflated::new(source, reader.position(), part)?;
        let part = format!("{part}, inflated");
        found.walk(&mut Reader::new(&inflated, &part))?;
        // No byte of the file is the beginning of what lies inside the deflate stream.
        found.pixels = None;
    } else {
        found.walk(&mut reader)?;
    }
    if !start.declared {
        let recognised = found.texts[Keyword::SOPClassUID as usize].is_some()
            && found.texts[Keyword::SOPInstanceUID as usize].is_some()
            && found.pixels.is_none_or(|pixels| !pixels.encapsulated());
        if !recognised {
            return Err(reader.refuse(0, "no file meta information, and what is there is no whole data set"));
        }
    }
    let mut header = found.finish();
    header.transfer_syntax = start.transfer_syntax;
    header.media_class = start.media_class;
    header.executable_preamble = start.executable_preamble;
    Ok(header)
}

/// An identifier as it stands, before the character set is known.
#[derive(Default)]
struct RawClaim {
    id: Option<Vec<u8>>,
    issuer: Option<Vec<u8>>,
    type_of: Option<Vec<u8>>,
    universal: Option<Vec<u8>>,
    universal_type: Option<Vec<u8>>,
    character_set: Option<Vec<u8>>,
}

#[derive(Default)]
struct Found {
    texts: [Option<Vec<u8>>; KEYWORDS],
    seen: [bool; KEYWORDS],
    numbers: [Option<u16>; 3],
    qualifiers: RawClaim,
    retired_ids: Option<Vec<u8>>,
    others: Vec<RawClaim>,
    accession_local: Option<Vec<u8>>,
    accession_universal: Option<Vec<u8>>,
    pixels: Option<PixelData>,
}

impl Found {
    fn walk<S: ReadAt + ?Sized>(&mut self, reader: &mut Reader<'_, S>) -> Result<()> {
        loop {
            match reader.next_event()? {
                Event::End => return Ok(()),
                Event::Item if reader.sequence(0) == Some(tags::OTHER_PATIENT_IDS_SEQUENCE) => {
                    self.others.push(RawClaim::default());
                }
                Event::Item | Event::ItemEnd => {}
                Event::Element(element) => match (reader.sequence(0), reader.depth()) {
                    (None, _) => {
                        if self.top(reader, &element)? {
                            return Ok(());
                        }
                    }
                    (Some(tags::OTHER_PATIENT_IDS_SEQUENCE), _) => self.other(reader, &element)?,
                    (Some(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE), depth) => {
                        let claim = if depth == 1 { Some(&mut self.qualifiers) } else { self.others.last_mut() };
                        let Some(claim) = claim else { continue };
                        match element.tag {
                            tags::UNIVERSAL_ENTITY_ID => claim.universal = value(reader, &element)?,
                            tags::UNIVERSAL_ENTITY_ID_TYPE => claim.universal_type = value(reader, &element)?,
                            _ => {}
                        }
                    }
                    (Some(_), _) => match element.tag {
                        tags::LOCAL_NAMESPACE_ENTITY_ID => self.accession_local = value(reader, &element)?,
                        tags::UNIVERSAL_ENTITY_ID => self.accession_universal = value(reader, &element)?,
                        _ => {}
                    },
                },
            }
        }
    }

    /// One element of the data set itself; says whether the pixel data was reached.
    fn top<S: ReadAt + ?Sized>(&mut self, reader: &mut Reader<'_, S>, element: &Element) -> Result<bool> {
        if element.is_pixel_data() {
            self.pixels = Some(PixelData { tag: element.tag, offset: element.value, length: element.length });
            return Ok(true);
        }
        if let Some(keyword) = Keyword::of(element.tag) {
            let place = keyword as usize;
            if self.seen[place] {
                return Err(reader.refuse(element.at, format!("{} appears twice", element.tag)));
            }
            self.seen[place] = true;
            self.texts[place] = value(reader, element)?;
            if keyword.kind() == Kind::Uid && self.texts[place].as_deref().is_some_and(|uid| !is_uid(uid)) {
                return Err(reader.refuse(element.at, format!("{} is no valid UID", element.tag)));
            }
            return Ok(false);
        }
        match element.tag {
            tags::ROWS => self.numbers[0] = number(reader, element)?,
            tags::COLUMNS => self.numbers[1] = number(reader, element)?,
            tags::BITS_ALLOCATED => self.numbers[2] = number(reader, element)?,
            tags::OTHER_PATIENT_IDS => self.retired_ids = value(reader, element)?,
            tag if tags::is_read_sequence(tag) && element.is_sequence() => reader.enter(element)?,
            _ => {}
        }
        Ok(false)
    }

    fn other<S: ReadAt + ?Sized>(&mut self, reader: &mut Reader<'_, S>, element: &Element) -> Result<()> {
        const SPECIFIC_CHARACTER_SET: Tag = Keyword::SpecificCharacterSet.tag();
        const PATIENT_ID: Tag = Keyword::PatientID.tag();
        const ISSUER_OF_PATIENT_ID: Tag = Keyword::IssuerOfPatientID.tag();
        let Some(claim) = self.others.last_mut() else { return Ok(()) };
        match element.tag {
            SPECIFIC_CHARACTER_SET => claim.character_set = value(reader, element)?,
            PATIENT_ID => claim.id = value(reader, element)?,
            ISSUER_OF_PATIENT_ID => claim.issuer = value(reader, element)?,
            tags::TYPE_OF_PATIENT_ID => claim.type_of = value(reader, element)?,
            tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE if element.is_sequence() => reader.enter(element)?,
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Header {
        let plain = CharacterSet::default();
        let declared = self.texts[Keyword::SpecificCharacterSet as usize].take();
        let declared = declared.and_then(|value| plain.text(value, Kind::Plain));
        let set = declared.as_deref().map_or(plain, CharacterSet::new);
        let mut header = Header { pixels: self.pixels, ..Header::default() };
        for (keyword, value) in Keyword::ALL.iter().zip(self.texts) {
            header.texts[*keyword as usize] = value.and_then(|value| set.text(value, keyword.kind()));
        }
        header.texts[Keyword::SpecificCharacterSet as usize] = declared;
        [header.rows, header.columns, header.bits_allocated] = self.numbers;
        header.issuer_of_accession_number =
            self.accession_local.or(self.accession_universal).and_then(|value| set.text(value, Kind::Text));

        let mut claims = Vec::with_capacity(1 + self.others.len());
        claims.push(Claim {
            id: header.text(Keyword::PatientID).map(str::to_owned),
            issuer: header.text(Keyword::IssuerOfPatientID).map(str::to_owned),
            universal: self.qualifiers.universal.and_then(|value| set.text(value, Kind::Text)),
            universal_type: self.qualifiers.universal_type.and_then(|value| set.text(value, Kind::Plain)),
        });
        for other in self.others {
            let own = other.character_set.and_then(|value| plain.text(value, Kind::Plain));
            let set = own.as_deref().map_or(set, CharacterSet::new);
            let claim = Claim {
                id: other.id.and_then(|value| set.text(value, Kind::Text)),
                issuer: other.issuer.and_then(|value| set.text(value, Kind::Text)),
                universal: other.universal.and_then(|value| set.text(value, Kind::Text)),
                universal_type: other.universal_type.and_then(|value| set.text(value, Kind::Plain)),
            };
            if let Some(id) = &claim.id {
                header.other_patient_ids.push(OtherPatientId {
                    id: id.clone(),
                    issuer: claim.issuer.clone().or_else(|| claim.universal.clone()),
                    type_of: other.type_of.and_then(|value| set.text(value, Kind::Plain)),
                });
            }
            claims.push(claim);
        }
        let retired = self.retired_ids.and_then(|value| set.text(value, Kind::Text)).unwrap_or_default();
        claims.extend(retired.split('\\').map(|id| Claim { id: Some(id.to_owned()), ..Claim::default() }));
        header.ihis = claims.iter().flat_map(Claim::ihis).collect();
        header.ihi_candidates = claims.iter().filter(|claim| claim.is_candidate()).count() as u32;
        header
    }
}

/// The trimmed bytes of a value; `None` when nothing is left.
fn value<S: ReadAt + ?Sized>(reader: &mut Reader<'_, S>, element: &Element) -> Result<Option<Vec<u8>>> {
    if element.vr == Some(*b"SQ") {
        return Err(reader.refuse(element.at, format!("{} is a sequence where text must be", element.tag)));
    }
    let bytes = trim(reader.value(element)?);
    Ok((!bytes.is_empty()).then(|| bytes.to_vec()))
}

/// The value of a US element.
fn number<S: ReadAt + ?Sized>(reader: &mut Reader<'_, S>, element: &Element) -> Result<Option<u16>> {
    let encoding = reader.encoding();
    match *reader.value(element)? {
        [] => Ok(None),
        [low, high] => Ok(Some(encoding.short([low, high]))),
        _ => Err(reader.refuse(element.at, format!("{} is no single 16-bit number", element.tag))),
    }
}
