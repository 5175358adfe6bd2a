//! The attributes that are read, by their keywords (PS3.6). Everything else is passed over.

use std::fmt;

/// A data element tag (PS3.5 7.1): group in the upper 16 bits, element in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);

impl Tag {
    /// The group number.
    #[must_use]
    pub const fn group(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:04X},{:04X})", self.0 >> 16, self.0 & 0xFFFF)
    }
}

/// (FFFE,E000)
pub const ITEM: Tag = Tag(0xFFFE_E000);
/// (FFFE,E00D)
pub const ITEM_DELIMITATION: Tag = Tag(0xFFFE_E00D);
/// (FFFE,E0DD)
pub const SEQUENCE_DELIMITATION: Tag = Tag(0xFFFE_E0DD);

/// (0002,0000) FileMetaInformationGroupLength
pub const META_GROUP_LENGTH: Tag = Tag(0x0002_0000);
/// (0002,0010) TransferSyntaxUID
pub const MEDIA_STORAGE_SOP_CLASS_UID: Tag = Tag(0x0002_0002);
/// TransferSyntaxUID
pub const TRANSFER_SYNTAX_UID: Tag = Tag(0x0002_0010);

/// (0008,0051) IssuerOfAccessionNumberSequence
pub const ISSUER_OF_ACCESSION_NUMBER_SEQUENCE: Tag = Tag(0x0008_0051);
/// (0010,0022) TypeOfPatientID
pub const TYPE_OF_PATIENT_ID: Tag = Tag(0x0010_0022);
/// (0010,0024) IssuerOfPatientIDQualifiersSequence
pub const ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE: Tag = Tag(0x0010_0024);
/// (0010,1000) OtherPatientIDs, retired: several values without an issuer
pub const OTHER_PATIENT_IDS: Tag = Tag(0x0010_1000);
/// (0010,1002) OtherPatientIDsSequence
pub const OTHER_PATIENT_IDS_SEQUENCE: Tag = Tag(0x0010_1002);
/// (0028,0010) Rows
pub const ROWS: Tag = Tag(0x0028_0010);
/// (0028,0011) Columns
pub const COLUMNS: Tag = Tag(0x0028_0011);
/// (0028,0100) BitsAllocated
pub const BITS_ALLOCATED: Tag = Tag(0x0028_0100);
/// (0040,0031) LocalNamespaceEntityID
pub const LOCAL_NAMESPACE_ENTITY_ID: Tag = Tag(0x0040_0031);
/// (0040,0032) UniversalEntityID
pub const UNIVERSAL_ENTITY_ID: Tag = Tag(0x0040_0032);
/// (0040,0033) UniversalEntityIDType
pub const UNIVERSAL_ENTITY_ID_TYPE: Tag = Tag(0x0040_0033);

/// (7FE0,0008) FloatPixelData
pub const FLOAT_PIXEL_DATA: Tag = Tag(0x7FE0_0008);
/// (7FE0,0009) DoubleFloatPixelData
pub const DOUBLE_FLOAT_PIXEL_DATA: Tag = Tag(0x7FE0_0009);
/// (7FE0,0010) PixelData
pub const PIXEL_DATA: Tag = Tag(0x7FE0_0010);

/// Sequences whose items are read. Their tags decide, so that they are found in implicit encoding and as UN too.
#[must_use]
pub const fn is_read_sequence(tag: Tag) -> bool {
    matches!(
        tag,
        ISSUER_OF_ACCESSION_NUMBER_SEQUENCE | ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE | OTHER_PATIENT_IDS_SEQUENCE
    )
}

/// What a text attribute may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UI: digits and dots, valid or refused.
    Uid,
    /// AS, CS, DA, IS, TM and others of the default repertoire.
    Plain,
    /// LO, SH, LT, UT and others that SpecificCharacterSet governs.
    Text,
    /// PN, where `^` and `=` also end a code extension.
    Name,
}

macro_rules! keywords {
    ($($keyword:ident = $tag:literal, $kind:ident;)+) => {
        /// A text attribute of the data set that is kept, named by its keyword.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Keyword { $(#[doc = concat!("`", stringify!($keyword), "`")] $keyword),+ }

        impl Keyword {
            /// All of them, in the order of their tags; `keyword as usize` is the place in it.
            pub const ALL: &'static [Keyword] = &[$(Keyword::$keyword),+];

            /// The attribute with this tag, when it is one that is kept.
            #[must_use]
            pub const fn of(tag: Tag) -> Option<Keyword> {
                match tag.0 { $($tag => Some(Keyword::$keyword),)+ _ => None }
            }

            /// Its tag.
            #[must_use]
            pub const fn tag(self) -> Tag {
                match self { $(Keyword::$keyword => Tag($tag)),+ }
            }

            /// What it may hold.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Keyword::$keyword => Kind::$kind),+ }
            }

            /// The keyword as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Keyword::$keyword => stringify!($keyword)),+ }
            }
        }
    };
}

keywords! {
    SpecificCharacterSet = 0x0008_0005, Plain;
    SOPClassUID = 0x0008_0016, Uid;
    SOPInstanceUID = 0x0008_0018, Uid;
    StudyDate = 0x0008_0020, Plain;
    StudyTime = 0x0008_0030, Plain;
    AccessionNumber = 0x0008_0050, Text;
    Modality = 0x0008_0060, Plain;
    InstitutionName = 0x0008_0080, Text;
    ReferringPhysicianName = 0x0008_0090, Name;
    TimezoneOffsetFromUTC = 0x0008_0201, Plain;
    StudyDescription = 0x0008_1030, Text;
    SeriesDescription = 0x0008_103E, Text;
    PatientName = 0x0010_0010, Name;
    PatientID = 0x0010_0020, Text;
    IssuerOfPatientID = 0x0010_0021, Text;
    PatientBirthDate = 0x0010_0030, Plain;
    PatientSex = 0x0010_0040, Plain;
    BodyPartExamined = 0x0018_0015, Plain;
    StudyInstanceUID = 0x0020_000D, Uid;
    SeriesInstanceUID = 0x0020_000E, Uid;
    SeriesNumber = 0x0020_0011, Plain;
    InstanceNumber = 0x0020_0013, Plain;
    Laterality = 0x0020_0060, Plain;
    NumberOfFrames = 0x0028_0008, Plain;
}
