//! Large results without fresh memory: buffers of a pool, lent to Python as memoryviews.
//!
//! A new block of 512 KiB from the kernel costs more than filling it (page faults), so a stream keeps up to [`KEPT`] buffers
//! and uses them again. A buffer is filled while Rust alone owns it, is never written once it is lent, and comes back to its
//! pool when Python has let go of the last view on it: a caller may keep a piece as long as it likes, and the pool then
//! simply makes another.
//!
//! This is the only file of the module with `unsafe`.

use std::ffi::c_int;
use std::ops::Range;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

/// Buffers that a pool keeps: one for the piece with the reader, one for the piece ahead.
const KEPT: usize = 2;

/// Buffers waiting to be used again.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer with any content, or a new one.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < KEPT {
            waiting.push(buffer);
        }
    }
}

/// A filled buffer and the part of it that is the piece. Dropping it gives the buffer back.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Piece {
    buffer: Vec<u8>,
    range: Range<usize>,
    pool: Arc<Pool>,
}

impl Piece {
    /// `range` lies inside `buffer`.
    pub(crate) fn new(buffer: Vec<u8>, range: Range<usize>, pool: Arc<Pool>) -> Self {
        assert!(range.start <= range.end && range.end <= buffer.len(), "a piece lies inside its buffer");
        Self { buffer, range, pool }
    }

    /// A read-only view, which keeps the piece alive.
    pub(crate) fn lend(self, py: Python<'_>) -> PyResult<Bound<'_, PyMemoryView>> {
        PyMemoryView::from(Bound::new(py, self)?.as_any())
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

#[pymethods]
impl Piece {
    /// The buffer protocol, read-only.
    ///
    /// # Safety
    /// `view` is null or points to a `Py_buffer` that may be overwritten, as the protocol says.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no Py_buffer to fill"));
        }
        let piece = slf.get();
        let bytes = &piece.buffer[piece.range.clone()];
        let length = bytes.len().cast_signed();
        let start = bytes.as_ptr().cast_mut().cast();
        // SAFETY: `view` may be overwritten. `start` is readable for `length` bytes as long as `slf` lives, to which the
        // view takes a reference; the class is frozen and the vector is touched again only in `drop`, so the bytes neither
        // move nor change. `readonly` is 1: Python never writes through the pointer, and a request for a writable view fails.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) };
        if filled == 0 {
            return Ok(());
        }
        // SAFETY: `view` is not null and may be overwritten; the protocol wants no owner in it after an error.
        unsafe { (*view).obj = ptr::null_mut() };
        Err(PyErr::fetch(slf.py()))
    }
}
