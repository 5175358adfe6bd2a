//! New files and folders that appear whole or not at all: written under a private name, made durable, then renamed.
//!
//! After any error, or when the caller stops the work, nothing of it stays.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mdg_core::envelope::Progress;
use mdg_core::envelope::v1::payload_reader::Files;
use mdg_core::{Error, Result};
use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with, syncfs};
use rustix::io::Errno;

use crate::file::{NewFile, failed, folder_of};
use crate::random;

/// A private name beside a target; dropped without [`Private::publish`] it removes what stands there. It is locked while it
/// is in use, so that what a killed process left can be told from what another one is making.
pub struct Private {
    path: PathBuf,
    /// The folder of both.
    above: File,
    lock: Option<File>,
}

impl Private {
    /// A free private name beside `target`, which must be free too.
    pub fn beside(target: &Path) -> Result<Self> {
        let shown = target.display().to_string();
        if fs::symlink_metadata(target).is_ok() {
            return Err(Error::source(shown, "exists already"));
        }
        let name = target.file_name().ok_or_else(|| Error::misuse(format!("{shown} is no name for a new file")))?;
        let folder = folder_of(target);
        let above = File::open(folder).map_err(|error| failed(folder, &error))?;
        let mut begin = OsString::from(".");
        begin.push(name);
        begin.push(".");
        sweep(folder, begin.as_bytes());
        let mut random = [0; 8];
        random::fill(&mut random)?;
        begin.push(format!("{:016x}{PART}", u64::from_ne_bytes(random)));
        Ok(Self { path: target.with_file_name(begin), above, lock: None })
    }

    /// Where the work is done.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it a folder.
    pub fn folder(&mut self) -> Result<()> {
        make_folder(&self.path)?;
        self.hold();
        Ok(())
    }

    /// Makes it a file.
    pub fn file(&mut self) -> Result<NewFile> {
        let file = NewFile::create(&self.path)?;
        self.hold();
        Ok(file)
    }

    /// Locks what was made. On a file system without locks nobody can tell, and nobody removes anything.
    fn hold(&mut self) {
        self.lock = lock(&self.path);
    }

    /// Makes all that was written to its file system durable, with one call for any number of files.
    pub fn sync(&self) -> Result<()> {
        let synced = File::open(&self.path).and_then(|folder| syncfs(&folder).map_err(Into::into));
        synced.map_err(|error| failed(&self.path, &error))
    }

    /// Gives it its name, which must still be free, and makes that durable, unless `progress` stops it.
    pub fn publish(self, target: &Path, progress: &mut Progress<'_>) -> Result<()> {
        progress.confirm()?;
        rename_new(&self.path, target).map_err(|error| failed(target, &error))?;
        self.above.sync_all().map_err(|error| {
            // A name that may be gone after a crash is not kept either.
            remove(target);
            failed(target, &error)
        })
    }
}

/// Renames and replaces nothing. NFS has no such call (EINVAL): there a file gets a second name, which fails where
/// something stands and lets [`Private`] remove the first one, and a folder replaces an empty folder at most.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) if from.is_dir() => fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(from, to),
        done => Ok(done?),
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // After publish the name is free, and nothing is removed. What cannot be removed on the way out of another failure
        // is found again by the next one who writes to the same target.
        remove(&self.path);
    }
}

/// How a private name ends, after 16 hexadecimal digits.
const PART: &str = ".part";

/// Removes what processes that were killed left of the same target, and nothing that a running one is making.
pub fn remove_abandoned(target: &Path) {
    let begin = [b".", target.file_name().unwrap_or_default().as_bytes(), b"."].concat();
    sweep(folder_of(target), &begin);
}

/// Removes what processes that were killed left of the same target: decrypted files must not lie about for good.
fn sweep(folder: &Path, begin: &[u8]) {
    let is_ours = |name: &[u8]| {
        let digits = name.strip_prefix(begin).and_then(|rest| rest.strip_suffix(PART.as_bytes()));
        digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|e| is_ours(e.file_name().as_bytes())) {
        if let Some(_lock) = lock(&entry.path()) {
            remove(&entry.path());
        }
    }
}

/// The lock of what stands at `path`, if nobody has it.
fn lock(path: &Path) -> Option<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok().map(|()| file)
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| failed(path, &error))
}

/// Writes the files of a payload into a new private folder.
pub struct Folder<'a> {
    root: &'a Path,
    made: HashSet<PathBuf>,
    current: Option<(File, PathBuf)>,
}

impl<'a> Folder<'a> {
    /// Into `root`, which exists.
    #[must_use]
    pub fn new(root: &'a Path) -> Self {
        Self { root, made: HashSet::new(), current: None }
    }

    fn folders(&mut self, path: &Path) -> Result<()> {
        let missing: Vec<_> =
            path.ancestors().skip(1).take_while(|above| *above != self.root && !self.made.contains(*above)).collect();
        for folder in missing.into_iter().rev() {
            make_folder(folder)?;
            self.made.insert(folder.into());
        }
        Ok(())
    }
}

impl Files for Folder<'_> {
    fn create(&mut self, name: &str, _size: u64) -> Result<()> {
        let path = self.root.join(name);
        self.folders(&path)?;
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        self.current = Some((made.map_err(|error| failed(&path, &error))?, path));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((file, path)) = &mut self.current else { return Err(Error::misuse("no file was begun")) };
        file.write_all(bytes).map_err(|error| failed(path, &error))
    }

    fn close(&mut self) -> Result<()> {
        self.current = None;
        Ok(())
    }
}
