//! Packing: headers are read, every length is known, then one pass reads, seals, hashes and writes.
//!
//! [`Plan::new`] decides what the envelope holds and refuses what does not belong together; [`Plan::zip`] and
//! [`Plan::directory`] consume it, so that one ephemeral key and IV never seal twice. The bytes that exist only at the end
//! (tag, hash, signature) go into places whose lengths were known before. Sources, time, randomness and the sink come
//! from the caller. spec/jmix-1.0 10.

use std::sync::OnceLock;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::dialects::DEFAULT;
use super::hashing::Hashing;
use super::manifest::{self, Sealed};
use super::payload_writer::{Content, Given, PayloadWriter, Planned};
use crate::archive::tar;
use crate::archive::zip::{DosTime, Layout};
use crate::dicom::{self, Keyword};
use crate::digest::prefixed;
use crate::envelope::audit;
use crate::envelope::files::{self, Member};
use crate::envelope::manifest::{Encryption, Terms};
use crate::envelope::metadata::{Identifier, Metadata, Study};
use crate::envelope::names::{AUDIT, DICOM, FILES, MANIFEST, METADATA, OTHER, SIGNATURE};
use crate::envelope::{Progress, Workers};
use crate::error::{Code, Error, Result};
use crate::seal::gcm::Sealer;
use crate::seal::keys::{X25519Key, payload_key};
use crate::sign::{Ed25519Key, TYP_MANIFEST};
use crate::{WriteAt, limits};

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
    /// of another study or patient; `Misuse` for an order that makes no envelope. `workers` read the headers.
    pub fn new(order: Order<'a>, workers: &dyn Workers) -> Result<Self> {
        order.terms.check()?;
        let counts = (order.instances.len() as u64, order.files.len() as u64);
        if counts.0 + counts.1 == 0 {
            return Err(Error::misuse("nothing to pack"));
        }
        if counts.0 + counts.1 > limits::TAR_MEMBERS - 2 {
            return Err(Error::misuse("too many files for one envelope"));
        }
        let mut study = Study::default();
        let mut members = instances(order.instances, &mut study, workers)?;
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

    /// Writes the ZIP form: (manifest.json as it stands in it, report).
    pub fn zip(
        self,
        sink: &mut dyn WriteAt,
        hashing: &mut dyn Hashing,
        progress: &mut Progress<'_>,
    ) -> Result<(Vec<u8>, Packed)> {
        let time = DosTime::from_timestamp(&self.terms.timestamp)
            .ok_or_else(|| Error::misuse("timestamp was checked when the plan was made"))?;
        let blank = self.documents(&self.blank())?;
        let sizes = blank.iter().map(|(name, data)| (*name, data.len() as u64));
        let layout = Layout::new(sizes.chain([(DEFAULT.payload, self.payload)]), time)?;
        let place = |index| layout.content(index).ok_or_else(|| Error::misuse("the layout has four entries"));

        let done = self.seal(sink, place(3)?, hashing, progress)?;
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
        let [(_, manifest), ..] = done.documents;
        Ok((manifest, Packed { length: layout.length(), ..done.report }))
    }

    /// Writes the payload of the directory form to `payload` and gives the documents that stand beside it.
    pub fn directory(
        self,
        payload: &mut dyn WriteAt,
        hashing: &mut dyn Hashing,
        progress: &mut Progress<'_>,
    ) -> Result<([Document; 3], Packed)> {
        let done = self.seal(payload, 0, hashing, progress)?;
        Ok((done.documents, done.report))
    }

    /// The one pass.
    fn seal(
        &self,
        sink: &mut dyn WriteAt,
        start: u64,
        hashing: &mut dyn Hashing,
        progress: &mut Progress<'_>,
    ) -> Result<Finished> {
        let key = payload_key(&self.ephemeral.agree(&self.recipient)?, DEFAULT.kdf_info);
        let sealer = Sealer::new(&key, &self.iv);
        let mut writer = PayloadWriter::new(hashing, sealer, sink, start, self.payload, progress)?;
        for member in &self.members {
            writer.member(member)?;
        }
        writer.flush()?;
        let mut members = Vec::new();
        for member in &self.members {
            members.push(writer.hashed(member)?);
        }
        let list = files::write(&members)?;
        if list.len() != self.list {
            return Err(Error::misuse("files.json outgrew its place"));
        }
        let list = Planned { name: FILES.into(), size: list.len() as u64, content: Content::Bytes(list) };
        writer.member(&list)?;
        writer.bytes(&tar::END)?;
        writer.flush()?;
        members.push(writer.hashed(&list)?);
        let (tag, crc, ciphertext) = writer.finish()?;
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
        let manifest = manifest::write(&self.terms, sealed, self.signer)?;
        let bytes = manifest.write()?;
        let signature = self.signer.sign_jws(&bytes, TYP_MANIFEST).into_bytes();
        Ok([(MANIFEST, bytes), (SIGNATURE, signature), (AUDIT, audit::created(&manifest)?)])
    }
}

/// Headers are read in batches, so that those of a large study are not held all at once, and folded in order.
const BATCH: usize = 512;

fn instances<'a>(given: Vec<Given<'a>>, study: &mut Study, workers: &dyn Workers) -> Result<Vec<Planned<'a>>> {
    let mut sizes = Vec::with_capacity(given.len());
    for batch in given.chunks(BATCH) {
        let headers: Vec<OnceLock<_>> = batch.iter().map(|_| OnceLock::new()).collect();
        workers.each(batch.len(), &|index| {
            headers[index].get_or_init(|| header(&batch[index]));
        });
        for (given, header) in batch.iter().zip(headers) {
            let (header, size) = header.into_inner().ok_or_else(|| Error::source("header thread", "stopped"))??;
            study.add(&header, &given.part)?;
            let uid = header.text(Keyword::SOPInstanceUID).ok_or_else(|| {
                Error::refused(Code::Dicom, &given.part, "has no SOPInstanceUID; it can go along as a file")
            })?;
            sizes.push((format!("{DICOM}{uid}.dcm"), size));
        }
    }
    let planned = |(given, (name, size))| Planned { name, size, content: Content::File(given) };
    Ok(given.into_iter().zip(sizes).map(planned).collect())
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
