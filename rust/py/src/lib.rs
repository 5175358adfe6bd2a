//! The extension module `mdg._core`: take arguments, release the interpreter lock, call [`mdg_core`] or
//! [`mdg_local`], hand back.

use pyo3::prelude::*;

mod buffer;
mod envelope;
mod error;
mod headers;
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
