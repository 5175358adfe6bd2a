//! This machine's files and threads, without Python: what [`mdg_core`] asks its caller for.
//!
//! Files are read at an offset ([`file`]; no memory map, so that a file cut short is an error and not a signal) and written
//! to a private place that gets its name last ([`publish`]). [`envelope`] packs, verifies and opens envelopes on disk,
//! [`index`] reads the facts of many DICOM files, [`stream`] makes the pieces of a download ahead of its reader,
//! [`key_file`] keeps private keys, and [`random`] takes the system's randomness. [`threads`] brings the threads.
#![forbid(unsafe_code)]

pub mod envelope;
pub mod file;
pub mod index;
pub mod key_file;
pub mod publish;
pub mod random;
pub mod stream;
pub mod threads;
