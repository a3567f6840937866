//! A batch's yield as Arrow tables: the core's columns are moved into them, not copied.

use crate::schema::fields;
use alumicatalyst_core::alarm::{PRIORITIES, Transition};
use alumicatalyst_core::decode::Reason;
use alumicatalyst_core::output::{
    AlarmRow, Causes, CountRows, OUTCOMES, ReadingRows, RejectedRow, SCORE_STATES, WindowRows,
};
use alumicatalyst_core::partition::Partition;
use alumicatalyst_core::schema::columns;
use alumicatalyst_core::window::ClosedBy;
use arrow_array::types::{ArrowPrimitiveType, Float32Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, DictionaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    PrimitiveArray, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Schema};
use std::sync::Arc;

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

/// A column that is null but for a few rows.
fn sparse<T: ArrowPrimitiveType>(count: usize, values: Vec<(u32, T::Native)>) -> ArrayRef {
    if values.is_empty() {
        return new_null_array(&T::DATA_TYPE, count);
    }
    let mut valid = BooleanBufferBuilder::new(count);
    valid.append_n(count, false);
    let mut all = vec![T::Native::default(); count];
    for (row, value) in values {
        all[row as usize] = value;
        valid.set_bit(row as usize, true);
    }
    let valid = NullBuffer::new(valid.finish());
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(all), Some(valid)))
}

/// Names of rows that are too few to have a vocabulary.
fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<DictionaryArray<Int32Type>>())
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

pub(crate) fn readings(partition: &str, rows: ReadingRows, names: &Names) -> RecordBatch {
    let count = rows.value.len();
    let mut columns = cause(partition, rows.cause);
    columns.extend([
        named(rows.device, names.devices.as_ref()),
        named(rows.metric, names.metrics.as_ref()),
        times(rows.event_time),
        floats(rows.value),
        Arc::new(Int16Array::new(ScalarBuffer::from(rows.quality), None)),
        coded(rows.outcome, &OUTCOMES),
        Arc::new(Int16Array::new(ScalarBuffer::from(rows.windows_missed), None)),
        sparse::<Int64Type>(count, rows.lateness_us),
        coded(rows.score_state, &SCORE_STATES),
        sparse::<Float32Type>(count, rows.score),
    ]);
    table("readings", columns)
}

pub(crate) fn windows(partition: &str, rows: WindowRows, names: &Names) -> RecordBatch {
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
        Arc::new(Float32Array::from(rows.score_max)),
    ]);
    table("windows", columns)
}

pub(crate) fn alarms(partition: &str, rows: &[AlarmRow]) -> RecordBatch {
    let mut causes = Causes::default();
    for row in rows {
        causes.push(row.cause);
    }
    let plain =
        |text: fn(&AlarmRow) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(text))) as ArrayRef;
    let mut columns = cause(partition, causes);
    columns.extend([
        plain(|row| &row.alarm_id),
        Arc::new(rows.iter().map(|row| row.step).collect::<Int32Array>()),
        coded(rows.iter().map(|row| row.transition as i32).collect(), &Transition::ALL),
        texts(rows.iter().map(|row| Some(row.device.as_str()))),
        texts(rows.iter().map(|row| Some(row.metric.as_str()))),
        texts(rows.iter().map(|row| row.asset.as_deref())),
        texts(rows.iter().map(|row| Some(row.rule.as_str()))),
        coded(rows.iter().map(|row| row.priority).collect(), &PRIORITIES),
        times(rows.iter().map(|row| row.onset_time).collect()),
        times(rows.iter().map(|row| row.event_time).collect()),
        floats(rows.iter().map(|row| row.value).collect()),
        maybe_floats(rows.iter().map(|row| row.threshold).collect()),
        floats(rows.iter().map(|row| row.peak).collect()),
        Arc::new(rows.iter().map(|row| row.score.map(|score| score as f32)).collect::<Float32Array>()),
        plain(|row| &row.message),
    ]);
    table("alarms", columns)
}

/// The rows of `readings` that are the newest of their series.
pub(crate) fn latest(partition: &str, readings: &ReadingRows, rows: &[u32], names: &Names) -> RecordBatch {
    fn at<T: Copy>(column: &[T], rows: &[u32]) -> Vec<T> {
        rows.iter().map(|row| column[*row as usize]).collect()
    }
    let causes = Causes {
        sequence_number: at(&readings.cause.sequence_number, rows),
        item: at(&readings.cause.item, rows),
        enqueued_time: at(&readings.cause.enqueued_time, rows),
    };
    let mut columns = cause(partition, causes);
    columns.extend([
        named(at(&readings.device, rows), names.devices.as_ref()),
        named(at(&readings.metric, rows), names.metrics.as_ref()),
        times(at(&readings.event_time, rows)),
        floats(at(&readings.value, rows)),
        Arc::new(Int16Array::from(at(&readings.quality, rows))),
    ]);
    table("latest", columns)
}

pub(crate) fn rejected(partition: &str, rows: &[RejectedRow]) -> RecordBatch {
    let mut causes = Causes::default();
    for row in rows {
        causes.push(row.cause);
    }
    let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let mut columns = cause(partition, causes);
    columns.extend([
        coded(rows.iter().map(|row| row.reason as i32).collect(), &names),
        Arc::new(StringArray::from_iter_values(rows.iter().map(detail))) as ArrayRef,
        Arc::new(rows.iter().map(|row| row.device.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.metric.as_deref()).collect::<StringArray>()),
        maybe_times(rows.iter().map(|row| row.event_time).collect()),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.body))),
        integers(rows.iter().map(|row| row.body_bytes).collect()),
    ]);
    table("rejected", columns)
}

fn detail(row: &RejectedRow) -> String {
    row.at.map_or_else(|| row.detail.to_string(), |at| format!("{} at byte {at}", row.detail))
}

pub(crate) fn counts(rows: CountRows) -> RecordBatch {
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
