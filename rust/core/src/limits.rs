//! Every budget on untrusted input, each with its reason (spec/hostile-input 1, seg/1 14).
//!
//! A number here bounds memory or work that a sender can choose. It is checked before the memory is taken or the work is
//! done; beyond it the answer is `E_LIMIT`, or the code of the document that broke it. Sizes are bytes.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

// --- documents ---

/// `manifest.json`, `audit.json` and a JSON body: a hundred times what real ones need, small enough to hold whole.
pub const DOCUMENT: u64 = MIB;

/// A compact JWS: a document of [`DOCUMENT`] bytes grows by 4/3 in base64url, and its header and signature are small.
pub const JWS: u64 = MIB + MIB / 2;

/// `metadata.json` and `files.json` inside a payload. The longest honest list, of [`ZIP_ENTRIES`] files with names and
/// hashes, is below 25 MiB; the payload tar of seg/1 has this limit as a whole.
pub const INDEX_DOCUMENT: u64 = 64 * MIB;

/// Nesting of JSON containers; the outermost is 1. A recursive reader stays within a few KiB of stack.
pub const JSON_DEPTH: usize = 32;

/// One decoded JSON string in bytes of UTF-8. The longest honest one is a narrative.
pub const JSON_STRING: usize = 64 * KIB as usize;

/// Values in a document. A node costs up to a hundred bytes of memory however short it is written, so 1 MiB of `[0,0,…]`
/// must not become 50 MiB.
pub const JSON_NODES: u32 = 50_000;

/// Values in a document inside a payload: four for each of [`ZIP_ENTRIES`] files, and some room.
pub const INDEX_NODES: u32 = 500_000;

/// Paths that an assertion may sign. Each may name a value as large as the document, so their number multiplies the bytes
/// to be signed; the longest list in use has nine.
pub const SIGNED_FIELDS: usize = 64;

// --- archives and envelopes ---

/// Entries of one archive: the four small files and 100,000 segments or instances.
pub const ZIP_ENTRIES: u64 = 100_004;

/// Members of one payload tar; as many as a ZIP may have entries.
pub const TAR_MEMBERS: u64 = 100_004;

/// Folders that the names of one payload tar imply. A name of 255 bytes can imply 127 of them, and each costs memory here
/// and an inode where it is opened; honest trees have at most about one for each file.
pub const TAR_FOLDERS: u64 = TAR_MEMBERS;

/// Longest name of an archive entry or payload file: writers of JMIX 1.0 choose it, and common file systems end there.
pub const NAME: usize = 255;

/// The payload of a JMIX 1.0 envelope. GCM allows just under 64 GiB in one message.
pub const PAYLOAD_JMIX_1_0: u64 = 60 * GIB;

/// Above this a JMIX 1.0 payload is worth a warning: its published readers hold the whole of it in memory.
pub const PAYLOAD_JMIX_1_0_WARN: u64 = 2 * GIB;

// --- DICOM (PS3.5) ---

/// Nested sequences of a data set: real headers stay below 10, recursion in other readers breaks near 250.
pub const DICOM_DEPTH: usize = 64;

/// Items of one sequence: one for each frame of the largest image that is handled.
pub const DICOM_ITEMS: u32 = 100_000;

/// Elements of one header, those inside sequences included: a tenth of a second of work.
pub const DICOM_ELEMENTS: u32 = 1_000_000;

/// Bytes that a deflated data set may grow to; deflated syntaxes are for reports and signals, not for large images.
pub const DICOM_INFLATED: u64 = 512 << 20;
/// Times its size that it may grow once it is over `DICOM_INFLATED_FREE` bytes: text deflates 3 to 20 times, a bomb 1,000.
pub const DICOM_INFLATED_RATIO: u64 = 100;
/// Bytes up to which the ratio does not count, because small texts may be one letter.
pub const DICOM_INFLATED_FREE: u64 = 1 << 20;
/// Bytes of the values that are kept of one header; values that are passed over cost no memory.
pub const DICOM_HELD: usize = 16 << 20;

// --- releases ---

/// The stored form of a recipe: 32 bytes for each [`crate::digest::PIECE`] of a release of 32 GiB is 16 MiB.
pub const RECIPE: u64 = 64 * MIB;

/// The largest piece of a stream. Three are alive at most: one that is sent, one that was asked for, one ahead.
pub const STREAM_PIECE: u64 = 4 * MIB;
