//! The headers section of `mdg._core`: facts of DICOM files, and the digests of whole files.

use std::path::PathBuf;

use mdg_core::dicom::{self, Keyword};
use pyo3::prelude::*;

use crate::error::raise;
use crate::file::OpenFile;

/// Adds this section to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Header>()?;
    m.add_function(wrap_pyfunction!(read_header, m)?)
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
    let read = || {
        let file = OpenFile::open(&path)?;
        dicom::read(&file, file.part())
    };
    py.detach(read).map(Header).map_err(raise)
}
