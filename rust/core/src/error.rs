//! What can go wrong, as data: blame, code, part, byte. Text is made once, in `Display`.
//!
//! Codes are those of seg/1 13.3; the few that JMIX 1.0 and DICOM need beside them are marked. No variant ever holds a
//! value of a patient, a key or a token.

use std::fmt;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)?) => {
        /// Why content was refused (seg/1 13.3).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant),+ }

        impl Code {
            /// Every code, for the tests that walk them.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The code as it stands in reports, logs and audit.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text),+ }
            }
        }
    };
}

codes! {
    /// The archive ends inside a header or a content.
    ZipEnd = "E_ZIP_END",
    /// No local header there; version, flags, method, sizes or extra field.
    ZipHeader = "E_ZIP_HEADER",
    /// Unknown, misplaced, repeated, missing or unsafe name.
    ZipName = "E_ZIP_NAME",
    /// CRC-32 of an entry.
    ZipCrc = "E_ZIP_CRC",
    /// The central directory or end record is not what the entries say.
    ZipDirectory = "E_ZIP_DIRECTORY",
    /// A limit of [`crate::limits`].
    Limit = "E_LIMIT",
    /// Not a compact JWS in canonical base64url.
    SigFormat = "E_SIG_FORMAT",
    /// A protected header with a missing or any other member.
    SigHeader = "E_SIG_HEADER",
    /// Any algorithm but EdDSA (Ed25519).
    SigAlg = "E_SIG_ALG",
    /// No trusted key, or not trusted for this sender.
    SigKey = "E_SIG_KEY",
    /// The signature does not verify.
    SigInvalid = "E_SIG_INVALID",
    /// Signed bytes are not manifest.json.
    ManifestMismatch = "E_MANIFEST_MISMATCH",
    /// The JSON rules of seg/1 3.1.
    Json = "E_JSON",
    /// Any other rule for a document.
    Schema = "E_SCHEMA",
    /// A profile version that this reader does not know.
    ProfileVersion = "E_PROFILE_VERSION",
    /// Not the answer to my request.
    Req = "E_REQ",
    /// Outside its time.
    Expired = "E_EXPIRED",
    /// Nothing in it is sealed to my key.
    NoRecipient = "E_NO_RECIPIENT",
    /// A key agreement with a useless key.
    Wrap = "E_WRAP",
    /// Digest of the ciphertext.
    PayloadHash = "E_PAYLOAD_HASH",
    /// The GCM tag.
    PayloadTag = "E_PAYLOAD_TAG",
    /// Tar entry type or link name.
    TarType = "E_TAR_TYPE",
    /// Tar name, prefix, or a zero block where a member must be.
    TarName = "E_TAR_NAME",
    /// Tar size field, end or padding.
    TarSize = "E_TAR_SIZE",
    /// Any other byte of a tar header.
    TarHeader = "E_TAR_HEADER",
    /// JSON rules inside the payload.
    IndexJson = "E_INDEX_JSON",
    /// Schema of metadata.json or files.json.
    IndexSchema = "E_INDEX_SCHEMA",
    /// metadata.json names another envelope.
    IndexId = "E_INDEX_ID",
    /// files.json and the members do not name the same files.
    IndexFiles = "E_INDEX_FILES",
    /// SHA-256 or size of a payload file.
    FileDigest = "E_FILE_DIGEST",
    /// Study or patient differ, or an identifying value cannot be found.
    DicomIdentity = "E_DICOM_IDENTITY",
    /// A file that is not well-formed DICOM (PS3.5, PS3.10). The code is this project's own.
    Dicom = "E_DICOM",
    /// A file that does not begin like DICOM at all, such as a text. The code is this project's own.
    NotDicom = "E_NOT_DICOM",
    /// Stripped of what its sender always writes.
    Downgrade = "E_DOWNGRADE",
    /// Stored bytes are not those that were digested.
    StoreCorrupt = "E_STORE_CORRUPT",
    /// Bytes that cannot be read this way.
    Range = "E_RANGE",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failure; the variant says whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Bad input: content or a signature breaks a rule.
    Refused {
        /// Which rule.
        code: Code,
        /// File, archive entry or element.
        part: String,
        /// Byte offset inside `part`, where it is known.
        at: Option<u64>,
        /// What is wrong, in words; never a value of the input.
        why: String,
    },
    /// Good input of a kind that is not handled.
    Unsupported {
        /// File, archive entry or element.
        part: String,
        /// What it is.
        why: String,
    },
    /// Reading or writing failed underneath.
    Source {
        /// File or stream.
        part: String,
        /// What the system said.
        why: String,
    },
    /// The caller's own mistake.
    Misuse {
        /// What to do instead.
        why: String,
    },
}

impl Error {
    /// A refusal without a byte offset.
    pub fn refused(code: Code, part: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused { code, part: part.into(), at: None, why: why.into() }
    }

    /// A refusal at a byte of `part`.
    pub fn refused_at(code: Code, part: impl Into<String>, at: u64, why: impl Into<String>) -> Self {
        Self::Refused { code, part: part.into(), at: Some(at), why: why.into() }
    }

    /// Input of a kind that is not handled.
    pub fn unsupported(part: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported { part: part.into(), why: why.into() }
    }

    /// A failure of what is underneath.
    pub fn source(part: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Source { part: part.into(), why: why.into() }
    }

    /// The caller's mistake.
    pub fn misuse(why: impl Into<String>) -> Self {
        Self::Misuse { why: why.into() }
    }

    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, part, at: Some(at), why } => write!(f, "{code}: {part}, byte {at}: {why}"),
            Self::Refused { code, part, at: None, why } => write!(f, "{code}: {part}: {why}"),
            Self::Unsupported { part, why } | Self::Source { part, why } => write!(f, "{part}: {why}"),
            Self::Misuse { why } => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}
