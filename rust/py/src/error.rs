//! The one map from the core's errors to the classes of `mdg.errors`.

use mdg_core::Error;
use pyo3::prelude::*;

/// The Python exception for a core error. `mdg.errors` is imported when the first error is raised.
pub(crate) fn raise(error: Error) -> PyErr {
    Python::attach(|py| match class_and_call(py, error) {
        Ok(made) | Err(made) => made,
    })
}

fn class_and_call(py: Python<'_>, error: Error) -> PyResult<PyErr> {
    let errors = py.import("mdg.errors")?;
    let made = match error {
        Error::Refused { code, part, at, why } => errors.getattr("Refused")?.call1((code.as_str(), part, why, at))?,
        Error::Unsupported { part, why } => errors.getattr("Unsupported")?.call1((part, why))?,
        Error::Source { part, why } => errors.getattr("InputOutput")?.call1((part, why))?,
        Error::Misuse { why } => errors.getattr("Misuse")?.call1((why,))?,
    };
    Ok(PyErr::from_value(made))
}
