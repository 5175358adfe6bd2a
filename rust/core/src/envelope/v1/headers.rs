//! Study and patient of the instances in a payload, from their headers as they stream by (seg/1 13.1 step 13).
//!
//! The beginning of each file is held until its header can be read: 32 KiB as a rule, more only where a header asks for
//! it. A file whose header is longer than [`LARGEST`] is passed over with a count.

use crate::dicom::{self, Keyword};
use crate::envelope::metadata::{Metadata, is_identified};
use crate::error::{Code, Error, Result};
use crate::{ReadAt, limits};

/// Enough for the headers of nearly all instances.
const FIRST: usize = 32 << 10;
/// No header needs more than one value of the largest size.
const LARGEST: usize = limits::DICOM_HELD;

/// What the headers said so far.
#[derive(Default)]
pub(super) struct Headers {
    beginning: Beginning,
    name: String,
    reading: bool,
    target: usize,
    study: Option<String>,
    patients: Vec<String>,
    /// (SOPInstanceUID, name in the payload) of each instance.
    pub(super) instances: Vec<(String, String)>,
    fault: Option<Error>,
    /// Instances whose header was not read.
    pub(super) unread: u64,
}

/// The beginning of a file.
#[derive(Default)]
struct Beginning {
    bytes: Vec<u8>,
    size: u64,
}

impl ReadAt for Beginning {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.bytes.read_at(offset, into)
    }
}

impl Headers {
    /// An instance of `size` bytes begins.
    pub(super) fn begin(&mut self, name: &str, size: u64) {
        self.beginning.bytes.clear();
        self.beginning.size = size;
        name.clone_into(&mut self.name);
        self.reading = self.fault.is_none();
        self.target = FIRST;
    }

    /// More of it.
    pub(super) fn add(&mut self, mut data: &[u8]) {
        while self.reading && !data.is_empty() {
            let take = data.len().min(self.target - self.beginning.bytes.len());
            self.beginning.bytes.extend_from_slice(&data[..take]);
            data = &data[take..];
            if self.beginning.bytes.len() == self.target {
                self.read();
            }
        }
    }

    /// It is complete.
    pub(super) fn end(&mut self) {
        if self.reading {
            self.read();
        }
        self.reading = false;
    }

    fn read(&mut self) {
        let whole = self.beginning.bytes.len() as u64 == self.beginning.size;
        let refused = |why: &str| Error::refused(Code::DicomIdentity, &self.name, why);
        match dicom::read(&self.beginning, &self.name) {
            Ok(header) => {
                self.reading = false;
                let study = header.text(Keyword::StudyInstanceUID);
                if study.is_none() {
                    self.fault = Some(refused("has no StudyInstanceUID"));
                } else if *self.study.get_or_insert_with(|| study.unwrap_or_default().to_owned())
                    != study.unwrap_or_default()
                {
                    self.fault = Some(refused("belongs to another study than the instances before it"));
                }
                match header.text(Keyword::SOPInstanceUID) {
                    Some(uid) => self.instances.push((uid.to_owned(), self.name.clone())),
                    None => self.fault = Some(refused("has no SOPInstanceUID")),
                }
                let patient = header.text(Keyword::PatientID).unwrap_or_default();
                if !patient.is_empty() && self.patients.iter().all(|known| known != patient) {
                    self.patients.push(patient.to_owned());
                    if self.patients.len() > 1 {
                        self.fault = Some(refused("belongs to another patient than the instances before it"));
                    }
                }
            }
            Err(Error::Source { .. }) if !whole && self.target < LARGEST => {
                self.target = (self.target * 8).min(LARGEST);
            }
            Err(Error::Source { .. }) => {
                self.reading = false;
                self.unread += 1;
            }
            Err(_) => {
                self.reading = false;
                self.fault = Some(refused("its header is damaged, so study and patient cannot be found"));
            }
        }
    }

    /// `E_DICOM_IDENTITY` unless study and patient are those of metadata.json, where both say so.
    pub(super) fn check(&mut self, metadata: &Metadata) -> Result<()> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let refused = |why| Err(Error::refused(Code::DicomIdentity, "dicom/", why));
        let described = metadata.studies.as_ref().and_then(|studies| studies.study_uid.as_ref());
        match (described, &self.study) {
            (Some(described), Some(found)) if described != found => {
                return refused("the instances belong to another study than metadata.json describes");
            }
            _ => {}
        }
        if !self.patients.iter().all(|id| is_identified(&metadata.patient.identifiers, Some(id))) {
            return refused("the instances belong to another patient than metadata.json identifies");
        }
        Ok(())
    }
}
