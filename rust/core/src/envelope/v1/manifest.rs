//! The manifest of a new JMIX 1.0 envelope: what was agreed before, what the sealed payload adds, and its sender's word.

use serde_json::{Map, json};

use super::dialects::DEFAULT;
use crate::base64;
use crate::digest::prefixed;
use crate::envelope::documents;
use crate::envelope::manifest::{Assertion, Encryption, JwsFile, Manifest, Security, SigningKey, Terms};
use crate::envelope::names::{SIGNATURE, VERSION};
use crate::error::{Error, Result};
use crate::sign::{self, Ed25519Key};

/// What the sender's assertion covers: the envelope, its sender, its first receiver and all that secures the payload.
/// jmix-rs resolves each of these paths.
pub(super) const ASSERTED: [&str; 9] = [
    "manifest.id",
    "timestamp",
    "sender.id",
    "receiver.0.id",
    "security.payload_hash",
    "security.encryption.algorithm",
    "security.encryption.ephemeral_public_key",
    "security.encryption.iv",
    "security.encryption.auth_tag",
];

/// What is known once the payload is sealed.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    /// SHA-256 of the ciphertext.
    pub(super) ciphertext: [u8; 32],
    /// H-list of the payload.
    pub(super) list: [u8; 32],
    /// How it was encrypted.
    pub(super) encryption: Encryption,
}

/// The manifest with its sender's assertion.
pub(super) fn write(terms: &Terms, sealed: &Sealed, signer: &Ed25519Key) -> Result<Manifest> {
    let mut manifest = unsigned(terms, sealed);
    manifest.sender.assertion = Some(assertion(&manifest, signer)?);
    Ok(manifest)
}

fn unsigned(terms: &Terms, sealed: &Sealed) -> Manifest {
    let mut ief = json!({
        "dialect": DEFAULT.name,
        "kdf_info": DEFAULT.kdf_info,
        "payload_list_hash": prefixed(&sealed.list),
    });
    if let Some(request) = terms.request {
        ief["req"] = base64::encode(&request).into();
    }
    Manifest {
        version: VERSION.into(),
        id: terms.id.clone(),
        timestamp: terms.timestamp.clone(),
        sender: terms.sender.clone(),
        requester: terms.requester.clone(),
        receiver: vec![terms.receiver.clone()],
        security: Some(Security {
            classification: Some(terms.classification.clone()),
            payload_hash: Some(prefixed(&sealed.ciphertext)),
            jws: Some(JwsFile { jws_file: SIGNATURE.into() }),
            signature: None,
            encryption: Some(sealed.encryption.clone()),
        }),
        extensions: Map::from_iter([("ief".to_owned(), ief)]),
    }
}

/// The sender's assertion, for readers that know no `manifest.jws` (spec/jmix-1.0 9). It holds for a year.
fn assertion(manifest: &Manifest, signer: &Ed25519Key) -> Result<Assertion> {
    let root = serde_json::to_value(manifest).map_err(|_| Error::misuse("a manifest is a JSON object"))?;
    let public = signer.public();
    Ok(Assertion {
        signing_key: SigningKey {
            alg: "Ed25519".into(),
            public_key: base64::encode(&public),
            fingerprint: sign::fingerprint(&public),
        },
        key_reference: None,
        signed_fields: ASSERTED.map(str::to_owned).into(),
        signature: base64::encode(&signer.sign(&sign::asserted(&root, &ASSERTED)?.bytes)),
        expires_at: Some(documents::a_year_later(&manifest.timestamp)?),
        directory_attestation: None,
    })
}
