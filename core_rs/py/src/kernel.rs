//! The window stage alone, as Python sees it: columns of numbers in, closed windows out.

use crate::door::{poisoned, run};
use alumicatalyst_core::error::Error;
use alumicatalyst_core::kernel::TumblingWindows as Kernel;
use alumicatalyst_core::limits::{SERIES_MAX, TIME_MAX_US, TIME_MIN_US};
use alumicatalyst_core::series::Closed;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use arrow_schema::{DataType, Field, Schema};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex};

/// Tumbling windows with all statistics over columns of series number, event time and value.
#[pyclass(frozen, module = "alumicatalyst._core")]
pub(crate) struct TumblingWindows {
    inner: Mutex<Kernel>,
}

#[pymethods]
impl TumblingWindows {
    #[new]
    fn new(length_us: i64, out_of_orderness_us: i64) -> PyResult<Self> {
        let bound = alumicatalyst_core::limits::DURATION_MAX_US;
        if !(1..=bound).contains(&length_us) || !(0..=bound).contains(&out_of_orderness_us) {
            return Err(PyValueError::new_err(format!(
                "couldn't make windows of {length_us} us with {out_of_orderness_us} us of lateness; \
                 the length is at least 1, the lateness at least 0, both at most {bound}"
            )));
        }
        Ok(Self { inner: Mutex::new(Kernel::new(length_us, out_of_orderness_us)) })
    }

    fn on_readings<'py>(&self, py: Python<'py>, readings: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let batch = RecordBatch::from_pyarrow_bound(readings)?;
        let closed = run(py, || {
            let series = column(&batch, "series", AsArray::as_primitive_opt::<UInt32Type>)?;
            let times = column(&batch, "event_time", AsArray::as_primitive_opt::<Int64Type>)?;
            let values = column(&batch, "value", AsArray::as_primitive_opt::<Float64Type>)?;
            if let Some(number) = series.values().iter().find(|number| **number >= SERIES_MAX) {
                return Err(Error::Envelopes(format!(
                    "couldn't read a batch of readings: series {number}; number the series from 0, below {SERIES_MAX}"
                )));
            }
            if let Some(time) = times.values().iter().find(|time| !(TIME_MIN_US..=TIME_MAX_US).contains(time)) {
                return Err(Error::Envelopes(format!(
                    "couldn't read a batch of readings: event time {time} us; give times of the years 1 to 9999"
                )));
            }
            let Ok(mut kernel) = self.inner.lock() else { return Ok(None) };
            let mut rows = Vec::new();
            kernel.on_readings(series.values(), times.values(), values.values(), |closed| rows.push(*closed));
            Ok(Some(table(&rows)))
        })?;
        closed.ok_or_else(|| poisoned(()))?.to_pyarrow(py)
    }

    fn flush<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let closed = py.detach(|| {
            let mut rows = Vec::new();
            self.inner.lock().ok()?.flush(|closed| rows.push(*closed));
            Some(table(&rows))
        });
        closed.ok_or_else(|| poisoned(()))?.to_pyarrow(py)
    }
}

/// A required column of a type, without nulls.
fn column<'a, T>(
    batch: &'a RecordBatch,
    name: &str,
    of: impl Fn(&'a ArrayRef) -> Option<&'a T>,
) -> Result<&'a T, Error> {
    let found = batch.column_by_name(name).filter(|column| column.null_count() == 0);
    found.and_then(of).ok_or_else(|| {
        Error::Envelopes(format!(
            "couldn't read a batch of readings: column {name}; it needs series uint32, event_time int64 and value float64, without nulls"
        ))
    })
}

fn table(rows: &[Closed]) -> RecordBatch {
    let integers = |value: fn(&Closed) -> i64| Arc::new(rows.iter().map(value).collect::<Int64Array>()) as ArrayRef;
    let floats =
        |value: fn(&Closed) -> Option<f64>| Arc::new(rows.iter().map(value).collect::<Float64Array>()) as ArrayRef;
    let columns: [(&str, ArrayRef); 12] = [
        ("series", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.series)))),
        ("window_start", integers(|row| row.pane.start)),
        ("count", integers(|row| row.pane.stats.count as i64)),
        ("mean", floats(|row| row.pane.stats.mean())),
        ("min", floats(|row| Some(row.pane.stats.min))),
        ("max", floats(|row| Some(row.pane.stats.max))),
        ("first", floats(|row| Some(row.pane.stats.first))),
        ("last", floats(|row| Some(row.pane.stats.last))),
        ("std", floats(|row| row.pane.stats.std())),
        ("first_time", integers(|row| row.pane.stats.first_time)),
        ("last_time", integers(|row| row.pane.stats.last_time)),
        ("slope_per_s", floats(|row| row.pane.stats.slope_per_s())),
    ];
    let nullable = |kind: &DataType| *kind == DataType::Float64;
    let fields = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), nullable(column.data_type())));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect())
        .expect("columns of one length")
}
