//! What a reader says about an envelope, as one machine-readable verdict (spec/jmix-1.0 11).

use serde::Serialize;

use super::manifest::Manifest;
use crate::error::{Error, Result};

/// A report as one line of JSON.
pub fn text<T: Serialize>(report: &T) -> Result<String> {
    serde_json::to_string(report).map_err(|error| Error::misuse(format!("no JSON: {error}")))
}

/// How far a signature reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Over the exact bytes of manifest.json. Only this opens an envelope.
    Full,
    /// Over a manifest without its security block: it does not cover the payload.
    Partial,
    /// Over a constant: every signed field is null.
    Meaningless,
    /// There is none.
    None,
}

/// Bytes that neither a signature nor a strict check covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unsigned {
    /// `audit.json` or `ZIP time`.
    pub part: &'static str,
    /// First byte, in the ZIP or in the file of the folder.
    pub start: u64,
    /// The byte after the last one.
    pub end: u64,
}

impl Unsigned {
    /// A range of `part`.
    #[must_use]
    pub fn new(part: &'static str, start: u64, end: u64) -> Self {
        Self { part, start, end }
    }
}

/// A party as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Party {
    /// Unique name.
    pub id: String,
    /// For people to read.
    pub name: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Everything that was asked for holds. False for a mere inspection, which proves nothing.
    pub ok: bool,
    /// Of a refusal; a report that is returned has none.
    pub code: Option<&'static str>,
    /// Format.
    pub profile: &'static str,
    /// Which writers' choices it follows; unknown before anything was decrypted and nothing names it.
    pub dialect: Option<String>,
    /// UUID of the envelope.
    pub id: String,
    /// When it was made.
    pub timestamp: String,
    /// Hex SHA-256 of manifest.json.
    pub manifest_sha256: String,
    /// The signature's reach: verified by a trusted key when `ok`, else as it presents itself.
    pub signature: Verdict,
    /// Whether a signature was checked against trusted keys.
    pub verified: bool,
    /// Whether the content was decrypted and checked.
    pub opened: bool,
    /// Who sent it.
    pub sender: Party,
    /// To whom.
    pub receiver: Vec<Party>,
    /// `confidential`, `sensitive` or `de-identified`.
    pub classification: Option<String>,
    /// base64 SHA-256 of the signed request that it answers.
    pub request: Option<String>,
    /// Length of the ciphertext.
    pub payload_bytes: Option<u64>,
    /// StudyInstanceUID; like the following known only when opened.
    pub study_uid: Option<String>,
    /// Number of DICOM files.
    pub instances: Option<u64>,
    /// Number of other files.
    pub files: Option<u64>,
    /// Their lengths together.
    pub bytes: Option<u64>,
    /// What is special about this envelope: it does not stop it and should be known.
    pub warnings: Vec<String>,
    /// What holds for every envelope of this format.
    pub notes: Vec<String>,
    /// What an attacker or a broken disk could change without being noticed.
    pub unsigned: Vec<Unsigned>,
}

impl Report {
    /// What the manifest says.
    #[must_use]
    pub fn of(manifest: &Manifest, manifest_sha256: [u8; 32], signature: Verdict) -> Self {
        let party = |entity: &super::manifest::Entity| Party { id: entity.id.clone(), name: entity.name.clone() };
        Self {
            ok: false,
            code: None,
            profile: "jmix-1.0",
            dialect: manifest.ief("dialect").map(str::to_owned),
            id: manifest.id.clone(),
            timestamp: manifest.timestamp.clone(),
            manifest_sha256: hex::encode(manifest_sha256),
            signature,
            verified: false,
            opened: false,
            sender: party(&manifest.sender),
            receiver: manifest.receiver.iter().map(party).collect(),
            classification: manifest.security.as_ref().and_then(|security| security.classification.clone()),
            request: manifest.ief("req").map(str::to_owned),
            payload_bytes: None,
            study_uid: None,
            instances: None,
            files: None,
            bytes: None,
            warnings: Vec::new(),
            notes: Vec::new(),
            unsigned: Vec::new(),
        }
    }
}
