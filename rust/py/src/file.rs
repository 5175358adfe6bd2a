//! Files for the core, read and written at an offset: no memory map, so that a file cut short under us is an error and not
//! a signal. What is written here is new and private: `O_EXCL`, mode 0600, no symbolic link followed.

use std::ffi::c_int;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mdg_core::{Error, ReadAt, Result, WriteAt};

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
        self.file.read_exact_at(into, offset).map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    format!("has become shorter: byte {offset} + {} is not there", into.len())
                }
                _ => error.to_string(),
            };
            Error::source(&self.part, why)
        })
    }
}

/// A file that did not exist, written at offsets. Dropped without [`NewFile::sync`] it stays as it is: who made it
/// removes it after an error.
pub(crate) struct NewFile {
    file: File,
    path: PathBuf,
}

impl NewFile {
    /// Creates it, mode 0600; an existing path is an error.
    pub(crate) fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// Makes its bytes durable. Its name becomes so when the caller syncs the folder ([`sync_folder`]).
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| failed(&self.path, &error))
    }
}

impl WriteAt for NewFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| failed(&self.path, &error))
    }
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the names in the folder that holds `path` durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, &error))
}

/// A failure of the system on `path`.
fn failed(path: &Path, error: &io::Error) -> Error {
    Error::source(path.display().to_string(), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use mdg_core::{ReadAt as _, WriteAt as _};

    use super::{NewFile, OpenFile, sync_folder};

    #[test]
    fn a_new_file_is_private_and_reads_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new");
        let mut file = NewFile::create(&path).expect("free");
        file.write_at(3, b"def").expect("room");
        file.write_at(0, b"abc").expect("room");
        file.sync().expect("durable");
        sync_folder(&path).expect("durable");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let source = OpenFile::open(&path).expect("there");
        let mut read = [0; 4];
        source.read_at(2, &mut read).expect("inside");
        assert_eq!((&read, source.size()), (b"cdef", 6));
        let error = NewFile::create(&path).err().expect("taken").to_string();
        assert!(error.contains("new"), "{error}");
    }

    #[test]
    fn a_cut_file_a_folder_and_a_pipe_are_errors_that_name_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cut");
        std::fs::write(&path, [0; 100]).expect("room");
        let source = OpenFile::open(&path).expect("there");
        std::fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(50)).expect("cut");
        let error = source.read_at(40, &mut [0; 20]).expect_err("cut").to_string();
        assert!(error.contains("cut: has become shorter"), "{error}");
        assert!(OpenFile::open(folder.path()).is_err());
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        assert!(OpenFile::open(&pipe).is_err());
    }
}
