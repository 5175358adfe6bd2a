//! DICOM headers (PS3.5, PS3.10): read up to the pixel data, never into it.
//!
//! [`read`] gives the facts that discovery and release need, as one [`Header`]; [`tags`] names them, [`reader`] walks
//! the elements under the budgets of [`crate::limits`], [`meta`] finds where a data set begins and how it is encoded,
//! [`charset`] turns bytes into text, [`identity`] finds the patient's identifiers, [`frames`] says where pixels lie.
//!
//! Explicit and implicit little endian are read here. Big endian and deflated data sets are [`crate::Error::Unsupported`]:
//! the service reads those with pydicom, which gives the same facts.

pub mod charset;
pub mod frames;
pub mod identity;
pub mod meta;
pub mod reader;
pub mod summary;
pub mod tags;

pub use frames::PixelData;
pub use identity::{Ihi, OtherPatientId};
pub use summary::{Header, read, read_data_set};
pub use tags::{Keyword, Tag};

#[cfg(test)]
mod tests;
