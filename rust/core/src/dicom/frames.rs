//! Where the pixel data lies. It is never read here: what is inside is passed on as it is stored.

use super::tags::Tag;

/// The value field of PixelData, FloatPixelData or DoubleFloatPixelData at the top level of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelData {
    /// Which of the three.
    pub tag: Tag,
    /// The byte of the file where the value begins; for encapsulated data that is the item of the offset table.
    pub offset: u64,
    /// Length of the value in bytes; `None` when it is undefined, which means encapsulated (PS3.5 A.4).
    pub length: Option<u32>,
}

impl PixelData {
    /// Whether the value is a sequence of fragments.
    #[must_use]
    pub const fn encapsulated(&self) -> bool {
        self.length.is_none()
    }
}
