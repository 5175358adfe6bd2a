//! The extension module `mdg._core`: take arguments, release the interpreter lock, call the core, hand back.

use pyo3::prelude::*;

mod buffer;
mod envelope;
mod error;
mod file;
mod headers;
mod index;
mod keys;
mod recipe;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    keys::register(m)?;
    headers::register(m)?;
    envelope::register(m)?;
    recipe::register(m)
}
