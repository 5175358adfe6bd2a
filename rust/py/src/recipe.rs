//! The recipe section of `mdg._core`.

use pyo3::prelude::*;

/// Adds this section to the module.
pub(crate) fn register(_m: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
