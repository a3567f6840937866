//! A batch of envelopes, from any Arrow object to the slices that the core reads. Nothing is copied but property names.

use alumicatalyst_core::error::Error;
use alumicatalyst_core::partition::Batch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, LargeBinaryArray, RecordBatch};

/// The columns of one batch, their types checked.
pub(crate) struct Envelopes<'a> {
    bodies: &'a LargeBinaryArray,
    sequence_numbers: &'a [i64],
    enqueued_times: &'a [i64],
    properties: Vec<Option<&'a str>>,
}

impl<'a> Envelopes<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, wanted: &[String]) -> Result<Self, Error> {
        let bodies =
            column(batch, "body")?.as_binary_opt::<i64>().ok_or_else(|| mistyped(batch, "body", "large_binary"))?;
        let sequence_numbers = column(batch, "sequence_number")?
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| mistyped(batch, "sequence_number", "int64"))?;
        let enqueued_times = column(batch, "enqueued_time")?
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| mistyped(batch, "enqueued_time", "timestamp[us, UTC]"))?;
        let properties = if wanted.is_empty() { Vec::new() } else { properties(batch, wanted)? };
        Ok(Self {
            bodies,
            sequence_numbers: sequence_numbers.values(),
            enqueued_times: enqueued_times.values(),
            properties,
        })
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            bodies: self.bodies.value_data(),
            offsets: self.bodies.value_offsets(),
            sequence_numbers: self.sequence_numbers,
            enqueued_times: self.enqueued_times,
            properties: &self.properties,
        }
    }
}

/// A required column without nulls.
fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    let column = batch.column_by_name(name).ok_or_else(|| {
        Error::Envelopes(format!(
            "couldn't read a batch of envelopes: there is no column {name}; see schema(\"envelopes\")"
        ))
    })?;
    if column.null_count() > 0 {
        return Err(Error::Envelopes(format!(
            "couldn't read a batch of envelopes: column {name} holds nulls; fill or drop them"
        )));
    }
    Ok(column)
}

fn mistyped(batch: &RecordBatch, name: &str, expected: &str) -> Error {
    let found = batch.column_by_name(name).map(|column| column.data_type().to_string()).unwrap_or_default();
    Error::Envelopes(format!("couldn't read a batch of envelopes: column {name} is {found}; make it {expected}"))
}

/// For each envelope the wanted properties, row-major; of a name that occurs twice the first counts.
fn properties<'a>(batch: &'a RecordBatch, wanted: &[String]) -> Result<Vec<Option<&'a str>>, Error> {
    let mut found = vec![None; batch.num_rows() * wanted.len()];
    let Some(column) = batch.column_by_name("properties").filter(|column| column.null_count() < column.len()) else {
        return Ok(found);
    };
    let expected = || mistyped(batch, "properties", "map<string, string>");
    let map = column.as_map_opt().ok_or_else(expected)?;
    let keys = map.keys().as_string_opt::<i32>().ok_or_else(expected)?;
    let values = map.values().as_string_opt::<i32>().ok_or_else(expected)?;
    for row in (0..map.len()).filter(|row| map.is_valid(*row)) {
        let entries = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
        for entry in entries.rev().filter(|entry| values.is_valid(*entry)) {
            if let Some(at) = wanted.iter().position(|name| name == keys.value(entry)) {
                found[row * wanted.len() + at] = Some(values.value(entry));
            }
        }
    }
    Ok(found)
}
