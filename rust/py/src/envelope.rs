//! The envelope section of `mdg._core`: packing, inspecting, verifying and opening files on disk.

use std::borrow::Cow;
use std::path::PathBuf;

use mdg_core::envelope::Progress;
use mdg_core::envelope::manifest::{Entity, Terms};
use mdg_core::envelope::report::text;
use mdg_core::envelope::v1::open::{Expected, Trusted};
use mdg_core::{Error, Result};
use mdg_local::envelope::{self, Form, Order};
use mdg_local::publish;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::error::raise;
use crate::keys::{Ed25519Key, X25519Key};
use crate::recipe::Recipe;

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
    recipe=false, progress=None), text_signature = "(instances, *, files=(), envelope_id, timestamp, patient_id, identifiers, sender, \
    requester, receiver, recipient, signer, classification='confidential', request_digest=None, out, as_directory=False, \
    recipe=False, progress=None)")]
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
    recipe: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<(String, Cow<'static, [u8]>, Option<Recipe>)> {
    watched(py, progress, |progress| {
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
            identifiers,
            instances: instances.into_iter().map(instance).collect::<Result<_>>()?,
            files,
            recipient: raw("recipient", &recipient)?,
            signer: &signer.0,
        };
        let form = match (as_directory, recipe) {
            (false, false) => Form::Zip,
            (false, true) => Form::Spool,
            (true, false) => Form::Folder,
            (true, true) => return Err(Error::misuse("a folder is not served, and has no recipe")),
        };
        let made = envelope::pack(order, &out, form, progress)?;
        Ok((text(&made.report)?, made.manifest.into(), made.recipe.map(Recipe::from)))
    })
}

fn instance((path, known): (PathBuf, Digest)) -> Result<(PathBuf, Option<[u8; 32]>)> {
    Ok((path, digest("a recorded SHA-256", known)?))
}

#[pyfunction]
fn inspect(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    py.detach(|| envelope::inspect(&path).and_then(|report| text(&report))).map_err(raise)
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "Python gives a path by value")]
fn remove_abandoned(py: Python<'_>, target: PathBuf) {
    py.detach(|| publish::remove_abandoned(&target));
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
    let asked = Asked { trust, request_digest, receiver, key };
    watched(py, progress, |progress| asked.of(|expected| text(&envelope::verify(&path, expected, progress)?)))
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
    let key = Some(key);
    let asked = Asked { trust, request_digest, receiver, key };
    watched(py, progress, |progress| asked.of(|expected| text(&envelope::open(&path, expected, &out, progress)?)))
}

/// What an envelope must be for its reader, as Python says it.
struct Asked<'a> {
    trust: Trust,
    request_digest: Digest,
    receiver: Option<String>,
    key: Option<&'a X25519Key>,
}

impl Asked<'_> {
    /// Calls `work` with the same as the core takes it.
    fn of(self, work: impl FnOnce(&Expected<'_>) -> Result<String>) -> Result<String> {
        let trusted = |(sender, public): (Option<String>, PyBackedBytes)| {
            Ok(Trusted { sender, public: raw("a trusted key", &public)? })
        };
        work(&Expected {
            trust: &self.trust.into_iter().map(trusted).collect::<Result<Vec<_>>>()?,
            request: digest("request_digest", self.request_digest)?,
            receiver: self.receiver.as_deref(),
            key: self.key.map(|key| &key.0),
        })
    }
}

fn raw<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| Error::misuse(format!("{what} must be {N} bytes, not {}", bytes.len())))
}

fn digest(what: &str, bytes: Digest) -> Result<Option<[u8; 32]>> {
    bytes.map(|bytes| raw(what, &bytes)).transpose()
}

/// Runs `work` without the interpreter lock. Between pieces Python may interrupt it, and `progress` is told how far it is;
/// what either of them raises comes out again.
fn watched<T: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(&mut Progress<'_>) -> Result<T> + Send,
) -> PyResult<T> {
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
