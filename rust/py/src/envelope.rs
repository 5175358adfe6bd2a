//! The envelope section of `mdg._core`: files, folders and randomness around [`mdg_core::envelope`].
//!
//! What is written goes to a private place beside the target, is synced once and gets its name last; after any error, or
//! when Python interrupts, nothing of it stays.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use mdg_core::envelope::manifest::{Entity, Terms};
use mdg_core::envelope::metadata::Identifier;
use mdg_core::envelope::pack::{Given, Order, Plan, hedged};
use mdg_core::envelope::parts::Parts;
use mdg_core::envelope::report::{Report, text};
use mdg_core::envelope::unpack::{self, Files, Nowhere, Trusted};
use mdg_core::envelope::{Open, Progress, dialects};
use mdg_core::seal::keys as agreement;
use mdg_core::{Code, Error, ReadAt, Result};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with, syncfs};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::error::raise;
use crate::file::{NewFile, OpenFile, Stamp, folder_of};
use crate::keys::{Ed25519Key, X25519Key};

/// Adds this section to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(pack, m)?)?;
    m.add_function(wrap_pyfunction!(inspect, m)?)?;
    m.add_function(wrap_pyfunction!(verify, m)?)?;
    m.add_function(wrap_pyfunction!(remove_abandoned, m)?)?;
    m.add_function(wrap_pyfunction!(open_envelope, m)?)
}

type Digest = Option<PyBackedBytes>;

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "a keyword each in Python; a struct would only hide them")]
#[pyo3(signature = (instances, *, files=Vec::new(), envelope_id, timestamp, patient_id, identifiers, sender, requester,
    receiver, recipient, signer, classification="confidential".to_owned(), request_digest=None, out, as_directory=false,
    progress=None), text_signature = "(instances, *, files=(), envelope_id, timestamp, patient_id, identifiers, sender, \
    requester, receiver, recipient, signer, classification='confidential', request_digest=None, out, as_directory=False, \
    progress=None)")]
fn pack(
    py: Python<'_>,
    instances: Vec<(PathBuf, Digest)>,
    files: Vec<(PathBuf, String)>,
    envelope_id: String,
    timestamp: String,
    patient_id: String,
    identifiers: Vec<(String, String)>,
    sender: String,
    requester: Option<String>,
    receiver: String,
    recipient: PyBackedBytes,
    signer: &Ed25519Key,
    classification: String,
    request_digest: Digest,
    out: PathBuf,
    as_directory: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    watched(py, progress, |progress| {
        let (ephemeral, iv) = fresh(&envelope_id)?;
        let order = Order {
            terms: Terms {
                id: envelope_id,
                timestamp,
                sender: Entity::given("sender", &sender)?,
                requester: requester.map(|requester| Entity::given("requester", &requester)).transpose()?,
                receiver: Entity::given("receiver", &receiver)?,
                classification,
                request: digest("request_digest", request_digest)?,
            },
            patient_id,
            identifiers: identifiers.into_iter().map(|(system, value)| Identifier { system, value }).collect(),
            instances: instances.into_iter().map(|(path, known)| given(path, known)).collect::<Result<_>>()?,
            files: files.into_iter().map(|(path, name)| Ok((name, given(path, None)?))).collect::<Result<_>>()?,
            recipient: raw("recipient", &recipient)?,
            signer: &signer.0,
            ephemeral,
            iv,
        };
        let mut private = Private::beside(&out)?;
        let plan = Plan::new(order)?;
        let report = if as_directory {
            private.folder()?;
            let mut payload = NewFile::create(private.path.join(dialects::DEFAULT.payload))?;
            let (documents, report) = plan.directory(&mut payload, progress)?;
            for (name, data) in documents {
                let mut file = NewFile::create(private.path.join(name))?;
                mdg_core::WriteAt::write_at(&mut file, 0, &data)?;
            }
            private.sync()?;
            report
        } else {
            let mut file = NewFile::create(&private.path)?;
            private.hold();
            let report = plan.zip(&mut file, progress)?;
            file.sync()?;
            report
        };
        private.publish(&out, progress)?;
        text(&report)
    })
}

#[pyfunction]
fn inspect(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    py.detach(|| Envelope::open(&path).and_then(|envelope| text(&unpack::inspect(envelope.parts()?)?))).map_err(raise)
}

type Trust = Vec<(Option<String>, PyBackedBytes)>;

#[pyfunction]
#[pyo3(signature = (path, *, trust, key=None, request_digest=None, receiver=None, progress=None))]
fn verify(
    py: Python<'_>,
    path: PathBuf,
    trust: Trust,
    key: Option<&X25519Key>,
    request_digest: Digest,
    receiver: Option<String>,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let key = key.map(|key| &key.0);
    watched(py, progress, |progress| {
        let asked = Asked { trust, request: request_digest, receiver };
        text(&check(&path, asked, key, &mut Nowhere, progress)?)
    })
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "a keyword each in Python")]
#[pyo3(signature = (path, *, trust, key, out, request_digest=None, receiver=None, progress=None))]
fn open_envelope(
    py: Python<'_>,
    path: PathBuf,
    trust: Trust,
    key: &X25519Key,
    out: PathBuf,
    request_digest: Digest,
    receiver: Option<String>,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let key = &key.0;
    watched(py, progress, |progress| {
        let mut private = Private::beside(&out)?;
        private.folder()?;
        let mut files = Folder::new(&private.path);
        let asked = Asked { trust, request: request_digest, receiver };
        let report = check(&path, asked, Some(key), &mut files, progress)?;
        private.sync()?;
        private.publish(&out, progress)?;
        text(&report)
    })
}

/// What an envelope must fit: who may have signed it, which request it answers, and who the receiver is.
struct Asked {
    trust: Trust,
    request: Digest,
    receiver: Option<String>,
}

fn check(
    path: &Path,
    asked: Asked,
    key: Option<&agreement::X25519Key>,
    files: &mut dyn Files,
    progress: &mut Progress<'_>,
) -> Result<Report> {
    let trusted = |(sender, public): (Option<String>, PyBackedBytes)| {
        Ok(Trusted { sender, public: raw("a trusted key", &public)? })
    };
    let trust = asked.trust.into_iter().map(trusted).collect::<Result<Vec<_>>>()?;
    let request = digest("request_digest", asked.request)?;
    let envelope = Envelope::open(path)?;
    unpack::verify(envelope.parts()?, &trust, request, asked.receiver.as_deref(), key, files, progress)
}

fn raw<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| Error::misuse(format!("{what} must be {N} bytes, not {}", bytes.len())))
}

fn digest(what: &str, bytes: Digest) -> Result<Option<[u8; 32]>> {
    bytes.map(|bytes| raw(what, &bytes)).transpose()
}

/// Runs `work` without the interpreter lock. Between pieces Python may interrupt it, and `progress` is told how far it is;
/// what either of them raises comes out again.
fn watched(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(&mut Progress<'_>) -> Result<String> + Send,
) -> PyResult<String> {
    let mut raised = None;
    let done = py.detach(|| {
        let mut tell = |done: u64, total: u64| {
            let told = Python::attach(|py| {
                py.check_signals()?;
                progress.as_ref().map_or(Ok(()), |progress| progress.call1(py, (done, total)).map(drop))
            });
            told.map_err(|error| {
                raised = Some(error);
                Error::misuse("stopped by the caller")
            })
        };
        work(&mut Progress::to(&mut tell))
    });
    match raised {
        Some(raised) => Err(raised),
        None => done.map_err(raise),
    }
}

/// An ephemeral key and an IV for one envelope (seg/1 9.4): from the system's generator, mixed with what differs between
/// two runs of a machine that was cloned or rolled back.
fn fresh(envelope_id: &str) -> Result<(agreement::X25519Key, [u8; 12])> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let context = [
        envelope_id.as_bytes(),
        &since.as_nanos().to_be_bytes(),
        &boot,
        &std::process::id().to_be_bytes(),
        &count.to_be_bytes(),
    ]
    .concat();
    let secret = |purpose| {
        let mut random = Zeroizing::new([0; 64]);
        getrandom::fill(random.as_mut_slice()).map_err(|error| Error::source("random numbers", error.to_string()))?;
        Ok(hedged(&random, purpose, &context))
    };
    let (key, iv) = (secret("eph")?, secret("iv")?);
    let mut short = [0; 12];
    short.copy_from_slice(&iv[..12]);
    Ok((agreement::X25519Key::from_secret(&key), short))
}

fn given(path: PathBuf, known: Digest) -> Result<Given<'static>> {
    let sha256 = digest("a recorded SHA-256", known)?;
    let source = Source { path, indexed: sha256.is_some(), stamp: OnceLock::new() };
    Ok(Given { part: source.path.display().to_string(), source: Box::new(source), sha256 })
}

/// A file that must stay as it was when it was first opened.
struct Source {
    path: PathBuf,
    /// A scan that follows no links has found it; a person names other files as they like.
    indexed: bool,
    stamp: OnceLock<Stamp>,
}

impl Open for Source {
    fn open(&self) -> Result<Box<dyn ReadAt + '_>> {
        let open = if self.indexed { OpenFile::open_without_links } else { OpenFile::open };
        let file = open(&self.path)?;
        if *self.stamp.get_or_init(|| file.stamp()) != file.stamp() {
            return Err(Error::refused(Code::StoreCorrupt, file.part(), "changed while it was packed"));
        }
        Ok(Box::new(Steady(file)))
    }
}

/// A file whose bytes count only if it is still what it was when the last of them was read.
struct Steady(OpenFile);

impl ReadAt for Steady {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.0.read_at(offset, into)?;
        if offset + into.len() as u64 == self.size() && !self.0.unchanged() {
            return Err(Error::refused(Code::StoreCorrupt, self.0.part(), "changed while it was packed"));
        }
        Ok(())
    }
}

/// An envelope on disk.
enum Envelope {
    Zip(OpenFile),
    Directory(Vec<(String, Box<dyn ReadAt>)>),
}

impl Envelope {
    fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Ok(Self::Zip(OpenFile::open(path)?));
        }
        let failed = |error: std::io::Error| Error::source(path.display().to_string(), error.to_string());
        let mut files: Vec<(String, Box<dyn ReadAt>)> = Vec::new();
        // A folder of anything else is refused by its first few names.
        for entry in fs::read_dir(path).map_err(failed)?.take(8) {
            let entry = entry.map_err(failed)?;
            if !entry.file_type().map_err(failed)?.is_file() {
                return Err(Error::refused(Code::ZipName, "envelope", "something in its folder is not a regular file"));
            }
            let file = OpenFile::open(&entry.path())?;
            files.push((entry.file_name().to_string_lossy().into_owned(), Box::new(file)));
        }
        Ok(Self::Directory(files))
    }

    fn parts(&self) -> Result<Parts<'_>> {
        match self {
            Self::Zip(file) => Parts::of_zip(file),
            Self::Directory(files) => Parts::of_directory(files),
        }
    }
}

/// A private name beside a target; dropped without [`Private::publish`] it removes what stands there. It is locked while it
/// is in use, so that what a killed process left can be told from what another one is making.
struct Private {
    path: PathBuf,
    /// The folder of both.
    above: File,
    lock: Option<File>,
}

impl Private {
    fn beside(target: &Path) -> Result<Self> {
        let shown = target.display().to_string();
        if fs::symlink_metadata(target).is_ok() {
            return Err(Error::source(shown, "exists already"));
        }
        let name = target.file_name().ok_or_else(|| Error::misuse(format!("{shown} is no name for a new file")))?;
        let folder = folder_of(target);
        let above = File::open(folder).map_err(|error| failed(folder, &error))?;
        let mut begin = std::ffi::OsString::from(".");
        begin.push(name);
        begin.push(".");
        sweep(folder, begin.as_bytes());
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Error::source("random numbers", error.to_string()))?;
        begin.push(format!("{:016x}{PART}", u64::from_ne_bytes(random)));
        Ok(Self { path: target.with_file_name(begin), above, lock: None })
    }

    fn folder(&mut self) -> Result<()> {
        make_folder(&self.path)?;
        self.hold();
        Ok(())
    }

    /// Locks what was made. On a file system without locks nobody can tell, and nobody removes anything.
    fn hold(&mut self) {
        self.lock = lock(&self.path);
    }

    /// Makes all that was written to its file system durable, with one call for any number of files.
    fn sync(&self) -> Result<()> {
        let synced = File::open(&self.path).and_then(|folder| syncfs(&folder).map_err(Into::into));
        synced.map_err(|error| failed(&self.path, &error))
    }

    /// Gives it its name, which must still be free, and makes that durable, unless `progress` stops it.
    fn publish(self, target: &Path, progress: &mut Progress<'_>) -> Result<()> {
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

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "Python gives a path by value")]
fn remove_abandoned(py: Python<'_>, target: PathBuf) {
    let begin = [b".", target.file_name().unwrap_or_default().as_bytes(), b"."].concat();
    py.detach(|| sweep(folder_of(&target), &begin));
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

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::source(path.display().to_string(), error.to_string())
}

/// Writes the files of a payload into a new private folder.
struct Folder<'a> {
    root: &'a Path,
    made: HashSet<PathBuf>,
    current: Option<(File, PathBuf)>,
}

impl<'a> Folder<'a> {
    fn new(root: &'a Path) -> Self {
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
