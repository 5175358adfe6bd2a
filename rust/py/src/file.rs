//! A file that the core can read at an offset: positioned reads, no memory map, so that a file cut short under us is an error
//! and not a signal.

use std::ffi::c_int;
use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use mdg_core::{Error, ReadAt, Result};

/// A regular file, opened for reading, as long as it was then.
pub(crate) struct OpenFile {
    file: File,
    part: String,
    stamp: Stamp,
}

/// What tells that a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Bytes.
    pub(crate) size: u64,
    /// Last modification, nanoseconds of UTC since 1970.
    pub(crate) mtime_ns: i64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let mtime_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { size: metadata.size(), mtime_ns }
    }
}

impl OpenFile {
    /// Opens `path`. [`Error::Source`] when it cannot be opened or is no regular file; a named pipe does not block.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let part = path.to_string_lossy().into_owned();
        // The kernel's constants fit: flags are the low bits of an int.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as c_int;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = opened.map_err(|error| Error::source(&part, error.to_string()))?;
        let metadata = file.metadata().map_err(|error| Error::source(&part, error.to_string()))?;
        if !metadata.is_file() {
            return Err(Error::source(part, "is not a regular file"));
        }
        Ok(Self { file, part, stamp: Stamp::of(&metadata) })
    }

    /// Its name in errors.
    pub(crate) fn part(&self) -> &str {
        &self.part
    }

    /// As it was when it was opened.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether it is still as it was when it was opened.
    pub(crate) fn unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| Stamp::of(&now) == self.stamp)
    }
}

impl ReadAt for OpenFile {
    fn size(&self) -> u64 {
        self.stamp.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(into, offset).map_err(|error| Error::source(&self.part, error.to_string()))
    }
}
