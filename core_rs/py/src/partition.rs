//! The operator of one partition, as Python sees it.

use crate::dictionary::Dictionary;
use crate::door::{poisoned, raise, run};
use crate::envelopes::Envelopes;
use crate::output::{Output, Tables};
use crate::stored::{Stored, batches};
use crate::tables::Names;
use alumicatalyst_core::error::Error;
use alumicatalyst_core::{partition, snapshot};
use arrow_array::RecordBatch;
use arrow_pyarrow::FromPyArrow;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// State and logic of one source partition.
#[pyclass(frozen, module = "alumicatalyst._core")]
pub(crate) struct Partition {
    id: String,
    inner: Mutex<Inner>,
}

struct Inner {
    partition: partition::Partition,
    names: Names,
}

#[pymethods]
impl Partition {
    #[new]
    #[pyo3(signature = (id, dictionary, state = None))]
    fn new(py: Python<'_>, id: String, dictionary: &Dictionary, state: Option<&[u8]>) -> PyResult<Self> {
        let dictionary = Arc::clone(&dictionary.inner);
        let partition = run(py, || match state {
            None => Ok(partition::Partition::new(id.clone(), dictionary)),
            Some(state) => partition::Partition::restore(&id, dictionary, state),
        })?;
        Ok(Self { id, inner: Mutex::new(Inner { partition, names: Names::default() }) })
    }

    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    #[getter]
    fn last_sequence(&self) -> PyResult<i64> {
        self.inner.lock().map(|inner| inner.partition.last_sequence()).map_err(poisoned)
    }

    #[getter]
    fn journal_ordinal(&self) -> PyResult<i64> {
        self.inner.lock().map(|inner| inner.partition.journal_ordinal()).map_err(poisoned)
    }

    #[getter]
    fn dictionary_sha256(&self) -> PyResult<String> {
        self.inner.lock().map(|inner| inner.partition.dictionary().sha256().to_owned()).map_err(poisoned)
    }

    fn on_batch(&self, py: Python<'_>, envelopes: &Bound<'_, PyAny>) -> PyResult<Output> {
        let batch = RecordBatch::from_pyarrow_bound(envelopes).map_err(|error| {
            let error =
                Error::Envelopes(format!("couldn't read a batch of envelopes: {error}; hand in an Arrow record batch"));
            raise(py, &error)
        })?;
        self.emit(py, |partition| {
            let wanted = partition.properties().to_vec();
            let envelopes = Envelopes::of(&batch, &wanted)?;
            let (batch, start) = (envelopes.batch(), Instant::now());
            partition.decode(&batch)?;
            let decoded = Instant::now();
            let output = partition.analyse(&batch);
            Ok((output, decoded - start, decoded.elapsed()))
        })
    }

    #[pyo3(signature = (readings, rejected, others, passed, after, upto))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn on_stored(
        &self,
        py: Python<'_>,
        readings: &Bound<'_, PyAny>,
        rejected: &Bound<'_, PyAny>,
        others: &Bound<'_, PyAny>,
        passed: Vec<(i64, Option<i64>)>,
        after: i64,
        upto: i64,
    ) -> PyResult<Output> {
        let stored = Stored { readings: batches(readings)?, rejected: batches(rejected)?, others: batches(others)? };
        self.emit(py, |partition| {
            let start = Instant::now();
            let rows = stored.rows(partition, passed, after, upto)?;
            let gathered = Instant::now();
            let output = partition.on_stored(rows)?;
            Ok((output, gathered - start, gathered.elapsed()))
        })
    }

    fn flush(&self, py: Python<'_>, sequence_number: i64, ordinal: i64) -> PyResult<Output> {
        self.emit(py, |partition| {
            let start = Instant::now();
            let output = partition.flush(sequence_number, ordinal)?;
            Ok((output, std::time::Duration::ZERO, start.elapsed()))
        })
    }

    fn change_dictionary(&self, py: Python<'_>, dictionary: &Dictionary, ordinal: i64) -> PyResult<()> {
        let dictionary = Arc::clone(&dictionary.inner);
        let changed = py.detach(|| {
            let mut inner = self.inner.lock().ok()?;
            inner.partition.change_dictionary(dictionary, ordinal);
            inner.names = Names::default();
            Some(())
        });
        changed.ok_or_else(|| poisoned(()))
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let state = py.detach(|| self.inner.lock().ok().map(|inner| inner.partition.snapshot()));
        state.map(|state| PyBytes::new(py, &state)).ok_or_else(|| poisoned(()))
    }
}

type Timed = (alumicatalyst_core::output::Output, std::time::Duration, std::time::Duration);

impl Partition {
    /// Runs `work` on the partition and makes Arrow tables of what it yields, all without the GIL.
    fn emit(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut partition::Partition) -> Result<Timed, Error> + Send,
    ) -> PyResult<Output> {
        let tables = run(py, || {
            let Ok(mut inner) = self.inner.lock() else { return Ok(None) };
            let Inner { partition, names } = &mut *inner;
            let (output, decode, analyse) = work(partition)?;
            names.refresh(partition);
            Ok(Some(Tables::build(output, partition, names, decode, analyse)))
        })?;
        tables.ok_or_else(|| poisoned(()))?.into_output(py)
    }
}

/// What a state says of itself, without loading it.
#[pyfunction]
pub(crate) fn state_info<'py>(py: Python<'py>, state: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let info = run(py, || snapshot::info(state))?;
    let dict = PyDict::new(py);
    dict.set_item("format", info.format)?;
    dict.set_item("partition", info.partition)?;
    dict.set_item("last_sequence", info.last_sequence)?;
    dict.set_item("journal_ordinal", info.journal_ordinal)?;
    dict.set_item("dictionary_sha256", info.dictionary_sha256)?;
    Ok(dict)
}
