//! Every budget on untrusted input, each with its reason (security-tests 2, seg/1 14).

/// Longest name of an archive entry or payload file in bytes, for readers of JMIX 1.0 (security-tests 2).
pub const NAME: usize = 255;

/// Entries of one ZIP archive (security-tests 2): the four of seg/1 and 100,000 segments.
pub const ZIP_ENTRIES: u64 = 100_004;

/// Members of one payload tar; as many as a ZIP may have segments (seg/1 14).
pub const TAR_MEMBERS: u64 = 100_004;

/// Nested sequences of a data set: real headers stay below 10, recursion in other readers breaks near 250.
pub const DICOM_DEPTH: usize = 64;
/// Items of one sequence: one for each frame of the largest image that is handled.
pub const DICOM_ITEMS: u32 = 100_000;
/// Elements of one header, those inside sequences included: a tenth of a second of work.
pub const DICOM_ELEMENTS: u32 = 1_000_000;
/// Bytes of the values that are kept of one header; values that are passed over cost no memory.
pub const DICOM_HELD: usize = 16 << 20;
