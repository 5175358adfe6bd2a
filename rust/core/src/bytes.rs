//! Bytes at an offset: what the formats are read from and written to. A byte string is one of them, so that every test is
//! a byte string; files are the caller's.

use crate::error::{Error, Result};

/// Something whose bytes can be read at an offset, such as a file or a byte string.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Fills `into` from `offset`; anything short is an [`Error::Source`].
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()>;
}

/// Something that can be written at an offset, such as a new file or a byte vector.
pub trait WriteAt: Send {
    /// Writes all of `bytes` at `offset`; gaps read as zeros.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..into.len()))
            .ok_or_else(|| Error::source("byte string", format!("ends before byte {offset} + {}", into.len())))?;
        into.copy_from_slice(found);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.as_slice().read_at(offset, into)
    }
}

impl WriteAt for Vec<u8> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let start = usize::try_from(offset).map_err(|_| Error::source("byte string", "offset past memory"))?;
        let end = start.checked_add(bytes.len()).ok_or_else(|| Error::source("byte string", "offset past memory"))?;
        if self.len() < end {
            self.resize(end, 0);
        }
        self[start..end].copy_from_slice(bytes);
        Ok(())
    }
}
