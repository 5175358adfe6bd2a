//! DICOM headers (PS3.5, PS3.10): read up to the pixel data, never into it.
//!
//! [`read`] gives the facts that discovery and release need, as one [`Header`]; [`tags`] names them, [`reader`] walks
//! the elements under the budgets of [`crate::limits`], [`meta`] finds where a data set begins and how it is encoded,
//! [`deflate`] inflates one that is deflated, [`charset`] turns bytes into text, [`identity`] finds the patient's identifiers,
//! [`frames`] says where pixels lie.

pub mod charset;
pub mod deflate;
pub mod frames;
pub mod identity;
pub mod meta;
pub mod reader;
pub mod summary;
pub mod tags;

pub use frames::PixelData;
pub use identity::{Ihi, OtherPatientId};
pub use summary::{DIRECTORY, Header, read};
pub use tags::{Keyword, Tag};

#[cfg(test)]
mod tests;
