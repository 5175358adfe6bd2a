//! Files for the core, read and written at an offset: no memory map, so that a file cut short under us is an error and not
//! a signal. What is written here is new and private: `O_EXCL`, mode 0600, no symbolic link followed.

use std::ffi::c_int;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use mdg_core::digest::{CheckTable, ScatteredChecker};
use mdg_core::{Error, ReadAt, Result, WriteAt};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// A regular file, opened for reading, as long as it was then.
pub struct OpenFile {
    file: File,
    part: String,
    stamp: Stamp,
}

/// What tells that a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Last modification, nanoseconds of UTC since 1970.
    pub mtime_ns: i64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let mtime_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { size: metadata.size(), mtime_ns }
    }
}

impl OpenFile {
    /// Opens `path`. [`Error::Source`] when it cannot be opened or is no regular file; a named pipe does not block.
    pub fn open(path: &Path) -> Result<Self> {
        // The kernel's constants fit: flags are the low bits of an int.
        let flags = OFlags::NONBLOCK.bits() as c_int;
        Self::opened(path, OpenOptions::new().read(true).custom_flags(flags).open(path))
    }

    /// The same for a path of which no component may be a link, as a listing that follows none has found it: a link that
    /// was put there since leads nowhere.
    pub fn open_without_links(path: &Path) -> Result<Self> {
        Self::opened(path, without_links(path).map_err(Into::into))
    }

    fn opened(path: &Path, opened: io::Result<File>) -> Result<Self> {
        let part = path.to_string_lossy().into_owned();
        let file = opened.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => Error::source(&part, "is a link or lies behind one, and links are not followed"),
            _ => Error::source(&part, error.to_string()),
        })?;
        let metadata = file.metadata().map_err(|error| Error::source(&part, error.to_string()))?;
        if !metadata.is_file() {
            return Err(Error::source(part, "is not a regular file"));
        }
        Ok(Self { file, part, stamp: Stamp::of(&metadata) })
    }

    /// Its name in errors.
    pub fn part(&self) -> &str {
        &self.part
    }

    /// As it was when it was opened.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether it is still as it was when it was opened.
    pub fn unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| Stamp::of(&now) == self.stamp)
    }
}

/// How a file is opened for reading.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens `path` in one call where the kernel can refuse links on the whole way (openat2(2), Linux 5.6). An older kernel does
/// not know the call, and a container may forbid it.
#[cfg(target_os = "linux")]
fn without_links(path: &Path) -> rustix::io::Result<File> {
    use rustix::fs::{ResolveFlags, openat2};

    match openat2(CWD, path, READ, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(path),
        opened => opened.map(File::from),
    }
}

#[cfg(not(target_os = "linux"))]
fn without_links(path: &Path) -> rustix::io::Result<File> {
    step_by_step(path)
}

/// Opens each folder on the way from the one above it, and so never through a link.
fn step_by_step(path: &Path) -> rustix::io::Result<File> {
    const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let mut folder = openat(CWD, if path.is_absolute() { "/" } else { "." }, FOLDER, Mode::empty())?;
    for component in path.parent().into_iter().flat_map(Path::components) {
        match component {
            Component::RootDir | Component::CurDir => {}
            // A link that should be a folder is told as "not a directory".
            Component::Normal(name) => folder = openat(&folder, name, FOLDER, Mode::empty())?,
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL),
        }
    }
    openat(&folder, name, READ.union(OFlags::NOFOLLOW), Mode::empty()).map(File::from)
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
pub struct NewFile {
    file: File,
    path: PathBuf,
}

impl NewFile {
    /// Creates it, mode 0600; an existing path is an error.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// Makes its bytes durable. Its name becomes so when the caller syncs the folder ([`sync_folder`]).
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| failed(&self.path, &error))
    }
}

impl WriteAt for NewFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| failed(&self.path, &error))
    }
}

/// A new file whose check table is made as it is written, so that it need not be read for it.
pub struct CheckedFile {
    file: NewFile,
    check: ScatteredChecker,
}

impl CheckedFile {
    /// For a file of which nothing was written.
    #[must_use]
    pub fn new(file: NewFile) -> Self {
        Self { file, check: ScatteredChecker::new() }
    }

    /// The file and the table of what was written to it, each byte once.
    pub fn finish(self) -> Result<(NewFile, CheckTable)> {
        Ok((self.file, self.check.finish()?))
    }
}

impl WriteAt for CheckedFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_at(offset, bytes)?;
        self.check.write(offset, bytes)
    }
}

/// The folder that holds `path`.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the names in the folder that holds `path` durable.
pub fn sync_folder(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, &error))
}

/// A failure of the system on `path`.
pub(crate) fn failed(path: &Path, error: &io::Error) -> Error {
    Error::source(path.display().to_string(), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use mdg_core::{ReadAt as _, WriteAt as _};

    use super::{NewFile, OpenFile, step_by_step, sync_folder, without_links};

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
        assert!(OpenFile::open_without_links(&pipe).is_err());
    }

    #[test]
    fn a_link_at_the_end_of_a_path_or_on_its_way_is_not_followed() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("there");
        let file = root.join("within/file");
        std::fs::create_dir(root.join("within")).expect("room");
        std::fs::write(&file, b"bytes").expect("room");
        symlink(&file, root.join("link")).expect("room");
        symlink(root.join("within"), root.join("way")).expect("room");
        for open in [without_links, step_by_step] {
            assert!(open(&file).is_ok());
            assert!(open(&root.join("link")).is_err());
            assert!(open(&root.join("way/file")).is_err());
        }
        let error = OpenFile::open_without_links(&root.join("link")).err().expect("refused").to_string();
        assert!(error.contains("links are not followed"), "{error}");
        assert!(OpenFile::open(&root.join("way/file")).is_ok());
    }
}
