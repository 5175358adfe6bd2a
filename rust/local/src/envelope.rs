//! Envelopes on disk: files, folders, randomness and threads around [`mdg_core::envelope::v1`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mdg_core::envelope::manifest::Terms;
use mdg_core::envelope::metadata::Identifier;
use mdg_core::envelope::report::Report;
use mdg_core::envelope::v1::container::Container;
use mdg_core::envelope::v1::dialects::DEFAULT;
use mdg_core::envelope::v1::open::{self, Expected};
use mdg_core::envelope::v1::pack::{self, Packed, Plan};
use mdg_core::envelope::v1::payload_reader::{Files, Nowhere};
use mdg_core::envelope::v1::payload_writer::Given;
use mdg_core::envelope::{Open, Progress};
use mdg_core::recipe::{self, Recipe};
use mdg_core::sign::Ed25519Key;
use mdg_core::{Code, Error, ReadAt, Result, WriteAt};

use crate::file::{CheckedFile, NewFile, OpenFile, Stamp, failed};
use crate::publish::{Folder, Private};
use crate::random;
use crate::threads::{Beside, EveryCore};

/// What to pack, and for whom.
pub struct Order<'a> {
    /// What the manifest says.
    pub terms: Terms,
    /// `patient.id` of metadata.json.
    pub patient_id: String,
    /// (system, value) of the patient's identifiers.
    pub identifiers: Vec<(String, String)>,
    /// DICOM files of one study, each with the SHA-256 that was recorded of it.
    pub instances: Vec<(PathBuf, Option<[u8; 32]>)>,
    /// Other files and their names under `files/`.
    pub files: Vec<(PathBuf, String)>,
    /// The recipient's raw X25519 key.
    pub recipient: [u8; 32],
    /// The sender's key.
    pub signer: &'a Ed25519Key,
}

impl<'a> Order<'a> {
    /// With a fresh ephemeral key and IV: it packs one envelope.
    fn fresh(self) -> Result<pack::Order<'a>> {
        let (ephemeral, iv) = random::ephemeral(&self.terms.id)?;
        let identifier = |(system, value)| Identifier { system, value };
        Ok(pack::Order {
            terms: self.terms,
            patient_id: self.patient_id,
            identifiers: self.identifiers.into_iter().map(identifier).collect(),
            instances: self.instances.into_iter().map(|(path, sha256)| given(path, sha256)).collect(),
            files: self.files.into_iter().map(|(path, name)| (name, given(path, None))).collect(),
            recipient: self.recipient,
            signer: self.signer,
            ephemeral,
            iv,
        })
    }
}

/// How an envelope lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One ZIP.
    Zip,
    /// One ZIP that will be served: its recipe is made as it is written.
    Spool,
    /// A folder of the same files.
    Folder,
}

/// A new envelope.
pub struct Made {
    /// manifest.json as it stands in it.
    pub manifest: Vec<u8>,
    /// What was packed.
    pub report: Packed,
    /// How to serve it; of [`Form::Spool`] only.
    pub recipe: Option<Recipe>,
}

/// Packs an envelope at `out`, which appears whole and durable, or not at all.
pub fn pack(order: Order<'_>, out: &Path, form: Form, progress: &mut Progress<'_>) -> Result<Made> {
    let order = order.fresh()?;
    let mut private = Private::beside(out)?;
    let plan = Plan::new(order, &EveryCore)?;
    let mut hashing = Beside::start()?;
    let made = match form {
        Form::Zip => {
            let mut file = private.file()?;
            let (manifest, report) = plan.zip(&mut file, &mut hashing, progress)?;
            file.sync()?;
            Made { manifest, report, recipe: None }
        }
        Form::Spool => {
            let mut file = CheckedFile::new(private.file()?);
            let (manifest, report) = plan.zip(&mut file, &mut hashing, progress)?;
            let (file, check) = file.finish()?;
            file.sync()?;
            Made { manifest, report, recipe: Some(Recipe::File(recipe::file::File::new(check))) }
        }
        Form::Folder => {
            private.folder()?;
            let mut payload = NewFile::create(private.path().join(DEFAULT.payload))?;
            let (documents, report) = plan.directory(&mut payload, &mut hashing, progress)?;
            for (name, data) in &documents {
                NewFile::create(private.path().join(name))?.write_at(0, data)?;
            }
            private.sync()?;
            let [(_, manifest), ..] = documents;
            Made { manifest, report, recipe: None }
        }
    };
    private.publish(out, progress)?;
    Ok(made)
}

/// What the clear parts of a ZIP or folder say, which nobody has checked.
pub fn inspect(path: &Path) -> Result<Report> {
    open::inspect(OnDisk::open(path)?.container()?)
}

/// Verifies a ZIP or folder, and writes nothing.
pub fn verify(path: &Path, expected: &Expected<'_>, progress: &mut Progress<'_>) -> Result<Report> {
    check(path, expected, &mut Nowhere, progress)
}

/// Verifies and opens a ZIP or folder into the new folder `out`, which appears whole, durable and verified, or not at all.
pub fn open(path: &Path, expected: &Expected<'_>, out: &Path, progress: &mut Progress<'_>) -> Result<Report> {
    let mut private = Private::beside(out)?;
    private.folder()?;
    let report = check(path, expected, &mut Folder::new(private.path()), progress)?;
    private.sync()?;
    private.publish(out, progress)?;
    Ok(report)
}

fn check(path: &Path, expected: &Expected<'_>, files: &mut dyn Files, progress: &mut Progress<'_>) -> Result<Report> {
    open::verify(OnDisk::open(path)?.container()?, expected, files, &mut Beside::start()?, progress)
}

fn given(path: PathBuf, sha256: Option<[u8; 32]>) -> Given<'static> {
    let source = Source { path, indexed: sha256.is_some(), stamp: OnceLock::new() };
    Given { part: source.path.display().to_string(), source: Box::new(source), sha256 }
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
enum OnDisk {
    Zip(OpenFile),
    Directory(Vec<(String, Box<dyn ReadAt>)>),
}

impl OnDisk {
    fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Ok(Self::Zip(OpenFile::open(path)?));
        }
        let failed = |error: io::Error| failed(path, &error);
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

    fn container(&self) -> Result<Container<'_>> {
        match self {
            Self::Zip(file) => Container::of_zip(file),
            Self::Directory(files) => Container::of_directory(files),
        }
    }
}
