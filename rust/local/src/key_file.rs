//! Private keys in files of 32 raw bytes that only their owner may read.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use mdg_core::seal::keys::Secret;
use mdg_core::{Error, Result, WriteAt};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::file::{NewFile, failed, sync_folder};

/// Reads a key. [`Error::Source`] for a file that others may use, or that is no regular file; `Misuse` for another length.
pub fn read(path: &Path) -> Result<Secret> {
    // NONBLOCK: opening a pipe would wait for its writer; a regular file ignores the flag.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let mut file = opened.map_err(|error| failed(path, &error))?;
    let facts = file.metadata().map_err(|error| failed(path, &error))?;
    let part = path.display().to_string();
    if !facts.is_file() {
        return Err(Error::source(part, "is not a regular file"));
    }
    let mode = facts.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let why = format!("others than its owner may use this private key (mode {mode:04o}): chmod 600 it");
        return Err(Error::source(part, why));
    }
    if facts.len() != 32 {
        return Err(Error::misuse(format!("{part}: a raw private key has 32 bytes, this file {}", facts.len())));
    }
    let mut bytes = Zeroizing::new([0; 32]);
    file.read_exact(bytes.as_mut_slice()).map_err(|error| failed(path, &error))?;
    Ok(bytes)
}

/// Writes a key to a new file, mode 0600, durable. After an error no file is left.
pub fn write(path: &Path, secret: &[u8; 32]) -> Result<()> {
    let mut file = NewFile::create(path)?;
    let written = file.write_at(0, secret).and_then(|()| file.sync()).and_then(|()| sync_folder(path));
    if written.is_err() {
        // The first error is the one to tell; a half-written key must not stay.
        let _ = fs::remove_file(path);
    }
    written
}
