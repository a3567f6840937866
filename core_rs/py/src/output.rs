//! What a batch yields, as Python sees it.

use crate::tables::{Names, alarms, counts, latest, readings, rejected, windows};
use alumicatalyst_core::partition::Partition;
use arrow_array::RecordBatch;
use arrow_pyarrow::ToPyArrow;
use pyo3::prelude::*;
use std::time::Duration;

/// One batch's yield as Arrow tables, before it becomes a Python object.
pub(crate) struct Tables {
    partition: String,
    follows: i64,
    first: Option<i64>,
    last: i64,
    readings: RecordBatch,
    windows: RecordBatch,
    alarms: RecordBatch,
    latest: RecordBatch,
    rejected: RecordBatch,
    counts: RecordBatch,
    redelivered: i64,
    decode: Duration,
    analyse: Duration,
    partition_time_us: Option<i64>,
    watermark_us: Option<i64>,
    dictionary_version: String,
    dictionary_sha256: String,
}

impl Tables {
    pub(crate) fn build(
        output: alumicatalyst_core::output::Output,
        partition: &Partition,
        names: &Names,
        decode: Duration,
        analyse: Duration,
    ) -> Self {
        let id = partition.id();
        Self {
            partition: id.to_owned(),
            follows: output.follows,
            first: output.first,
            last: output.last,
            latest: latest(id, &output.readings, &output.latest, names),
            readings: readings(id, output.readings, names),
            windows: windows(id, output.windows, names),
            alarms: alarms(id, &output.alarms),
            rejected: rejected(id, &output.rejected),
            counts: counts(output.counts),
            redelivered: output.redelivered,
            decode,
            analyse,
            partition_time_us: output.partition_time,
            watermark_us: output.watermark,
            dictionary_version: partition.dictionary().compiled().version.clone(),
            dictionary_sha256: partition.dictionary().sha256().to_owned(),
        }
    }

    pub(crate) fn into_output(self, py: Python<'_>) -> PyResult<Output> {
        let table = |batch: &RecordBatch| batch.to_pyarrow(py).map(Bound::unbind);
        Ok(Output {
            readings: table(&self.readings)?,
            windows: table(&self.windows)?,
            alarms: table(&self.alarms)?,
            latest: table(&self.latest)?,
            rejected: table(&self.rejected)?,
            counts: table(&self.counts)?,
            partition: self.partition,
            follows: self.follows,
            first: self.first,
            last: self.last,
            redelivered: self.redelivered,
            decode_us: self.decode.as_micros() as i64,
            analyse_us: self.analyse.as_micros() as i64,
            partition_time_us: self.partition_time_us,
            watermark_us: self.watermark_us,
            dictionary_version: self.dictionary_version,
            dictionary_sha256: self.dictionary_sha256,
        })
    }
}

/// Everything that a batch of envelopes yields.
#[pyclass(frozen, get_all, module = "alumicatalyst._core")]
pub(crate) struct Output {
    partition: String,
    follows: i64,
    first: Option<i64>,
    last: i64,
    readings: Py<PyAny>,
    windows: Py<PyAny>,
    alarms: Py<PyAny>,
    latest: Py<PyAny>,
    rejected: Py<PyAny>,
    counts: Py<PyAny>,
    redelivered: i64,
    decode_us: i64,
    analyse_us: i64,
    partition_time_us: Option<i64>,
    watermark_us: Option<i64>,
    dictionary_version: String,
    dictionary_sha256: String,
}

#[pymethods]
impl Output {
    fn __repr__(&self) -> String {
        format!("Output(partition={:?}, follows={}, last={})", self.partition, self.follows, self.last)
    }
}
