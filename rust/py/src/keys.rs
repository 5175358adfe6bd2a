//! The keys section of `mdg._core`: private keys as handles, signatures, and the JSON that is signed.
//!
//! Private bytes never become a Python object: they are made here, read from and written to files that only their owner
//! may read, and wipe themselves.

use std::path::PathBuf;

use mdg_core::seal::keys;
use mdg_core::{Error, Result, json, sign};
use mdg_local::{key_file, random};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::error::raise;

/// Adds this section to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<X25519Key>()?;
    m.add_class::<Ed25519Key>()?;
    m.add_function(wrap_pyfunction!(kid, m)?)?;
    m.add_function(wrap_pyfunction!(verify_signature, m)?)?;
    m.add_function(wrap_pyfunction!(verify_jws, m)?)?;
    m.add_function(wrap_pyfunction!(check_json, m)?)?;
    m.add_function(wrap_pyfunction!(canonical_json, m)?)
}

/// A private X25519 key.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct X25519Key(pub(crate) keys::X25519Key);

#[pymethods]
impl X25519Key {
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        let secret = random::secret().map_err(raise)?;
        Ok(Self(keys::X25519Key::from_secret(&secret)))
    }

    #[staticmethod]
    fn read(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let secret = py.detach(|| key_file::read(&path)).map_err(raise)?;
        Ok(Self(keys::X25519Key::from_secret(&secret)))
    }

    fn write(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| key_file::write(&path, self.0.secret())).map_err(raise)
    }

    #[getter]
    fn public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.public())
    }
}

/// A private Ed25519 key.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Ed25519Key(pub(crate) sign::Ed25519Key);

#[pymethods]
impl Ed25519Key {
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        let seed = random::secret().map_err(raise)?;
        Ok(Self(sign::Ed25519Key::from_seed(&seed)))
    }

    #[staticmethod]
    fn read(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let seed = py.detach(|| key_file::read(&path)).map_err(raise)?;
        Ok(Self(sign::Ed25519Key::from_seed(&seed)))
    }

    fn write(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| key_file::write(&path, self.0.seed())).map_err(raise)
    }

    #[getter]
    fn public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.public())
    }

    #[getter]
    fn kid(&self) -> String {
        sign::kid(&self.0.public())
    }

    fn sign<'py>(&self, py: Python<'py>, message: &[u8]) -> Bound<'py, PyBytes> {
        let signature = py.detach(|| self.0.sign(message));
        PyBytes::new(py, &signature)
    }

    fn sign_jws<'py>(&self, py: Python<'py>, payload: &[u8], typ: &str) -> Bound<'py, PyBytes> {
        let jws = py.detach(|| self.0.sign_jws(payload, typ));
        PyBytes::new(py, jws.as_bytes())
    }
}

/// The key id of a raw Ed25519 public key.
#[pyfunction]
fn kid(public: &[u8]) -> PyResult<String> {
    public_key(public).map(|public| sign::kid(&public)).map_err(raise)
}

/// Strict Ed25519.
#[pyfunction]
fn verify_signature(py: Python<'_>, public: &[u8], message: &[u8], signature: &[u8]) -> PyResult<()> {
    let public = public_key(public).map_err(raise)?;
    py.detach(|| sign::verify("signature", &public, message, signature)).map_err(raise)
}

/// A compact JWS by one of the trusted keys.
#[pyfunction]
fn verify_jws<'py>(
    py: Python<'py>,
    jws: &[u8],
    typ: &str,
    trusted: Vec<PyBackedBytes>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let trusted = trusted.iter().map(|public| public_key(public)).collect::<Result<Vec<_>>>().map_err(raise)?;
    let verified = py.detach(|| sign::verify_jws("JWS", jws, typ, &trusted)).map_err(raise)?;
    Ok((PyBytes::new(py, &verified.payload), PyBytes::new(py, &verified.public)))
}

/// The JSON rules of seg/1 3.1.
#[pyfunction]
fn check_json(py: Python<'_>, data: &[u8]) -> PyResult<()> {
    py.detach(|| json::parse("JSON", data)).map(drop).map_err(raise)
}

/// RFC 8785.
#[pyfunction]
fn canonical_json<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let canonical = py.detach(|| json::parse("JSON", data).and_then(|value| json::canonical(&value)));
    Ok(PyBytes::new(py, &canonical.map_err(raise)?))
}

/// 32 bytes as a public key; curve checks are those of the operation.
pub(crate) fn public_key(bytes: &[u8]) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| Error::misuse(format!("a raw public key has 32 bytes, not {}", bytes.len())))
}
