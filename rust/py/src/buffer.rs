//! The pieces of a stream, lent to Python as memoryviews: no copy of them is made.
//!
//! A piece is never written once it is lent, and its buffer is used again only when Python has let go of the last view on
//! it.
//!
//! This is the only file of the module with `unsafe`.

use std::ffi::c_int;
use std::ptr;

use mdg_local::stream;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

/// A piece that Python may look at.
#[pyclass(frozen, module = "mdg._core")]
pub(crate) struct Piece(stream::Piece);

impl Piece {
    /// A read-only view, which keeps the piece alive.
    pub(crate) fn lend(py: Python<'_>, piece: stream::Piece) -> PyResult<Bound<'_, PyMemoryView>> {
        PyMemoryView::from(Bound::new(py, Self(piece))?.as_any())
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
        let bytes: &[u8] = &slf.get().0;
        let length = bytes.len().cast_signed();
        let start = bytes.as_ptr().cast_mut().cast();
        // SAFETY: `view` may be overwritten. `start` is readable for `length` bytes as long as `slf` lives, to which the
        // view takes a reference; the class is frozen and a piece gives its buffer away only when it is dropped, so the bytes
        // neither move nor change. `readonly` is 1: Python never writes through the pointer, and a request for a writable view fails.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) };
        if filled == 0 {
            return Ok(());
        }
        // SAFETY: `view` is not null and may be overwritten; the protocol wants no owner in it after an error.
        unsafe { (*view).obj = ptr::null_mut() };
        Err(PyErr::fetch(slf.py()))
    }
}
