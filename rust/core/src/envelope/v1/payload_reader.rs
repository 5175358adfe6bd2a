//! Reads a payload while it is decrypted: tar members to their places, and afterwards the checks of what was in them.
//!
//! The bytes are unproven until the tag was checked, so a fault in them is kept and only counts if the tag holds: a
//! changed ciphertext is always a wrong hash or tag, never a wrong tar.

use std::collections::HashMap;

use super::hashing::{Hashing, Mark};
use super::headers::Headers;
use crate::archive::tar::{Event, Reader};
use crate::digest::prefixed;
use crate::envelope::files::{self, Member};
use crate::envelope::manifest::Manifest;
use crate::envelope::metadata::Metadata;
use crate::envelope::names::{DICOM, FILES, METADATA, OTHER, PREVIEW};
use crate::envelope::report::Report;
use crate::error::{Code, Error, Result};
use crate::limits;

/// Takes the files of a payload in order, unproven. Names are plain relative paths, unique ignoring case.
pub trait Files {
    /// A file of `size` bytes begins.
    fn create(&mut self, name: &str, size: u64) -> Result<()>;
    /// More of it.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// It is complete.
    fn close(&mut self) -> Result<()>;
}

/// Keeps nothing: for verifying.
pub struct Nowhere;

impl Files for Nowhere {
    fn create(&mut self, _: &str, _: u64) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The payload so far.
pub(super) struct PayloadReader<'a> {
    tar: Reader,
    inside: Inside<'a>,
    fault: Option<Error>,
    hashed: Vec<Member>,
}

/// Where members go.
struct Inside<'a> {
    files: &'a mut dyn Files,
    members: Vec<(String, u64)>,
    headers: Headers,
    metadata: Option<Vec<u8>>,
    list: Option<Vec<u8>>,
    kind: Kind,
}

/// What the current member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dicom,
    Other,
    Metadata,
    List,
}

impl<'a> PayloadReader<'a> {
    /// For a tar of `size` bytes whose files go to `files`.
    pub(super) fn new(size: u64, files: &'a mut dyn Files) -> Self {
        let inside = Inside {
            files,
            members: Vec::new(),
            headers: Headers::default(),
            metadata: None,
            list: None,
            kind: Kind::Other,
        };
        Self { tar: Reader::new(size), inside, fault: None, hashed: Vec::new() }
    }

    /// The next bytes of the tar; `marks` learns which of them are files. Fails only when the files cannot be written.
    pub(super) fn take(&mut self, plain: &[u8], marks: &mut Vec<Mark>) -> Result<()> {
        if self.fault.is_some() {
            return Ok(());
        }
        let inside = &mut self.inside;
        match self.tar.feed(plain, |event| inside.event(event, plain, marks)) {
            Err(fault @ Error::Refused { .. }) => self.fault = Some(fault),
            other => other?,
        }
        Ok(())
    }

    /// All bytes were taken and handed over: collects the digests of the files.
    pub(super) fn hashed(mut self, hashing: &mut dyn Hashing) -> Result<Self> {
        if self.fault.is_none() {
            self.fault = self.tar.finish().err();
            self.tar = Reader::new(0);
        }
        if self.fault.is_none() {
            for (name, size) in std::mem::take(&mut self.inside.members) {
                self.hashed.push(Member { name, size, sha256: hashing.file()? });
            }
        }
        Ok(self)
    }

    /// The checks behind the tag, in order: tar, files.json, metadata.json, study and patient.
    pub(super) fn check(mut self, manifest: &Manifest, report: &mut Report) -> Result<()> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let missing = |name: &str| Error::refused(Code::IndexFiles, name, "missing in the payload");
        let metadata = self.inside.metadata.ok_or_else(|| missing(METADATA))?;
        let metadata = Metadata::read(&metadata, &manifest.id)?;
        files::check(&self.inside.list.ok_or_else(|| missing(FILES))?, &self.hashed)?;
        let list = prefixed(&files::list_hash(&self.hashed));
        if manifest.ief("payload_list_hash").is_some_and(|signed| signed != list) {
            return Err(Error::refused(Code::FileDigest, FILES, "the payload is not the signed payload_list_hash"));
        }
        self.inside.headers.check(&metadata)?;
        if self.inside.headers.unread > 0 {
            let count = self.inside.headers.unread;
            report
                .warnings
                .push(format!("study and patient of {count} instances not checked: their headers are too long"));
        }
        report.warnings.extend(named(&self.inside.headers.instances, &self.hashed)?);
        let instances = self.hashed.iter().filter(|member| member.name.starts_with(DICOM));
        let others = self.hashed.iter().filter(|member| is_content(&member.name) && !member.name.starts_with(DICOM));
        report.study_uid = metadata.studies.and_then(|studies| studies.study_uid);
        report.instances = Some(instances.count() as u64);
        report.files = Some(others.count() as u64);
        report.bytes = Some(self.hashed.iter().filter(|m| is_content(&m.name)).map(|member| member.size).sum());
        report.opened = true;
        Ok(())
    }
}

/// One SOPInstanceUID names one object. Two files that carry it with different content are `E_DICOM_IDENTITY`, because each
/// reader would choose another one; a copy, and a file that is not named by its UID as we name it, are worth a warning:
/// other writers of JMIX 1.0 keep the names and trees that they were given.
fn named(instances: &[(String, String)], hashed: &[Member]) -> Result<Vec<String>> {
    let digests: HashMap<_, _> = hashed.iter().map(|member| (member.name.as_str(), member.sha256)).collect();
    let mut first: HashMap<&str, &str> = HashMap::new();
    let (mut copies, mut others) = (0_u64, 0_u64);
    for (uid, name) in instances {
        others += u64::from(*name != format!("{DICOM}{uid}.dcm"));
        let Some(known) = first.insert(uid, name) else { continue };
        copies += 1;
        if digests.get(known) != digests.get(name.as_str()) {
            let why = format!("carries the SOPInstanceUID of {known} and another content");
            return Err(Error::refused(Code::DicomIdentity, name, why));
        }
    }
    let said = |count: u64, what: &str| (count > 0).then(|| format!("{what}: {count}"));
    let copies = said(copies, "copies of an instance that is there already");
    Ok(copies.into_iter().chain(said(others, "instances that are not named by their SOPInstanceUID")).collect())
}

fn is_content(name: &str) -> bool {
    [DICOM, OTHER, PREVIEW].iter().any(|folder| name.starts_with(folder))
}

impl Inside<'_> {
    fn event(&mut self, event: Event, plain: &[u8], marks: &mut Vec<Mark>) -> Result<()> {
        match event {
            Event::Start { name, size } => self.start(name, size),
            Event::Data(range) => {
                let data = &plain[range.clone()];
                match self.kind {
                    Kind::Dicom => self.headers.add(data),
                    Kind::Metadata => self.metadata.get_or_insert_default().extend_from_slice(data),
                    Kind::List => self.list.get_or_insert_default().extend_from_slice(data),
                    Kind::Other => {}
                }
                marks.push(Mark::Data(range));
                self.files.write(data)
            }
            Event::End => {
                if self.kind == Kind::Dicom {
                    self.headers.end();
                }
                marks.push(Mark::End);
                self.files.close()
            }
        }
    }

    fn start(&mut self, name: String, size: u64) -> Result<()> {
        self.kind = match name.as_str() {
            METADATA => Kind::Metadata,
            FILES => Kind::List,
            "segments.json" => {
                return Err(Error::refused(
                    Code::Downgrade,
                    "segments.json",
                    "a segmented envelope stripped of its profile",
                ));
            }
            other if other.starts_with(DICOM) => Kind::Dicom,
            other if is_content(other) => Kind::Other,
            _ => return Err(Error::refused(Code::TarName, "payload tar", "a member that has no place in a payload")),
        };
        match self.kind {
            Kind::Dicom => self.headers.begin(&name, size),
            Kind::Metadata | Kind::List if size > limits::INDEX_DOCUMENT => {
                return Err(Error::refused(Code::Limit, name, "longer than 64 MiB"));
            }
            Kind::Metadata => self.metadata = Some(Vec::new()),
            Kind::List => self.list = Some(Vec::new()),
            Kind::Other => {}
        }
        self.files.create(&name, size)?;
        self.members.push((name, size));
        Ok(())
    }
}
