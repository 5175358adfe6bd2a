//! Packing: headers are read, every length is known, then one pass reads, seals, hashes and writes.
//!
//! [`Plan::new`] decides what the envelope holds and refuses what does not belong together; [`Plan::zip`] and
//! [`Plan::directory`] consume it, so that one ephemeral key and IV never seal twice. The bytes that exist only at the end
//! (tag, hash, signature) go into places whose lengths were known before. Sources, time, randomness and the sink come
//! from the caller. jmix-interop 2.10 "Writer".

use hkdf::Hkdf;
use mdg_crypto::gcm::Sealer;
use serde::Serialize;
use sha2::{Digest, Sha256, Sha512};

use super::dialects::{AUDIT, DEFAULT, DICOM, FILES, MANIFEST, METADATA, OTHER, SIGNATURE};
use super::files::{self, Member};
use super::hashing::Hashing;
use super::manifest::{ASSERTED, Assertion, Encryption, Manifest, Sealed, SigningKey, Terms};
use super::metadata::{Identifier, Metadata, Study};
use super::pass::{Content, Pass, Planned};
use super::{Open, Progress, audit, documents};
use crate::archive::tar;
use crate::archive::zip::{DosTime, Layout};
use crate::dicom::{self, Keyword};
use crate::digest::prefixed;
use crate::error::{Code, Error, Result};
use crate::seal::keys::{Secret, X25519Key, payload_key};
use crate::sign::{self, Ed25519Key, TYP_MANIFEST};
use crate::{WriteAt, base64, limits};

/// One file to be packed.
pub struct Given<'a> {
    /// How errors name it.
    pub part: String,
    /// Where its bytes are.
    pub source: Box<dyn Open + 'a>,
    /// SHA-256 recorded before: other bytes are `E_STORE_CORRUPT`.
    pub sha256: Option<[u8; 32]>,
}

/// What to pack, for whom, and the randomness for it.
pub struct Order<'a> {
    /// What the manifest says.
    pub terms: Terms,
    /// `patient.id` of metadata.json.
    pub patient_id: String,
    /// The patient's identifiers, PatientID and IHI among them.
    pub identifiers: Vec<Identifier>,
    /// DICOM files of one study.
    pub instances: Vec<Given<'a>>,
    /// Other files and their names under `files/`.
    pub files: Vec<(String, Given<'a>)>,
    /// The recipient's raw X25519 key.
    pub recipient: [u8; 32],
    /// The sender's key.
    pub signer: &'a Ed25519Key,
    /// A fresh key, used for this envelope only.
    pub ephemeral: X25519Key,
    /// Random.
    pub iv: [u8; 12],
}

/// 32 secret bytes for `purpose` from 64 random ones and what makes this run unlike any other, so that a cloned machine
/// which repeats its random numbers does not repeat a key (seg/1 9.4).
#[must_use]
pub fn hedged(random: &[u8; 64], purpose: &str, context: &[u8]) -> Secret {
    let mut secret = Secret::default();
    Hkdf::<Sha512>::new(None, random)
        .expand_multi_info(&[purpose.as_bytes(), &[0], context], secret.as_mut_slice())
        .expect("HKDF-SHA512 gives up to 16,320 bytes");
    secret
}

/// What was packed.
#[derive(Debug, Clone, Serialize)]
pub struct Packed {
    /// UUID of the envelope.
    pub id: String,
    /// Number of DICOM files.
    pub instances: u64,
    /// Number of other files.
    pub files: u64,
    /// Their lengths together.
    pub bytes: u64,
    /// Length of the ZIP; of the directory form the sum of its files.
    pub length: u64,
    /// `sha256:` and hex of the ciphertext.
    pub payload_hash: String,
    /// Hex SHA-256 of manifest.json.
    pub manifest_sha256: String,
}

/// An envelope whose every length is known.
pub struct Plan<'a> {
    terms: Terms,
    signer: &'a Ed25519Key,
    ephemeral: X25519Key,
    recipient: [u8; 32],
    iv: [u8; 12],
    members: Vec<Planned<'a>>, // sorted by name; files.json follows them
    list: usize,               // length of files.json
    counts: (u64, u64),
    bytes: u64,
    payload: u64,
}

/// Name and content of a clear document.
pub type Document = (&'static str, Vec<u8>);

/// The clear documents in the order of the archive, and the CRC-32 of the payload behind them.
struct Finished {
    documents: [Document; 3],
    crc: u32,
    report: Packed,
}

impl<'a> Plan<'a> {
    /// Reads the headers and decides names and lengths. `E_DICOM` and `E_DICOM_IDENTITY` name the file that is broken or
    /// of another study or patient; `Misuse` for an order that makes no envelope.
    pub fn new(order: Order<'a>) -> Result<Self> {
        order.terms.check()?;
        let counts = (order.instances.len() as u64, order.files.len() as u64);
        if counts.0 + counts.1 == 0 {
            return Err(Error::misuse("nothing to pack"));
        }
        if counts.0 + counts.1 > limits::TAR_MEMBERS - 2 {
            return Err(Error::misuse("too many files for one envelope"));
        }
        let mut study = Study::default();
        let mut members = instances(order.instances, &mut study)?;
        for (name, given) in order.files {
            let size = given.source.open()?.size();
            members.push(Planned { name: format!("{OTHER}{name}"), size, content: Content::File(given) });
        }
        let terms = &order.terms;
        let metadata = study.metadata(&terms.id, &terms.timestamp, &order.patient_id, order.identifiers)?.write()?;
        // Headers may hold texts that no reader takes; better no envelope than one that nobody can open.
        Metadata::read(&metadata, &terms.id)?;
        members.push(Planned { name: METADATA.into(), size: metadata.len() as u64, content: Content::Bytes(metadata) });
        members.sort_by(|a, b| a.name.cmp(&b.name));
        distinct(&members)?;
        let bytes = members.iter().filter(|m| m.name != METADATA).map(|member| member.size).sum();

        let blank = |m: &Planned<'_>| Member { name: m.name.clone(), size: m.size, sha256: [0; 32] };
        let list = files::write(&members.iter().map(blank).collect::<Vec<_>>())?.len();
        let payload = tar::length(members.iter().map(|member| member.size).chain([list as u64]));
        if payload > limits::PAYLOAD_JMIX_1_0 {
            return Err(Error::misuse("more than 60 GiB: one AES-GCM message cannot carry this study"));
        }
        Ok(Self {
            terms: order.terms,
            signer: order.signer,
            ephemeral: order.ephemeral,
            recipient: order.recipient,
            iv: order.iv,
            members,
            list,
            counts,
            bytes,
            payload,
        })
    }

    /// Writes the ZIP form.
    pub fn zip(self, sink: &mut dyn WriteAt, progress: &mut Progress<'_>) -> Result<Packed> {
        let time = DosTime::from_timestamp(&self.terms.timestamp)
            .ok_or_else(|| Error::misuse("timestamp was checked when the plan was made"))?;
        let blank = self.documents(&self.blank())?;
        let sizes = blank.iter().map(|(name, data)| (*name, data.len() as u64));
        let layout = Layout::new(sizes.chain([(DEFAULT.payload, self.payload)]), time)?;
        let place = |index| layout.content(index).ok_or_else(|| Error::misuse("the layout has four entries"));

        let done = self.seal(sink, place(3)?, progress)?;
        let mut crcs = Vec::new();
        for (index, ((name, data), (_, reserved))) in done.documents.iter().zip(&blank).enumerate() {
            if data.len() != reserved.len() {
                return Err(Error::misuse(format!("{name} outgrew its place")));
            }
            sink.write_at(place(index)?, data)?;
            crcs.push(crc32fast::hash(data));
        }
        crcs.push(done.crc);
        layout.finish(&crcs, sink)?;
        Ok(Packed { length: layout.length(), ..done.report })
    }

    /// Writes the payload of the directory form to `payload` and gives the documents that stand beside it.
    pub fn directory(self, payload: &mut dyn WriteAt, progress: &mut Progress<'_>) -> Result<([Document; 3], Packed)> {
        let done = self.seal(payload, 0, progress)?;
        Ok((done.documents, done.report))
    }

    /// The one pass.
    fn seal(&self, sink: &mut dyn WriteAt, start: u64, progress: &mut Progress<'_>) -> Result<Finished> {
        let key = payload_key(&self.ephemeral.agree(&self.recipient)?, DEFAULT.kdf_info);
        let ((members, tag, crc), ciphertext) = Hashing::beside(|hashing| {
            let mut pass = Pass::new(hashing, Sealer::new(&key, &self.iv), sink, start, self.payload, progress)?;
            for member in &self.members {
                pass.member(member)?;
            }
            pass.flush()?;
            let mut members = Vec::new();
            for member in &self.members {
                members.push(member.hashed(hashing.file()?)?);
            }
            let list = files::write(&members)?;
            if list.len() != self.list {
                return Err(Error::misuse("files.json outgrew its place"));
            }
            let list = Planned { name: FILES.into(), size: list.len() as u64, content: Content::Bytes(list) };
            pass.member(&list)?;
            pass.bytes(&tar::END)?;
            pass.flush()?;
            members.push(list.hashed(hashing.file()?)?);
            let (tag, crc) = pass.finish();
            Ok((members, tag, crc))
        })?;
        let encryption = Encryption::new(&self.ephemeral.public(), &self.iv, &tag);
        let sealed = Sealed { ciphertext, list: files::list_hash(&members), encryption };
        let documents = self.documents(&sealed)?;
        let length = documents.iter().map(|(_, data)| data.len() as u64).sum::<u64>() + self.payload;
        let report = Packed {
            id: self.terms.id.clone(),
            instances: self.counts.0,
            files: self.counts.1,
            bytes: self.bytes,
            length,
            payload_hash: prefixed(&ciphertext),
            manifest_sha256: hex::encode(Sha256::digest(&documents[0].1)),
        };
        Ok(Finished { documents, crc, report })
    }

    /// Stands for what only the pass finds out; all of it has a fixed length.
    fn blank(&self) -> Sealed {
        let encryption = Encryption::new(&[0; 32], &[0; 12], &[0; 16]);
        Sealed { ciphertext: [0; 32], list: [0; 32], encryption }
    }

    /// manifest.json, manifest.jws and audit.json.
    fn documents(&self, sealed: &Sealed) -> Result<[Document; 3]> {
        let mut manifest = self.terms.manifest(&DEFAULT, sealed);
        manifest.sender.assertion = Some(self.assertion(&manifest)?);
        let bytes = manifest.write()?;
        let signature = self.signer.sign_jws(&bytes, TYP_MANIFEST).into_bytes();
        Ok([(MANIFEST, bytes), (SIGNATURE, signature), (AUDIT, audit::created(&manifest)?)])
    }

    /// The sender's assertion, for readers that know no `manifest.jws` (jmix-interop 2.6). It holds for a year.
    fn assertion(&self, manifest: &Manifest) -> Result<Assertion> {
        let root = serde_json::to_value(manifest).map_err(|_| Error::misuse("a manifest is a JSON object"))?;
        let public = self.signer.public();
        Ok(Assertion {
            signing_key: SigningKey {
                alg: "Ed25519".into(),
                public_key: base64::encode(&public),
                fingerprint: sign::fingerprint(&public),
            },
            key_reference: None,
            signed_fields: ASSERTED.map(str::to_owned).into(),
            signature: base64::encode(&self.signer.sign(&sign::asserted(&root, &ASSERTED)?.bytes)),
            expires_at: Some(documents::a_year_later(&self.terms.timestamp)?),
            directory_attestation: None,
        })
    }
}

/// Headers are read in batches by as many threads as there are cores, and folded in order.
const BATCH: usize = 512;

fn instances<'a>(given: Vec<Given<'a>>, study: &mut Study) -> Result<Vec<Planned<'a>>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut members = Vec::with_capacity(given.len());
    let mut sizes = Vec::with_capacity(given.len());
    for batch in given.chunks(BATCH) {
        let headers = std::thread::scope(|scope| {
            let share = batch.len().div_ceil(threads);
            let work = |share: &'_ [Given<'a>]| share.iter().map(header).collect::<Vec<_>>();
            let begin = |share| std::thread::Builder::new().spawn_scoped(scope, move || work(share));
            let running = batch.chunks(share).map(begin).collect::<std::io::Result<Vec<_>>>();
            let running = running.map_err(|error| Error::source("header thread", error.to_string()))?;
            Ok(running.into_iter().map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>())
        })?;
        for (given, header) in batch.iter().zip(headers.into_iter().flatten()) {
            let (header, size) = header?;
            study.add(&header, &given.part)?;
            let uid = header.text(Keyword::SOPInstanceUID).ok_or_else(|| {
                Error::refused(Code::Dicom, &given.part, "has no SOPInstanceUID; it can go along as a file")
            })?;
            sizes.push((format!("{DICOM}{uid}.dcm"), size));
        }
    }
    if sizes.len() != given.len() {
        return Err(Error::source("header thread", "stopped"));
    }
    for (given, (name, size)) in given.into_iter().zip(sizes) {
        members.push(Planned { name, size, content: Content::File(given) });
    }
    Ok(members)
}

fn header(given: &Given<'_>) -> Result<(dicom::Header, u64)> {
    let source = given.source.open()?;
    Ok((dicom::read(&*source, &given.part)?, source.size()))
}

/// Every member has a name of its own that fits into a tar header, also where case does not count.
fn distinct(members: &[Planned<'_>]) -> Result<()> {
    let mut names = std::collections::HashSet::new();
    for member in members {
        let part = match &member.content {
            Content::File(given) => given.part.as_str(),
            Content::Bytes(_) => METADATA,
        };
        tar::header(&member.name, member.size).map_err(|error| Error::misuse(format!("{part}: {error}")))?;
        if !names.insert(member.name.to_lowercase()) {
            let why = "another file of the envelope has the same SOPInstanceUID or name";
            return Err(Error::refused(Code::DicomIdentity, part, why));
        }
    }
    Ok(())
}
