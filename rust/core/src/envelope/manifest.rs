//! manifest.json: who sends what to whom, and what secures it (spec/jmix-1.0 6, 9).
//!
//! It stands in the clear and holds nothing personal. What is known only after the last byte of the payload (hash, tag,
//! signature) has a fixed length, so [`Manifest::write`] gives the same number of bytes before and after.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::documents::{self, Place, is_date_time, is_uuid};
use super::names::{MANIFEST, VERSION};
use crate::base64;
use crate::error::{Code, Error, Result};

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`VERSION`].
    pub version: String,
    /// The envelope's UUID.
    pub id: String,
    /// RFC 3339; written as UTC seconds.
    pub timestamp: String,
    /// Whose signature is asked for.
    pub sender: Entity,
    /// Who asked, if somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<Entity>,
    /// At least one.
    pub receiver: Vec<Entity>,
    /// Hash, signature file and encryption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Anything; ours stands under `ief`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extensions: Map<String, Value>,
}

/// An organisation, gateway or person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// Unique name, usually a URI.
    pub id: String,
    /// For people to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Always written: jmix-rs cannot read an entity without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,
    /// A signature over some fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Assertion>,
}

/// How to reach an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Contact {
    /// An address of any kind.
    Text(String),
    /// A contact point.
    Point {
        /// `phone`, `email` and the like.
        system: String,
        /// The address.
        value: String,
    },
}

/// Ed25519 over [`crate::sign::asserted`] (spec/jmix-1.0 9).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// The key that the writer says it used; no reader trusts it for that.
    pub signing_key: SigningKey,
    /// Where that key may be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_reference: Option<String>,
    /// Paths from the root of the manifest.
    pub signed_fields: Vec<String>,
    /// base64.
    pub signature: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Carried, never looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory_attestation: Option<Value>,
}

/// A public key beside what it signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// `Ed25519`.
    pub alg: String,
    /// base64, 32 bytes.
    pub public_key: String,
    /// `SHA256:` and the hex SHA-256 of the raw key.
    pub fingerprint: String,
}

/// What secures the payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// `confidential`, `sensitive` or `de-identified`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<String>,
    /// H-ct: `sha256:` and the hex SHA-256 of the ciphertext (spec/jmix-1.0 8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_hash: Option<String>,
    /// Names the signature file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jws: Option<JwsFile>,
    /// In the schema only; never written, never looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Value>,
    /// Absent when the payload lies open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// `security.jws`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwsFile {
    /// A name beside the manifest.
    pub jws_file: String,
}

/// `security.encryption`; all but the first are base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// `AES-256-GCM`.
    pub algorithm: String,
    /// 32 bytes.
    pub ephemeral_public_key: String,
    /// 12 bytes.
    pub iv: String,
    /// 16 bytes.
    pub auth_tag: String,
}

/// The only `algorithm` there is.
pub const ALGORITHM: &str = "AES-256-GCM";

impl Entity {
    /// From a JSON object {id, name, contact} that a caller hands in. `Misuse` when it is none.
    pub fn given(role: &str, text: &str) -> Result<Self> {
        let entity: Self = documents::parse(role, text.as_bytes(), Place::Outside)
            .map_err(|_| Error::misuse(format!("{role} must be a JSON object with id, name and contact")))?;
        if entity.id.is_empty() || entity.assertion.is_some() {
            return Err(Error::misuse(format!("{role} needs an id and may not bring an assertion")));
        }
        let contact = entity.contact.or_else(|| Some(Contact::Text(String::new())));
        Ok(Self { contact, ..entity })
    }
}

impl Encryption {
    /// From raw bytes.
    #[must_use]
    pub fn new(ephemeral: &[u8; 32], iv: &[u8; 12], tag: &[u8; 16]) -> Self {
        Self {
            algorithm: ALGORITHM.into(),
            ephemeral_public_key: base64::encode(ephemeral),
            iv: base64::encode(iv),
            auth_tag: base64::encode(tag),
        }
    }

    /// (ephemeral public key, iv, tag). `E_SCHEMA` for another algorithm, length or spelling.
    pub fn bytes(&self) -> Result<([u8; 32], [u8; 12], [u8; 16])> {
        if self.algorithm != ALGORITHM {
            return Err(schema("security.encryption.algorithm is not AES-256-GCM"));
        }
        Ok((
            decode("ephemeral_public_key", &self.ephemeral_public_key)?,
            decode("iv", &self.iv)?,
            decode("auth_tag", &self.auth_tag)?,
        ))
    }
}

fn decode<const N: usize>(member: &str, text: &str) -> Result<[u8; N]> {
    base64::decode(text).ok_or_else(|| schema(&format!("security.encryption.{member} is not {N} bytes in base64")))
}

fn schema(why: &str) -> Error {
    Error::refused(Code::Schema, MANIFEST, why)
}

impl Manifest {
    /// Reads a manifest and checks what the schema and this reader need. `E_JSON`, `E_SCHEMA`, `E_PROFILE_VERSION`.
    pub fn read(data: &[u8]) -> Result<Self> {
        let manifest: Self = documents::parse(MANIFEST, data, Place::Outside)?;
        let of_profile = |why: &str| Error::refused(Code::ProfileVersion, MANIFEST, why);
        if manifest.extensions.contains_key("ief_seg") {
            return Err(of_profile("a segmented envelope (seg/1), which this version does not read"));
        }
        if manifest.version != VERSION {
            return Err(of_profile("version is not 1.0"));
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<()> {
        if !is_uuid(&self.id) {
            return Err(schema("id is not a UUID"));
        }
        if !is_date_time(&self.timestamp) {
            return Err(schema("timestamp is not an RFC 3339 time"));
        }
        if self.receiver.is_empty() {
            return Err(schema("receiver is empty"));
        }
        let entities = [&self.sender].into_iter().chain(&self.requester).chain(&self.receiver);
        for assertion in entities.filter_map(|entity| entity.assertion.as_ref()) {
            let key = &assertion.signing_key;
            if key.alg != "Ed25519" || key.fingerprint.strip_prefix("SHA256:").is_none_or(|hex| !is_hex(hex)) {
                return Err(schema("signing_key of an assertion"));
            }
            if assertion.signed_fields.is_empty() || assertion.expires_at.as_ref().is_some_and(|at| !is_date_time(at)) {
                return Err(schema("signed_fields or expires_at of an assertion"));
            }
        }
        let Some(security) = &self.security else { return Ok(()) };
        if security.classification.as_deref().is_some_and(|class| !CLASSIFICATIONS.contains(&class)) {
            return Err(schema("security.classification"));
        }
        let hash = security.payload_hash.as_deref();
        if hash.is_some_and(|hash| hash.strip_prefix("sha256:").is_none_or(|hex| hex.len() != 64 || !is_hex(hex))) {
            return Err(schema("security.payload_hash is not sha256: and 64 hex digits"));
        }
        security.encryption.as_ref().map_or(Ok(()), |encryption| encryption.bytes().map(|_| ()))
    }

    /// The bytes of the document.
    pub fn write(&self) -> Result<Vec<u8>> {
        documents::write(self)
    }

    /// Our own extension.
    #[must_use]
    pub fn ief(&self, member: &str) -> Option<&str> {
        self.extensions.get("ief")?.get(member)?.as_str()
    }
}

const CLASSIFICATIONS: [&str; 3] = ["confidential", "sensitive", "de-identified"];

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a new manifest says, before the payload is sealed.
#[derive(Debug, Clone)]
pub struct Terms {
    /// UUID of the envelope, lower case.
    pub id: String,
    /// `YYYY-MM-DDThh:mm:ssZ`.
    pub timestamp: String,
    /// Who signs.
    pub sender: Entity,
    /// Who asked.
    pub requester: Option<Entity>,
    /// Who can open it.
    pub receiver: Entity,
    /// One of the schema's three.
    pub classification: String,
    /// SHA-256 of the signed request that this answers.
    pub request: Option<[u8; 32]>,
}

impl Terms {
    /// `Misuse` for what the schema does not allow.
    pub fn check(&self) -> Result<()> {
        if !is_uuid(&self.id) || self.id != self.id.to_ascii_lowercase() {
            return Err(Error::misuse("envelope_id must be a UUID in lower case"));
        }
        if crate::archive::zip::DosTime::from_timestamp(&self.timestamp).is_none() {
            return Err(Error::misuse("timestamp must be YYYY-MM-DDThh:mm:ssZ between 1980 and 2107"));
        }
        if !CLASSIFICATIONS.contains(&self.classification.as_str()) {
            return Err(Error::misuse("classification must be confidential, sensitive or de-identified"));
        }
        Ok(())
    }
}
