//! The window stage alone, as Python sees it: columns of numbers in, closed windows out.

use crate::door::{poisoned, run};
use alumicatalyst_core::error::Error;
use alumicatalyst_core::kernel::FixedWindows as Kernel;
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

/// Tumbling or hopping windows with all statistics over columns of series number, event time and value.
#[pyclass(frozen, module = "alumicatalyst._core")]
pub(crate) struct FixedWindows {
    inner: Mutex<Kernel>,
}

#[pymethods]
impl FixedWindows {
    #[new]
    fn new(length_us: i64, hop_us: i64, out_of_orderness_us: i64) -> PyResult<Self> {
        let bound = alumicatalyst_core::limits::DURATION_MAX_US;
        let sound = (1..=bound).contains(&length_us)
            && (1..=length_us).contains(&hop_us)
            && length_us % hop_us == 0
            && (0..=bound).contains(&out_of_orderness_us);
        if !sound {
            return Err(PyValueError::new_err(format!(
                "couldn't make windows of {length_us} us every {hop_us} us with {out_of_orderness_us} us of lateness; \
                 the length is a multiple of the hop, which is at least 1, the lateness at least 0, all at most {bound}"
            )));
        }
        Ok(Self { inner: Mutex::new(Kernel::new(length_us, hop_us, out_of_orderness_us)) })
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
            let mut rows = Rows::default();
            kernel.on_readings(series.values(), times.values(), values.values(), |closed| rows.push(closed));
            Ok(Some(rows.into_table()))
        })?;
        closed.ok_or_else(|| poisoned(()))?.to_pyarrow(py)
    }

    fn flush<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let closed = py.detach(|| {
            let mut rows = Rows::default();
            self.inner.lock().ok()?.flush(|closed| rows.push(closed));
            Some(rows.into_table())
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

/// Closed windows, a column each.
#[derive(Default)]
struct Rows {
    series: Vec<u32>,
    window_start: Vec<i64>,
    count: Vec<i64>,
    mean: Vec<Option<f64>>,
    min: Vec<f64>,
    max: Vec<f64>,
    first: Vec<f64>,
    last: Vec<f64>,
    std: Vec<Option<f64>>,
    first_time: Vec<i64>,
    last_time: Vec<i64>,
    slope_per_s: Vec<Option<f64>>,
}

impl Rows {
    fn push(&mut self, closed: &Closed) {
        let stats = &closed.stats;
        self.series.push(closed.series);
        self.window_start.push(closed.start);
        self.count.push(stats.count as i64);
        self.mean.push(stats.mean());
        self.min.push(stats.min);
        self.max.push(stats.max);
        self.first.push(stats.first);
        self.last.push(stats.last);
        self.std.push(stats.std());
        self.first_time.push(stats.first_time);
        self.last_time.push(stats.last_time);
        self.slope_per_s.push(stats.slope_per_s());
    }

    fn into_table(self) -> RecordBatch {
        let columns: [(&str, ArrayRef); 12] = [
            ("series", Arc::new(UInt32Array::from(self.series))),
            ("window_start", Arc::new(Int64Array::from(self.window_start))),
            ("count", Arc::new(Int64Array::from(self.count))),
            ("mean", Arc::new(Float64Array::from(self.mean))),
            ("min", Arc::new(Float64Array::from(self.min))),
            ("max", Arc::new(Float64Array::from(self.max))),
            ("first", Arc::new(Float64Array::from(self.first))),
            ("last", Arc::new(Float64Array::from(self.last))),
            ("std", Arc::new(Float64Array::from(self.std))),
            ("first_time", Arc::new(Int64Array::from(self.first_time))),
            ("last_time", Arc::new(Int64Array::from(self.last_time))),
            ("slope_per_s", Arc::new(Float64Array::from(self.slope_per_s))),
        ];
        let field = |(name, column): &(&str, ArrayRef)| {
            Field::new(*name, column.data_type().clone(), *column.data_type() == DataType::Float64)
        };
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        RecordBatch::try_new(schema, columns).expect("columns of one length")
    }
}
