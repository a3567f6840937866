//! What a batch yields, as Arrow tables: the core's columns are moved into them, not copied.

use crate::schema::fields;
use alumicatalyst_core::decode::Reason;
use alumicatalyst_core::output::{
    Causes, CountRows, OUTCOMES, ReadingRows, RejectedRow, SCORE_OFF, SCORE_STATES, WindowRows,
};
use alumicatalyst_core::partition::Partition;
use alumicatalyst_core::schema::columns;
use alumicatalyst_core::window::ClosedBy;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, DictionaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_pyarrow::ToPyArrow;
use arrow_schema::{DataType, Schema};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use std::time::Duration;

/// Names by id as Arrow arrays, made anew only when the vocabulary has grown.
#[derive(Default)]
pub(crate) struct Names {
    devices: Option<ArrayRef>,
    metrics: Option<ArrayRef>,
    windows: Option<ArrayRef>,
}

impl Names {
    pub(crate) fn refresh(&mut self, partition: &Partition) {
        let vocabulary = partition.vocabulary();
        refresh(&mut self.devices, vocabulary.devices.len(), |id| vocabulary.devices.name(id as u32));
        refresh(&mut self.metrics, vocabulary.metrics.len(), |id| vocabulary.metrics.name(id as u32));
        let windows = partition.window_names();
        refresh(&mut self.windows, windows.len(), |id| &windows[id]);
    }
}

fn refresh<'a>(names: &mut Option<ArrayRef>, count: usize, name: impl Fn(usize) -> &'a str) {
    if names.as_ref().is_none_or(|array| array.len() != count) {
        *names = Some(Arc::new(StringArray::from_iter_values((0..count).map(name))));
    }
}

/// One batch's yield as Arrow tables, before it becomes a Python object.
pub(crate) struct Tables {
    partition: String,
    follows: i64,
    first: Option<i64>,
    last: i64,
    readings: RecordBatch,
    windows: RecordBatch,
    alarms: RecordBatch,
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
            readings: readings(id, output.readings, names),
            windows: windows(id, output.windows, names),
            alarms: RecordBatch::new_empty(schema("alarms")),
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

const FIELDS: [&str; 16] = [
    "partition",
    "follows",
    "first",
    "last",
    "readings",
    "windows",
    "alarms",
    "rejected",
    "counts",
    "redelivered",
    "decode_us",
    "analyse_us",
    "partition_time_us",
    "watermark_us",
    "dictionary_version",
    "dictionary_sha256",
];

#[pymethods]
impl Output {
    /// Takes every field by name: how an output that was pickled comes back.
    #[new]
    #[pyo3(signature = (**fields))]
    fn new(fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let field = |name: &str| {
            let found = fields.map(|fields| fields.get_item(name)).transpose()?.flatten();
            found.ok_or_else(|| pyo3::exceptions::PyTypeError::new_err(format!("an Output needs {name}")))
        };
        Ok(Self {
            partition: field("partition")?.extract()?,
            follows: field("follows")?.extract()?,
            first: field("first")?.extract()?,
            last: field("last")?.extract()?,
            readings: field("readings")?.unbind(),
            windows: field("windows")?.unbind(),
            alarms: field("alarms")?.unbind(),
            rejected: field("rejected")?.unbind(),
            counts: field("counts")?.unbind(),
            redelivered: field("redelivered")?.extract()?,
            decode_us: field("decode_us")?.extract()?,
            analyse_us: field("analyse_us")?.extract()?,
            partition_time_us: field("partition_time_us")?.extract()?,
            watermark_us: field("watermark_us")?.extract()?,
            dictionary_version: field("dictionary_version")?.extract()?,
            dictionary_sha256: field("dictionary_sha256")?.extract()?,
        })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        let py = slf.py();
        let fields = PyDict::new(py);
        for name in FIELDS {
            fields.set_item(name, slf.getattr(name)?)?;
        }
        Ok((slf.get_type().getattr("_restore")?, (fields,)))
    }

    #[staticmethod]
    fn _restore(fields: &Bound<'_, PyDict>) -> PyResult<Self> {
        Self::new(Some(fields))
    }

    fn __repr__(&self) -> String {
        format!("Output(partition={:?}, follows={}, last={})", self.partition, self.follows, self.last)
    }
}

fn schema(table: &str) -> Arc<Schema> {
    fields(&columns(table).expect("the tables of this file are the core's"))
}

fn table(name: &str, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema(name), columns).expect("the columns of this file follow the core's schema")
}

fn integers(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::new(ScalarBuffer::from(values), None))
}

fn floats(values: Vec<f64>) -> ArrayRef {
    Arc::new(Float64Array::new(ScalarBuffer::from(values), None))
}

/// A minimum or maximum is a reading's own value and so finite; a mean may have overflowed to null.
fn maybe_floats(values: Vec<Option<f64>>) -> ArrayRef {
    Arc::new(Float64Array::from(values))
}

fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::new(ScalarBuffer::from(values), None).with_timezone("UTC"))
}

fn maybe_times(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

/// Ids are below 2^31 (limits.rs), so they are dictionary keys as they stand.
fn named(ids: Vec<u32>, names: Option<&ArrayRef>) -> ArrayRef {
    let rows = ids.len();
    let keys = Int32Array::new(ScalarBuffer::new(Buffer::from_vec(ids), 0, rows), None);
    let names = names.map_or_else(|| new_null_array(&DataType::Utf8, 0), Arc::clone);
    Arc::new(DictionaryArray::<Int32Type>::try_new(keys, names).expect("ids are those of the vocabulary"))
}

fn coded(codes: Vec<i32>, names: &[&str]) -> ArrayRef {
    let keys = Int32Array::new(ScalarBuffer::from(codes), None);
    let names = Arc::new(StringArray::from_iter_values(names));
    Arc::new(DictionaryArray::<Int32Type>::try_new(keys, names).expect("codes are indexes of their names"))
}

fn constant(rows: usize, text: &str) -> ArrayRef {
    coded(vec![0; rows], &[text])
}

fn cause(partition: &str, causes: Causes) -> Vec<ArrayRef> {
    vec![
        constant(causes.item.len(), partition),
        integers(causes.sequence_number),
        Arc::new(Int32Array::new(ScalarBuffer::from(causes.item), None)),
        times(causes.enqueued_time),
    ]
}

fn readings(partition: &str, rows: ReadingRows, names: &Names) -> RecordBatch {
    let count = rows.value.len();
    let lateness: ArrayRef = if rows.lateness_us.is_empty() {
        new_null_array(&DataType::Int64, count)
    } else {
        let mut lateness = vec![None; count];
        for (row, late_by) in rows.lateness_us {
            lateness[row as usize] = Some(late_by);
        }
        Arc::new(Int64Array::from(lateness))
    };
    let mut columns = cause(partition, rows.cause);
    columns.extend([
        named(rows.device, names.devices.as_ref()),
        named(rows.metric, names.metrics.as_ref()),
        times(rows.event_time),
        floats(rows.value),
        Arc::new(Int16Array::new(ScalarBuffer::from(rows.quality), None)),
        coded(rows.outcome, &OUTCOMES),
        Arc::new(Int16Array::new(ScalarBuffer::from(rows.windows_missed), None)),
        lateness,
        coded(vec![SCORE_OFF; count], &SCORE_STATES),
        new_null_array(&DataType::Float32, count),
    ]);
    table("readings", columns)
}

fn windows(partition: &str, rows: WindowRows, names: &Names) -> RecordBatch {
    let count = rows.len();
    let mut columns = cause(partition, rows.cause);
    columns.extend([
        named(rows.device, names.devices.as_ref()),
        named(rows.metric, names.metrics.as_ref()),
        named(rows.window_name, names.windows.as_ref()),
        times(rows.window_start),
        times(rows.window_end),
        coded(rows.closed_by, &ClosedBy::ALL),
        integers(rows.count),
        maybe_floats(rows.mean),
        floats(rows.min),
        floats(rows.max),
        floats(rows.first),
        floats(rows.last),
        maybe_floats(rows.std),
        times(rows.first_time),
        times(rows.last_time),
        maybe_floats(rows.slope_per_s),
        Arc::new(Float32Array::new_null(count)),
    ]);
    table("windows", columns)
}

fn rejected(partition: &str, rows: &[RejectedRow]) -> RecordBatch {
    let mut causes = Causes::default();
    for row in rows {
        causes.push(row.cause);
    }
    let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let mut columns = cause(partition, causes);
    columns.extend([
        coded(rows.iter().map(|row| row.reason as i32).collect(), &names),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| format!("{} at byte {}", row.detail, row.at))))
            as ArrayRef,
        Arc::new(rows.iter().map(|row| row.device.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.metric.as_deref()).collect::<StringArray>()),
        maybe_times(rows.iter().map(|row| row.event_time).collect()),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.body))),
        integers(rows.iter().map(|row| row.body_bytes).collect()),
    ]);
    table("rejected", columns)
}

fn counts(rows: CountRows) -> RecordBatch {
    table(
        "counts",
        vec![
            integers(rows.sequence_number),
            times(rows.enqueued_time),
            integers(rows.body_bytes),
            integers(rows.total),
            integers(rows.windowed),
            integers(rows.late),
            integers(rows.duplicate),
            integers(rows.rejected),
            integers(rows.unscored),
            integers(rows.windows),
            integers(rows.alarms),
            maybe_times(rows.event_time_min),
            maybe_times(rows.event_time_max),
        ],
    )
}
