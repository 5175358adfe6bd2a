//! The headers section of `mdg._core`: facts of DICOM files, and the digests of whole files.

use std::ffi::OsString;
use std::path::PathBuf;

use mdg_core::dicom::{self, Keyword};
use mdg_core::{Error, digest};
use mdg_local::index::{self, Outcome};
use pyo3::prelude::*;

use crate::error::raise;

/// Adds this section to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Header>()?;
    m.add_class::<Digest>()?;
    m.add_class::<Indexed>()?;
    m.add_function(wrap_pyfunction!(read_header, m)?)?;
    m.add_function(wrap_pyfunction!(digest_file, m)?)?;
    m.add_function(wrap_pyfunction!(index_files, m)?)
}

/// Facts of one DICOM file.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Header(dicom::Header);

macro_rules! header {
    ($($keyword:ident),+ $(,)?) => {
        #[pymethods]
        #[allow(non_snake_case, reason = "an attribute is named by its DICOM keyword")]
        impl Header {
            $(
                #[getter]
                fn $keyword(&self) -> Option<&str> {
                    self.0.text(Keyword::$keyword)
                }
            )+

            #[getter]
            fn TransferSyntaxUID(&self) -> &str {
                &self.0.transfer_syntax
            }

            #[getter]
            fn is_directory(&self) -> bool {
                self.0.media_class.as_deref() == Some(dicom::DIRECTORY)
            }

            #[getter]
            fn IssuerOfAccessionNumber(&self) -> Option<&str> {
                self.0.issuer_of_accession_number.as_deref()
            }

            #[getter]
            fn Rows(&self) -> Option<u16> {
                self.0.rows
            }

            #[getter]
            fn Columns(&self) -> Option<u16> {
                self.0.columns
            }

            #[getter]
            fn BitsAllocated(&self) -> Option<u16> {
                self.0.bits_allocated
            }

            #[getter]
            fn other_patient_ids(&self) -> Vec<(&str, Option<&str>, Option<&str>)> {
                let items = self.0.other_patient_ids.iter();
                items.map(|item| (item.id.as_str(), item.issuer.as_deref(), item.type_of.as_deref())).collect()
            }

            #[getter]
            fn ihis(&self) -> Vec<(&str, String)> {
                self.0.ihis.iter().map(|(ihi, form)| (ihi.as_str(), form.to_string())).collect()
            }

            #[getter]
            fn ihi_candidates(&self) -> u32 {
                self.0.ihi_candidates
            }

            #[getter]
            fn pixel_offset(&self) -> Option<u64> {
                self.0.pixels.map(|pixels| pixels.offset)
            }

            #[getter]
            fn pixel_length(&self) -> Option<u32> {
                self.0.pixels.and_then(|pixels| pixels.length)
            }

            #[getter]
            fn executable_preamble(&self) -> bool {
                self.0.executable_preamble
            }
        }
    };
}

header! {
    SpecificCharacterSet, SOPClassUID, SOPInstanceUID, StudyDate, StudyTime, AccessionNumber, Modality, InstitutionName,
    ReferringPhysicianName, TimezoneOffsetFromUTC, StudyDescription, SeriesDescription, PatientName, PatientID,
    IssuerOfPatientID, PatientBirthDate, PatientSex, BodyPartExamined, StudyInstanceUID, SeriesInstanceUID, SeriesNumber,
    InstanceNumber, Laterality, NumberOfFrames,
}

#[pyfunction]
fn read_header(py: Python<'_>, path: PathBuf) -> PyResult<Header> {
    py.detach(|| index::header(&path)).map(Header).map_err(raise)
}

/// One pass over the stored bytes.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Digest(digest::Digest);

#[pymethods]
impl Digest {
    #[getter]
    fn size(&self) -> u64 {
        self.0.check.size()
    }

    #[getter]
    fn sha256(&self) -> &[u8] {
        &self.0.sha256
    }

    #[getter]
    fn check(&self) -> &[u8] {
        self.0.check.as_bytes()
    }
}

#[pyfunction]
fn digest_file(py: Python<'_>, path: PathBuf) -> PyResult<Digest> {
    py.detach(|| index::digest(&path)).map(Digest).map_err(raise)
}

/// What indexing one file found.
#[pyclass(frozen, get_all, module = "mdg._core")]
pub(crate) struct Indexed {
    path: OsString,
    mtime_ns: i64,
    header: Option<Py<Header>>,
    digest: Option<Py<Digest>>,
    problem: Option<(&'static str, String)>,
}

impl Indexed {
    fn new(py: Python<'_>, path: PathBuf, outcome: Outcome) -> PyResult<Self> {
        let name = path.to_string_lossy();
        let (header, problem) = match outcome.header {
            _ if outcome.changed => {
                let why = format!("{name}: changed while it was read; it is read again when it is at rest");
                (None, Some(("E_CHANGED", why)))
            }
            Ok(header) => (Some(Py::new(py, Header(header))?), None),
            Err(error) => (None, Some(problem(&error))),
        };
        let digest = outcome.digest.map(|digest| Py::new(py, Digest(digest))).transpose()?;
        Ok(Self { mtime_ns: outcome.mtime_ns, header, digest, problem, path: path.into_os_string() })
    }
}

/// The code of a problem, and what to do about it.
fn problem(error: &Error) -> (&'static str, String) {
    match error {
        Error::Refused { code, .. } => {
            (code.as_str(), format!("{error}; send the file again from where it came, or take it out of the folder"))
        }
        Error::Unsupported { .. } => ("E_UNSUPPORTED", error.to_string()),
        Error::Source { .. } | Error::Misuse { .. } => {
            ("E_SOURCE", format!("{error}; check the file and its permissions"))
        }
    }
}

#[pyfunction]
#[pyo3(signature = (paths, threads = 0))]
fn index_files(py: Python<'_>, paths: Vec<PathBuf>, threads: usize) -> PyResult<Vec<Indexed>> {
    let outcomes = py.detach(|| index::index(&paths, threads));
    paths.into_iter().zip(outcomes).map(|(path, outcome)| Indexed::new(py, path, outcome)).collect()
}
