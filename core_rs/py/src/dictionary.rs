//! The compiled data dictionary, as Python sees it.

use crate::door::{raise, run};
use alumicatalyst_core::dictionary;
use pyo3::prelude::*;
use std::sync::Arc;

/// A data dictionary, checked and compiled. Immutable.
#[pyclass(frozen, module = "alumicatalyst._core")]
pub(crate) struct Dictionary {
    pub(crate) inner: Arc<dictionary::Dictionary>,
}

#[pymethods]
impl Dictionary {
    #[staticmethod]
    fn from_toml(py: Python<'_>, text: &str) -> PyResult<Self> {
        let inner = run(py, || Ok(dictionary::Dictionary::from_toml(text)?))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    #[staticmethod]
    fn from_json(py: Python<'_>, text: &str) -> PyResult<Self> {
        let inner = dictionary::Dictionary::from_json(text).map_err(|problems| raise(py, &problems.into()))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    fn to_json(&self) -> &str {
        self.inner.to_json()
    }

    #[getter]
    fn sha256(&self) -> &str {
        self.inner.sha256()
    }

    #[getter]
    fn name(&self) -> &str {
        &self.inner.compiled().name
    }

    #[getter]
    fn version(&self) -> &str {
        &self.inner.compiled().version
    }

    #[getter]
    fn properties(&self) -> Vec<&str> {
        self.inner.properties()
    }

    fn __repr__(&self) -> String {
        let compiled = self.inner.compiled();
        format!("Dictionary({:?}, version {:?}, {} series)", compiled.name, compiled.version, compiled.series.len())
    }
}
