//! DICOM headers.
