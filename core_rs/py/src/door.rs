//! The one doorway between Python and the core: releases the GIL, runs, and turns errors into Python's.

use alumicatalyst_core::dictionary::Problems;
use alumicatalyst_core::error::Error;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

/// Runs `work` without the GIL.
pub(crate) fn run<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, Error> + Send) -> PyResult<T> {
    py.detach(work).map_err(|error| raise(py, &error))
}

/// The exception of `alumicatalyst.errors` that an error stands for.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error {
        Error::Dictionary(_) => "DictionaryError",
        Error::State(_) => "StateError",
        Error::Envelopes(_) | Error::Rows(_) => return PyValueError::new_err(error.to_string()),
    };
    let made = py.import("alumicatalyst.errors").and_then(|errors| {
        let class = errors.getattr(name)?;
        let exception = match error {
            Error::Dictionary(problems) => class.call1((PyList::new(py, lines(problems))?,))?,
            _ => class.call1((error.to_string(),))?,
        };
        Ok(PyErr::from_value(exception))
    });
    made.unwrap_or_else(|error| error)
}

fn lines(problems: &Problems) -> Vec<String> {
    let mut lines: Vec<String> = problems.as_slice().iter().map(ToString::to_string).collect();
    if problems.omitted() > 0 {
        lines.push(format!("and {} more", problems.omitted()));
    }
    lines
}

/// A panic in the core poisons its partition; what it held is not to be trusted any more.
pub(crate) fn poisoned<T>(_: T) -> PyErr {
    PyRuntimeError::new_err("this partition failed before and can't be used; start again from its last state")
}
