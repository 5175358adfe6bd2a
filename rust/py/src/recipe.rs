//! The recipe section of `mdg._core`: any byte range of a release, from local files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, TryLockError};

use mdg_core::recipe::Kind;
use mdg_core::{Error, recipe};
use mdg_local::stream;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::NewBytes;
use crate::error::raise;

/// Adds this section to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Recipe>()?;
    m.add_class::<Stream>()
}

/// How to make any byte range of one release.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Recipe(Arc<recipe::Recipe>);

impl From<recipe::Recipe> for Recipe {
    fn from(recipe: recipe::Recipe) -> Self {
        Self(Arc::new(recipe))
    }
}

#[pymethods]
impl Recipe {
    #[staticmethod]
    fn load(py: Python<'_>, state: &[u8]) -> PyResult<Self> {
        py.detach(|| recipe::Recipe::load(state)).map(Self::from).map_err(raise)
    }

    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let state = py.detach(|| self.0.state());
        PyBytes::new(py, &state)
    }

    #[getter]
    fn length(&self) -> u64 {
        self.0.length()
    }

    #[getter]
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let digest = py.detach(|| self.0.digest());
        PyBytes::new(py, &digest)
    }

    #[pyo3(signature = (paths, start, end, piece = 524_288))]
    fn stream(&self, py: Python<'_>, paths: Vec<PathBuf>, start: u64, end: u64, piece: u64) -> PyResult<Stream> {
        let recipe: Arc<dyn Kind> = Arc::clone(&self.0) as _;
        let stream = py.detach(|| stream::Stream::open(recipe, &paths, start, end, piece)).map_err(raise)?;
        Ok(Stream(Mutex::new(stream)))
    }
}

/// Pieces of one range.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Stream(Mutex<stream::Stream<NewBytes>>);

#[pymethods]
impl Stream {
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut stream = self.0.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => raise(Error::misuse("one call of next at a time")),
            TryLockError::Poisoned(_) => raise(Error::source("stream", "broken by an earlier failure")),
        })?;
        let Some(piece) = stream.next(|length| NewBytes::new(py, length)).map_err(raise)? else { return Ok(None) };
        let made = py.detach(|| piece.wait()).map_err(raise)?;
        Ok(Some(made.give(py)))
    }
}
