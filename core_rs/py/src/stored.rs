//! Rows that a lake holds, from Arrow tables as they were read to the columns that the core takes in.

use alumicatalyst_core::decode::Reason;
use alumicatalyst_core::error::Error;
use alumicatalyst_core::output::{Cause, RejectedRow};
use alumicatalyst_core::partition::{Partition, StoredRows};
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_pyarrow::FromPyArrow;
use pyo3::prelude::*;
use std::borrow::Cow;

/// Tables of any number of partitions, whose rows stand in any order.
pub(crate) struct Stored {
    pub(crate) readings: Vec<RecordBatch>,
    pub(crate) rejected: Vec<RecordBatch>,
    /// Tables that only tell of which envelopes there are rows.
    pub(crate) others: Vec<RecordBatch>,
}

pub(crate) fn batches(from: &Bound<'_, PyAny>) -> PyResult<Vec<RecordBatch>> {
    from.try_iter()?.map(|batch| RecordBatch::from_pyarrow_bound(&batch?)).collect()
}

impl Stored {
    /// The partition's rows with sequence numbers above `after` and up to `upto`.
    pub(crate) fn rows(
        &self,
        partition: &Partition,
        passed: Vec<(i64, Option<i64>)>,
        after: i64,
        upto: i64,
    ) -> Result<StoredRows, Error> {
        let mut rows = StoredRows::new(passed);
        rows.reserve(self.readings.iter().map(RecordBatch::num_rows).sum());
        for batch in &self.readings {
            readings(partition, batch, after, upto, &mut rows)?;
        }
        for batch in &self.rejected {
            rejected(partition, batch, after, upto, &mut rows)?;
        }
        for batch in &self.others {
            let chosen = chosen(partition, batch, after, upto)?;
            let (numbers, times) = (integers::<Int64Type>(batch, "sequence_number")?, times(batch, "enqueued_time")?);
            rows.others.extend(chosen.iter().map(|row| (numbers[*row], times[*row])));
        }
        Ok(rows)
    }
}

fn readings(
    partition: &Partition,
    batch: &RecordBatch,
    after: i64,
    upto: i64,
    rows: &mut StoredRows,
) -> Result<(), Error> {
    fn pick<T: Copy>(to: &mut Vec<T>, from: &[T], chosen: &[usize]) {
        if chosen.len() == from.len() {
            to.extend_from_slice(from);
        } else {
            to.extend(chosen.iter().map(|row| from[*row]));
        }
    }
    let chosen = chosen(partition, batch, after, upto)?;
    pick(&mut rows.sequence_number, integers::<Int64Type>(batch, "sequence_number")?, &chosen);
    pick(&mut rows.item, integers::<Int32Type>(batch, "item")?, &chosen);
    pick(&mut rows.enqueued_time, times(batch, "enqueued_time")?, &chosen);
    pick(&mut rows.event_time, times(batch, "event_time")?, &chosen);
    pick(&mut rows.value, integers::<Float64Type>(batch, "value")?, &chosen);
    pick(&mut rows.quality, integers::<Int16Type>(batch, "quality")?, &chosen);
    let names = partition.stored_names();
    let devices = Texts::of(batch, "device")?;
    let ids: Vec<u32> = devices.names.iter().map(|name| rows.name(&names.devices, name.unwrap_or_default())).collect();
    rows.device.extend(chosen.iter().map(|row| ids[devices.code(*row)]));
    let metrics = Texts::of(batch, "metric")?;
    let ids: Vec<u32> = metrics.names.iter().map(|name| rows.name(&names.metrics, name.unwrap_or_default())).collect();
    rows.metric.extend(chosen.iter().map(|row| ids[metrics.code(*row)]));
    Ok(())
}

fn rejected(
    partition: &Partition,
    batch: &RecordBatch,
    after: i64,
    upto: i64,
    rows: &mut StoredRows,
) -> Result<(), Error> {
    let numbers = integers::<Int64Type>(batch, "sequence_number")?;
    let (items, enqueued) = (integers::<Int32Type>(batch, "item")?, times(batch, "enqueued_time")?);
    let (reasons, details) = (Texts::of(batch, "reason")?, Texts::of(batch, "detail")?);
    let (devices, metrics) = (Texts::maybe(batch, "device")?, Texts::maybe(batch, "metric")?);
    let event_times = typed::<TimestampMicrosecondType>(batch, "event_time")?;
    let bodies = column(batch, "body")?.as_binary_opt::<i32>().ok_or_else(|| mistyped(batch, "body"))?;
    let lengths = integers::<Int64Type>(batch, "body_bytes")?;
    for row in chosen(partition, batch, after, upto)? {
        let name = reasons.text(row).unwrap_or_default();
        let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == name).ok_or_else(|| {
            Error::Rows(format!("couldn't take in stored rows: the reason {name:?} is of a newer version; use that"))
        })?;
        rows.rejected.push(RejectedRow {
            cause: Cause { sequence_number: numbers[row], item: items[row], enqueued_time: enqueued[row] },
            reason,
            detail: Cow::Owned(details.text(row).unwrap_or_default().to_owned()),
            at: None,
            device: devices.text(row).map(str::to_owned),
            metric: metrics.text(row).map(str::to_owned),
            event_time: event_times.is_valid(row).then(|| event_times.value(row)),
            body: bodies.value(row).to_vec(),
            body_bytes: lengths[row],
        });
    }
    Ok(())
}

/// Which rows are the partition's, between two sequence numbers.
fn chosen(partition: &Partition, batch: &RecordBatch, after: i64, upto: i64) -> Result<Vec<usize>, Error> {
    let after = after.max(partition.last_sequence());
    let partitions = Texts::of(batch, "partition")?;
    let own: Vec<bool> = partitions.names.iter().map(|name| name == Some(partition.id())).collect();
    let numbers = integers::<Int64Type>(batch, "sequence_number")?;
    let within = |row: &usize| after < numbers[*row] && numbers[*row] <= upto && own[partitions.code(*row)];
    Ok((0..batch.num_rows()).filter(within).collect())
}

/// A column of texts, told once each or row by row.
struct Texts<'a> {
    names: &'a StringArray,
    keys: Option<&'a [i32]>,
    array: &'a ArrayRef,
}

impl<'a> Texts<'a> {
    fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, Error> {
        column(batch, name)?;
        Self::maybe(batch, name)
    }

    fn maybe(batch: &'a RecordBatch, name: &str) -> Result<Self, Error> {
        let array = nullable(batch, name)?;
        let coded = array.as_dictionary_opt::<Int32Type>();
        let values = coded.map_or(array, |coded| coded.values());
        let names = values.as_string_opt::<i32>().ok_or_else(|| mistyped(batch, name))?;
        Ok(Self { names, keys: coded.map(|coded| coded.keys().values().as_ref()), array })
    }

    fn code(&self, row: usize) -> usize {
        self.keys.map_or(row, |keys| keys[row] as usize)
    }

    fn text(&self, row: usize) -> Option<&'a str> {
        self.array.is_valid(row).then(|| self.names.value(self.code(row)))
    }
}

fn integers<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &str) -> Result<&'a [T::Native], Error> {
    column(batch, name)?;
    Ok(typed::<T>(batch, name)?.values())
}

fn times<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [i64], Error> {
    integers::<TimestampMicrosecondType>(batch, name)
}

fn typed<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a arrow_array::PrimitiveArray<T>, Error> {
    nullable(batch, name)?.as_primitive_opt::<T>().ok_or_else(|| mistyped(batch, name))
}

/// A column without nulls.
fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    let column = nullable(batch, name)?;
    if column.null_count() > 0 {
        return Err(Error::Rows(format!(
            "couldn't take in stored rows: column {name} holds nulls; see `alumicatalyst lake doctor`"
        )));
    }
    Ok(column)
}

fn nullable<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    batch.column_by_name(name).ok_or_else(|| {
        Error::Rows(format!("couldn't take in stored rows: there is no column {name}; see stored_schema()"))
    })
}

fn mistyped(batch: &RecordBatch, name: &str) -> Error {
    let found = batch.column_by_name(name).map(|column| column.data_type().to_string()).unwrap_or_default();
    Error::Rows(format!("couldn't take in stored rows: column {name} is {found}; see stored_schema()"))
}
