//! Verifying and opening, in one pass over the payload and in one order of checks, so that one fault has one code.
//!
//! Signature against keys from outside, manifest, request; then ciphertext hash, tag, CRC-32, tar, files.json,
//! metadata.json and what the DICOM headers say of study and patient (spec/jmix-1.0 11, seg/1 13.1). Decrypted bytes go to a
//! [`Files`] while they are still unproven, because the tag stands at the end: the caller keeps them private and throws
//! them away unless [`verify`] returns `Ok`. Without a key the payload is only hashed.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::container::{Container, Payload};
use super::dialects::DEFAULT;
use super::hashing::{Hashing, PIECE};
use super::payload_reader::{Files, PayloadReader};
use crate::archive::tar;
use crate::archive::zip::DosTime;
use crate::digest::prefixed;
use crate::envelope::Progress;
use crate::envelope::manifest::{Manifest, Security};
use crate::envelope::names::{MANIFEST, SIGNATURE};
use crate::envelope::report::{Report, Verdict};
use crate::error::{Code, Error, Result};
use crate::seal::gcm::{Opener, TAG};
use crate::seal::keys::{X25519Key, payload_key};
use crate::{base64, limits, sign};

/// A key that the caller trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// For this sender; None for any.
    pub sender: Option<String>,
    /// Raw Ed25519 key.
    pub public: [u8; 32],
}

/// What an envelope must be for its reader.
pub struct Expected<'a> {
    /// Who may have signed it.
    pub trust: &'a [Trusted],
    /// SHA-256 of the signed request that it must answer.
    pub request: Option<[u8; 32]>,
    /// Entity id of the holder of `key`; an envelope whose manifest names others opens with a warning.
    pub receiver: Option<&'a str>,
    /// Opens the payload; without it only the ciphertext is hashed.
    pub key: Option<&'a X25519Key>,
}

/// What the clear parts say, which nobody has checked.
pub fn inspect(container: Container<'_>) -> Result<Report> {
    let manifest = Manifest::read(&container.manifest)?;
    let mut report =
        Report::of(&manifest, Sha256::digest(&container.manifest).into(), presented(&container, &manifest));
    report.payload_bytes = container.payload.as_ref().map(|payload| payload.size);
    report.notes.push("nothing here is proven: no key was used, and anybody may have written it".into());
    report.warnings.extend(container.warnings);
    report.unsigned = container.unsigned;
    Ok(report)
}

/// Verifies an envelope; if a key is given, opens it into `files`.
pub fn verify(
    container: Container<'_>,
    expected: &Expected<'_>,
    files: &mut dyn Files,
    hashing: &mut dyn Hashing,
    progress: &mut Progress<'_>,
) -> Result<Report> {
    let Expected { trust, request, receiver, key } = *expected;
    let signer = signature(&container, trust)?;
    let manifest = Manifest::read(&container.manifest)?;
    let for_sender = |known: &&Trusted| known.sender.as_ref().is_none_or(|sender| *sender == manifest.sender.id);
    if !trust.iter().filter(for_sender).any(|known| known.public == signer) {
        return Err(Error::refused(Code::SigKey, SIGNATURE, "its key is trusted, but not for this sender"));
    }
    if request.is_some_and(|request| manifest.ief("req") != Some(base64::encode(&request).as_str())) {
        return Err(Error::refused(Code::Req, MANIFEST, "not the answer to this request"));
    }
    known_dialect(&manifest)?;
    let security = manifest.security.as_ref();
    let security = security.ok_or_else(|| Error::refused(Code::Schema, MANIFEST, "security is missing"))?;
    let payload = container.payload.as_ref().ok_or_else(|| {
        Error::refused(
            Code::ZipName,
            "envelope",
            format!("no {}; a payload that lies open is not read", DEFAULT.payload),
        )
    })?;
    if payload.size > limits::PAYLOAD_JMIX_1_0 {
        return Err(Error::refused(Code::Limit, DEFAULT.payload, "longer than one AES-GCM message can safely be"));
    }

    let mut report = Report::of(&manifest, Sha256::digest(&container.manifest).into(), Verdict::Full);
    report.payload_bytes = Some(payload.size);
    report.notes = labels(&manifest, key.is_some());
    if payload.size > limits::PAYLOAD_JMIX_1_0_WARN {
        report.warnings.push("more than 2 GiB: other readers of JMIX 1.0 hold the whole payload in memory".into());
    }
    report.warnings.extend(addressed(&manifest, receiver));
    report.warnings.extend(assertion_warning(&container.manifest, &manifest, &signer));
    if container.time.is_none_or(|time| DosTime::from_timestamp(&manifest.timestamp) != Some(time))
        && payload.crc.is_some()
    {
        report.warnings.push("ZIP times are not the time of the manifest; they are not signed".into());
    }

    let sealed = Sealed::of(security)?;
    let opened = pass(payload, &sealed, key, files, hashing, progress).map_err(|error| for_whom(error, &manifest))?;
    if let Some(opened) = opened {
        opened.check(&manifest, &mut report)?;
    }
    report.ok = true;
    report.verified = true;
    // Only this dialect opens; without the key nothing but the manifest can name it.
    report.dialect = report.dialect.or_else(|| report.opened.then(|| DEFAULT.name.into()));
    report.warnings.extend(container.warnings);
    report.unsigned = container.unsigned;
    Ok(report)
}

/// The trusted key whose signature covers the exact bytes of the manifest (seg/1 4.2; 13.4 for one that is missing).
fn signature(container: &Container<'_>, trust: &[Trusted]) -> Result<[u8; 32]> {
    let Some(jws) = &container.signature else {
        return Err(Error::refused(
            Code::Downgrade,
            SIGNATURE,
            "missing: an unsigned envelope proves no sender (verdict none)",
        ));
    };
    let keys: Vec<_> = trust.iter().map(|known| known.public).collect();
    let verified = sign::verify_jws(SIGNATURE, jws, sign::TYP_MANIFEST, &keys)?;
    if verified.payload == container.manifest {
        return Ok(verified.public);
    }
    let why = match covers(&verified.payload, &container.manifest) {
        Verdict::Partial => "covers the manifest without its security block, so not the payload (verdict partial)",
        _ => "covers another manifest",
    };
    Err(Error::refused(Code::ManifestMismatch, SIGNATURE, why))
}

/// How far a signature over `signed` reaches into `manifest` (spec/jmix-1.0 11).
fn covers(signed: &[u8], manifest: &[u8]) -> Verdict {
    let without_payload = |data: &[u8]| {
        let mut value = crate::json::parse(MANIFEST, data).ok()?;
        if let Some(security) = value.get_mut("security").and_then(Value::as_object_mut) {
            security.retain(|member, _| !["payload_hash", "encryption", "jws"].contains(&member.as_str()));
        }
        Some(value)
    };
    match (without_payload(signed), without_payload(manifest)) {
        _ if signed == manifest => Verdict::Full,
        (Some(signed), Some(whole)) if signed == whole => Verdict::Partial,
        _ => Verdict::None,
    }
}

/// The verdict that an envelope would get if its signature verified.
fn presented(container: &Container<'_>, manifest: &Manifest) -> Verdict {
    let signed =
        container.signature.as_ref().and_then(|jws| base64::decode_url(jws.split(|byte| *byte == b'.').nth(1)?));
    let fields = manifest.sender.assertion.as_ref().map(|assertion| &assertion.signed_fields);
    match (signed, fields) {
        (Some(signed), _) => covers(&signed, &container.manifest),
        (None, Some(fields)) if asserted(&container.manifest, fields).is_ok_and(|a| a.meaningless) => {
            Verdict::Meaningless
        }
        _ => Verdict::None,
    }
}

fn asserted(manifest: &[u8], fields: &[String]) -> Result<sign::Asserted> {
    let fields: Vec<_> = fields.iter().map(String::as_str).collect();
    sign::asserted(&crate::json::parse(MANIFEST, manifest)?, &fields)
}

/// Readers of `manifest.jws` decide nothing on the assertion (seg/1 4.3), but say when it does not hold.
fn assertion_warning(data: &[u8], manifest: &Manifest, signer: &[u8; 32]) -> Option<String> {
    let assertion = manifest.sender.assertion.as_ref()?;
    let warn = |why: &str| Some(format!("sender.assertion: {why}"));
    if !assertion.signing_key.fingerprint.eq_ignore_ascii_case(&sign::fingerprint(signer)) {
        return warn("made with another key than manifest.jws");
    }
    let Ok(signed) = asserted(data, &assertion.signed_fields) else { return warn("a signed field that is not there") };
    let signature = base64::decode::<64>(&assertion.signature);
    let valid = signature.is_some_and(|signature| sign::verify("assertion", signer, &signed.bytes, &signature).is_ok());
    match (valid, signed.meaningless) {
        (false, _) => warn("its signature does not verify"),
        (true, true) => warn("valid but meaningless, every signed field is null"),
        (true, false) => None,
    }
}

/// `E_PROFILE_VERSION` for an envelope that names another dialect or HKDF label than the only one that is read. One that
/// names none is read by the text of JMIX 1.0, as other writers mean it.
fn known_dialect(manifest: &Manifest) -> Result<()> {
    for (member, known) in [("dialect", DEFAULT.name), ("kdf_info", DEFAULT.kdf_info)] {
        if manifest.extensions.get("ief").and_then(|ief| ief.get(member)).is_some_and(|said| said != known) {
            let why = format!("extensions.ief.{member} is not {known}: a dialect that this version does not read");
            return Err(Error::refused(Code::ProfileVersion, MANIFEST, why));
        }
    }
    Ok(())
}

/// A payload is sealed to one key, also if the manifest names several receivers.
fn addressed(manifest: &Manifest, receiver: Option<&str>) -> Vec<String> {
    let mut warnings = Vec::new();
    if manifest.receiver.len() > 1 {
        let count = manifest.receiver.len();
        warnings.push(format!("the manifest names {count} receivers, and the payload is sealed to one key"));
    }
    if receiver.is_some_and(|id| manifest.receiver.iter().all(|entity| entity.id != id)) {
        warnings.push("the manifest names another receiver than the owner of your key".into());
    }
    warnings
}

/// What a JMIX 1.0 envelope cannot promise (seg/1 13.4, 16).
fn labels(manifest: &Manifest, opened: bool) -> Vec<String> {
    let mut labels =
        vec!["not key-committing: AES-GCM does not bind the ciphertext to one key; the signature does that".to_owned()];
    if manifest.ief("req").is_some() {
        labels.push("forward secrecy only if the receiver made its key for this request and erases it now".into());
    } else {
        labels.push("no forward secrecy: whoever gets the receiver's key later can open it".into());
    }
    if !opened {
        labels.push("content not opened: only the signature and the ciphertext hash were checked".into());
    }
    labels
}

/// What the signed manifest says of the payload.
struct Sealed {
    hash: String,
    ephemeral: [u8; 32],
    iv: [u8; 12],
    tag: [u8; TAG],
}

impl Sealed {
    fn of(security: &Security) -> Result<Self> {
        let missing = |what: &str| Error::refused(Code::Schema, MANIFEST, format!("security.{what} is missing"));
        let hash = security.payload_hash.as_ref().ok_or_else(|| missing("payload_hash"))?;
        let encryption = security.encryption.as_ref().ok_or_else(|| missing("encryption"))?;
        if security.jws.as_ref().is_some_and(|jws| jws.jws_file != SIGNATURE) {
            return Err(Error::refused(Code::Schema, MANIFEST, "security.jws names another file than manifest.jws"));
        }
        let (ephemeral, iv, tag) = encryption.bytes()?;
        Ok(Self { hash: hash.to_ascii_lowercase(), ephemeral, iv, tag })
    }
}

/// A wrong key is a mistake that its owner can put right: the receiver stands in the manifest, which is signed.
fn for_whom(error: Error, manifest: &Manifest) -> Error {
    if error.code() != Some(Code::NoRecipient) {
        return error;
    }
    let names: Vec<_> = manifest.receiver.iter().map(|entity| entity.name.as_ref().unwrap_or(&entity.id)).collect();
    let names = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    Error::refused(Code::NoRecipient, DEFAULT.payload, format!("sealed for {names}; the key given is another"))
}

/// The one pass over the payload; None when there was no key to open it.
fn pass<'f>(
    payload: &Payload<'_>,
    sealed: &Sealed,
    key: Option<&X25519Key>,
    files: &'f mut dyn Files,
    hashing: &mut dyn Hashing,
    progress: &mut Progress<'_>,
) -> Result<Option<PayloadReader<'f>>> {
    let key = key.map(|key| key.agree(&sealed.ephemeral).map(|shared| payload_key(&shared, DEFAULT.kdf_info)));
    let key = key.transpose()?;
    // A tag answers only at the end. The first block is a tar header under the right key and noise under any other.
    let fits = key.as_ref().map_or(Ok(true), |key| begins_as_tar(payload, key, &sealed.iv))?;
    let opener = key.filter(|_| fits).map(|key| Opener::new(&key, &sealed.iv));
    let mut crc = crc32fast::Hasher::new();
    let mut opening = opener.map(|opener| (opener, PayloadReader::new(payload.size, files)));
    let mut at = 0;
    while at < payload.size {
        let mut piece = hashing.piece()?;
        let take = usize::try_from(payload.size - at).map_or(PIECE, |left| left.min(PIECE));
        piece.sealed.resize(take, 0);
        payload.read_at(at, &mut piece.sealed)?;
        crc.update(&piece.sealed);
        if let Some((opener, reader)) = &mut opening {
            let plain = &mut piece.plain[..take];
            opener.update(DEFAULT.payload, &piece.sealed, plain)?;
            reader.take(plain, &mut piece.marks)?;
        }
        at += take as u64;
        hashing.pass(piece)?;
        progress.report(at, payload.size)?;
    }
    let opened = match opening {
        Some((opener, reader)) => Some((opener.finish(&sealed.tag), reader.hashed(hashing)?)),
        None => None,
    };
    let (crc, ciphertext) = (crc.finalize(), hashing.finish()?);

    let refused = |code, why: &str| Err(Error::refused(code, DEFAULT.payload, why));
    if prefixed(&ciphertext) != sealed.hash {
        return refused(Code::PayloadHash, "its SHA-256 is not the signed payload_hash");
    }
    let opened = match opened {
        None if !fits => return refused(Code::NoRecipient, "sealed to another key"),
        None => None,
        Some((false, _)) => return refused(Code::PayloadTag, "the GCM tag is not that of this key and ciphertext"),
        Some((true, opened)) => Some(opened),
    };
    // All three are known at the end of the same pass. A CRC calls an attack a damage, so it speaks last.
    if payload.crc.is_some_and(|known| known != crc) {
        return refused(
            Code::ZipCrc,
            "the CRC-32 of the archive is not that of the payload, which is as it was signed",
        );
    }
    Ok(opened)
}

/// Decides nothing but which message a failure gets; the tag is checked all the same.
fn begins_as_tar(payload: &Payload<'_>, key: &[u8; 32], iv: &[u8; 12]) -> Result<bool> {
    let (mut sealed, mut plain) = ([0; tar::BLOCK], [0; tar::BLOCK]);
    if payload.size < tar::BLOCK as u64 {
        return Ok(true);
    }
    payload.read_at(0, &mut sealed)?;
    let worked = Opener::new(key, iv).update(DEFAULT.payload, &sealed, &mut plain).is_ok();
    Ok(worked && tar::is_header(&plain))
}
