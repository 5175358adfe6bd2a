//! The recipe section of `mdg._core`: any byte range of a release, from buffers or straight from local files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, TryLockError};

use mdg_core::{Error, recipe};
use mdg_local::stream;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::buffer::Piece;
use crate::error::raise;

/// Adds this section to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Recipe>()?;
    m.add_class::<Stream>()
}

/// How to make any byte range of one release.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Recipe(Arc<recipe::Recipe>);

#[pymethods]
impl Recipe {
    #[staticmethod]
    fn spool(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let recipe = py.detach(|| stream::spool(&path)).map_err(raise)?;
        Ok(Self(Arc::new(recipe)))
    }

    #[staticmethod]
    fn load(py: Python<'_>, state: &[u8]) -> PyResult<Self> {
        let recipe = py.detach(|| recipe::Recipe::load(state)).map_err(raise)?;
        Ok(Self(Arc::new(recipe)))
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
    fn sha256<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.sha256())
    }

    fn plan(&self, start: u64, end: u64) -> PyResult<Vec<(usize, u64, u64)>> {
        let needs = self.0.plan(start, end).map_err(raise)?;
        Ok(needs.iter().map(|need| (need.source, need.start, need.end)).collect())
    }

    fn fill<'py>(
        &self,
        py: Python<'py>,
        start: u64,
        end: u64,
        buffers: Vec<PyBackedBytes>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let filled = py.detach(|| {
            let buffers: Vec<&[u8]> = buffers.iter().map(|buffer| &**buffer).collect();
            let mut into = Vec::new();
            self.0.fill(start, end, &buffers, &mut into).map(|()| into)
        });
        Ok(PyBytes::new(py, &filled.map_err(raise)?))
    }

    #[pyo3(signature = (paths, start, end, piece = 524_288))]
    fn stream(&self, py: Python<'_>, paths: Vec<PathBuf>, start: u64, end: u64, piece: u64) -> PyResult<Stream> {
        let stream = py.detach(|| stream::Stream::open(&self.0, &paths, start, end, piece)).map_err(raise)?;
        Ok(Stream(Mutex::new(stream)))
    }
}

/// Pieces of one range.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Stream(Mutex<stream::Stream>);

#[pymethods]
impl Stream {
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        let piece = py.detach(|| match self.0.try_lock() {
            Ok(mut stream) => stream.next(),
            Err(TryLockError::WouldBlock) => Err(Error::misuse("one call of next at a time")),
            Err(TryLockError::Poisoned(_)) => Err(Error::source("stream", "broken by an earlier failure")),
        });
        piece.map_err(raise)?.map(|piece| Piece::lend(py, piece)).transpose()
    }
}
