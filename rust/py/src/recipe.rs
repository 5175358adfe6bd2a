//! The recipe section of `mdg._core`: any byte range of a release, from buffers or straight from local files.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, TryLockError};

use mdg_core::digest::{Digester, PIECE};
use mdg_core::limits::STREAM_PIECE;
use mdg_core::{Code, Error, ReadAt, Result, recipe};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::buffer::{Piece, Pool};
use crate::error::raise;
use crate::file::OpenFile;

/// Pieces of a stream that are made before they are asked for.
const AHEAD: usize = 1;

/// Bytes read at once when a spool is digested.
const STEP: usize = 1 << 20;

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
        let recipe = py.detach(|| digest(path)).map_err(raise)?;
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
        py.detach(|| Stream::open(&self.0, paths, start, end, piece)).map_err(raise)
    }
}

/// Reads a finished file once.
fn digest(path: PathBuf) -> Result<recipe::Recipe> {
    let file = OpenFile::open(&path)?;
    let mut digester = Digester::new();
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    while at < file.size() {
        let length = (file.size() - at).min(STEP as u64);
        let step = &mut buffer[..length as usize];
        file.read_at(at, step)?;
        digester.update(step);
        at += length;
    }
    if !file.unchanged() {
        return Err(Error::refused(Code::StoreCorrupt, file.part(), "changed while it was digested"));
    }
    Ok(recipe::Recipe::spool(digester.finish()))
}

/// Threads for pieces ahead, apart from those that pack and index for minutes. A piece that no thread has begun when it is
/// asked for is made by who asks, so a busy pool delays nobody.
static AHEAD_POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    // A panic must end one stream, not the process; its reader sees a channel without a sender.
    let builder = ThreadPoolBuilder::new().thread_name(|_| "mdg-stream".into()).panic_handler(|_| ());
    builder.build().ok()
});

/// Pieces of one range.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Stream(Mutex<Progress>);

#[pymethods]
impl Stream {
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        let piece = py.detach(|| match self.0.try_lock() {
            Ok(mut progress) => progress.next(),
            Err(TryLockError::WouldBlock) => Err(Error::misuse("one call of next at a time")),
            Err(TryLockError::Poisoned(_)) => Err(Error::source("stream", "broken by an earlier failure")),
        });
        piece.map_err(raise)?.map(|piece| piece.lend(py)).transpose()
    }
}

impl Stream {
    fn open(recipe: &Arc<recipe::Recipe>, paths: Vec<PathBuf>, start: u64, end: u64, piece: u64) -> Result<Self> {
        if !(PIECE as u64..=STREAM_PIECE).contains(&piece) {
            return Err(Error::misuse(format!("a piece has {PIECE} to {STREAM_PIECE} bytes, not {piece}")));
        }
        recipe.plan(start, end)?;
        let files = paths.iter().map(|path| OpenFile::open(path)).collect::<Result<Vec<_>>>()?;
        let [file] = files.as_slice() else {
            return Err(Error::misuse(format!("a spooled release has one file, not {}", files.len())));
        };
        if file.size() != recipe.length() {
            return Err(Error::refused(
                Code::StoreCorrupt,
                file.part(),
                "has another length than when it was digested",
            ));
        }
        let making = Arc::new(Making { recipe: Arc::clone(recipe), files, pool: Arc::default() });
        Ok(Self(Mutex::new(Progress { making, at: start, end, piece, ahead: VecDeque::new(), broken: None })))
    }
}

/// What it takes to make a piece, shared with the threads that work ahead.
struct Making {
    recipe: Arc<recipe::Recipe>,
    files: Vec<OpenFile>,
    pool: Arc<Pool>,
}

impl Making {
    fn piece(&self, range: Range<u64>) -> Result<Piece> {
        let sources: Vec<&dyn ReadAt> = self.files.iter().map(|file| file as &dyn ReadAt).collect();
        let mut buffer = self.pool.take();
        let found = self.recipe.read(range.start, range.end, &sources, &mut buffer)?;
        Ok(Piece::new(buffer, found, Arc::clone(&self.pool)))
    }
}

/// A piece that is being made, or will be.
struct Ahead {
    range: Range<u64>,
    /// Whoever sets it makes the piece.
    begun: Arc<AtomicBool>,
    made: Receiver<Result<Piece>>,
}

/// How far a stream is.
struct Progress {
    making: Arc<Making>,
    /// First byte that no piece has been begun for.
    at: u64,
    end: u64,
    piece: u64,
    ahead: VecDeque<Ahead>,
    broken: Option<Error>,
}

impl Progress {
    fn next(&mut self) -> Result<Option<Piece>> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        // The piece that is asked for, and the one behind it.
        while self.ahead.len() <= AHEAD && self.at < self.end {
            let begun = self.begin();
            self.ahead.push_back(begun);
        }
        let Some(next) = self.ahead.pop_front() else { return Ok(None) };
        let piece = if next.begun.swap(true, Ordering::AcqRel) {
            next.made.recv().unwrap_or_else(|_| Err(Error::source("stream", "a worker thread failed")))
        } else {
            self.making.piece(next.range)
        };
        piece.map(Some).inspect_err(|error| self.broken = Some(error.clone()))
    }

    /// Hands the next piece to the pool. Pieces end at multiples of their size, so that whole ones need no byte twice.
    fn begin(&mut self) -> Ahead {
        let until = (self.at - self.at % self.piece).saturating_add(self.piece).min(self.end);
        let range = self.at..until;
        self.at = until;
        let begun = Arc::new(AtomicBool::new(false));
        let (send, made) = sync_channel(1);
        if let Some(pool) = &*AHEAD_POOL {
            let (making, range, begun) = (Arc::clone(&self.making), range.clone(), Arc::clone(&begun));
            pool.spawn(move || {
                if !begun.swap(true, Ordering::AcqRel) {
                    // Nobody receives it when the stream was dropped meanwhile.
                    let _ = send.send(making.piece(range));
                }
            });
        }
        Ahead { range, begun, made }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // What has not been begun is not wanted any more.
        for ahead in &self.ahead {
            ahead.begun.store(true, Ordering::Release);
        }
    }
}
