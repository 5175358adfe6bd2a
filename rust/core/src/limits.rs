//! Every budget on untrusted input, each with its reason (security-tests 2, seg/1 14).

/// Longest name of an archive entry or payload file in bytes, for readers of JMIX 1.0 (security-tests 2).
pub const NAME: usize = 255;

/// Entries of one ZIP archive (security-tests 2): the four of seg/1 and 100,000 segments.
pub const ZIP_ENTRIES: u64 = 100_004;

/// Members of one payload tar; as many as a ZIP may have segments (seg/1 14).
pub const TAR_MEMBERS: u64 = 100_004;
