//! Pieces of a stream as Python bytes objects that Rust fills in place: no copy of them is made on their way to a socket.
//!
//! A server takes bytes and passes the same object on, where a view of other memory would be copied. So a piece is made in
//! a new bytes object, by any thread and without the interpreter lock, and Python learns of the object when it is full.
//!
//! This is the only file of the module with `unsafe`.

use std::{ptr, slice};

use mdg_core::{Error, Result};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A new bytes object that nobody else knows.
pub(crate) struct NewBytes {
    object: Py<PyBytes>,
    start: *mut u8,
    length: usize,
    /// Whether its memory holds anything yet.
    written: bool,
}

// SAFETY: `start` points into `object`, which moves along and which no other value refers to until `give` consumes this
// one; bytes objects never move their content.
unsafe impl Send for NewBytes {}

impl NewBytes {
    /// Room for `length` bytes. [`Error::Source`] when memory has run out.
    pub(crate) fn new(py: Python<'_>, length: usize) -> Result<Self> {
        let no_memory = |_| Error::source("stream", "no memory for a piece");
        // SAFETY: with a null pointer the call makes an object whose content the caller writes before anybody sees it.
        let object = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), length.cast_signed()) };
        // SAFETY: the call gave an owned reference, or null with an exception set.
        let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }.map_err(no_memory)?;
        let object = object.cast_into::<PyBytes>().map_err(|_| Error::misuse("the call makes bytes objects"))?;
        // SAFETY: `object` is a bytes object.
        let start = unsafe { ffi::PyBytes_AsString(object.as_ptr()) }.cast();
        Ok(Self { object: object.unbind(), start, length, written: false })
    }

    /// The object, which nobody writes any more.
    pub(crate) fn give(self, py: Python<'_>) -> Bound<'_, PyBytes> {
        self.object.into_bound(py)
    }
}

impl AsMut<[u8]> for NewBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        if !self.written {
            // SAFETY: `start` is writable for `length` bytes: a bytes object has room for them, and nobody else knows this
            // one. (For no bytes Python shares one object, of which nothing is written.)
            unsafe { ptr::write_bytes(self.start, 0, self.length) };
            self.written = true;
        }
        // SAFETY: as above, and all bytes have been written once; the borrow of `self` keeps the object alive and unshared.
        unsafe { slice::from_raw_parts_mut(self.start, self.length) }
    }
}
