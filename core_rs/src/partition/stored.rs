//! The second way in: rows that a lake holds, in place of the bodies that they were decoded from.
//!
//! What a body said is canonical by now: values are in their unit, names are the dictionary's. Everything else is decided
//! anew and in the same order as behind the decoder, so the same dictionary gives the same rows, bit for bit. What was
//! rejected cannot be decoded again and is carried over.

use super::{Batch, Partition};
use crate::decode::{FRESH, Vocabulary};
use crate::error::Error;
use crate::limits::{REJECTED_READING_BYTES_MAX, TIME_MAX_US, TIME_MIN_US};
use crate::names::Names;
use crate::output::{Cause, Output, RejectedRow};
use hashbrown::HashMap;
use serde_json::Value;
use std::borrow::Cow;

/// Rows of one partition, each table in any order.
#[derive(Debug, Default)]
pub struct StoredRows {
    pub sequence_number: Vec<i64>,
    pub item: Vec<i32>,
    pub enqueued_time: Vec<i64>,
    /// Ids as [`StoredRows::name`] gives them.
    pub device: Vec<u32>,
    pub metric: Vec<u32>,
    pub event_time: Vec<i64>,
    pub value: Vec<f64>,
    pub quality: Vec<i16>,
    pub rejected: Vec<RejectedRow>,
    /// Envelopes that left other rows, windows for one: sequence number and enqueued time.
    pub others: Vec<(i64, i64)>,
    /// Envelopes that are known to have passed and left no row; without a time they leave partition time as it is.
    pub passed: Vec<(i64, Option<i64>)>,
    fresh: Vec<Box<str>>,
    fresh_ids: HashMap<Box<str>, u32, foldhash::fast::RandomState>,
}

impl StoredRows {
    /// None yet but for those that have passed.
    pub fn new(passed: Vec<(i64, Option<i64>)>) -> Self {
        Self { passed, ..Self::default() }
    }

    /// Makes room for so many readings.
    pub fn reserve(&mut self, readings: usize) {
        self.sequence_number.reserve(readings);
        self.item.reserve(readings);
        self.enqueued_time.reserve(readings);
        self.device.reserve(readings);
        self.metric.reserve(readings);
        self.event_time.reserve(readings);
        self.value.reserve(readings);
        self.quality.reserve(readings);
    }

    /// The id of a device's or metric's name, for the partition whose vocabulary this is.
    pub fn name(&mut self, names: &Names, name: &str) -> u32 {
        if let Some(id) = names.get(name).or_else(|| self.fresh_ids.get(name).copied()) {
            return id;
        }
        let id = FRESH | self.fresh.len() as u32;
        self.fresh.push(name.into());
        self.fresh_ids.insert(name.into(), id);
        id
    }

    /// The readings in the order of the log: their keys, and their rows.
    fn order(&self) -> Order {
        let (least, most) = span(&self.sequence_number);
        let items = u64::from(self.item.iter().copied().max().unwrap_or_default().max(0).unsigned_abs());
        let bits = u64::BITS - items.leading_zeros();
        let negative = self.item.iter().any(|item| *item < 0);
        let range = most.wrapping_sub(least) as u64;
        if negative || range.leading_zeros() < bits {
            // Numbers too far apart for one key; no log of a hub has such.
            let mut rows: Vec<u32> = (0..self.value.len() as u32).collect();
            rows.sort_by_key(|row| (self.sequence_number[*row as usize], self.item[*row as usize]));
            let at = |row: &u32| (self.sequence_number[*row as usize], self.item[*row as usize]);
            return Order { places: rows.iter().map(at).collect(), rows };
        }
        let key = |(number, item): (&i64, &i32)| ((number.wrapping_sub(least) as u64) << bits) | *item as u64;
        let keys = self.sequence_number.iter().zip(&self.item).map(key);
        let keyed = sorted(keys.zip(0..).collect(), (range << bits) | items);
        let place = |key: u64| (least.wrapping_add((key >> bits) as i64), (key & ((1 << bits) - 1)) as i32);
        Order {
            places: keyed.iter().map(|(key, _)| place(*key)).collect(),
            rows: keyed.iter().map(|(_, row)| *row).collect(),
        }
    }

    /// Every envelope above a sequence number once, in order: number and enqueued time.
    fn envelopes(&self, order: &Order, after: i64) -> Vec<(i64, i64)> {
        let mut envelopes: Vec<(i64, i64)> = Vec::new();
        for ((number, _), row) in order.places.iter().zip(&order.rows) {
            if envelopes.last().is_none_or(|(last, _)| last != number) {
                envelopes.push((*number, self.enqueued_time[*row as usize]));
            }
        }
        envelopes.extend(self.rejected.iter().map(|row| (row.cause.sequence_number, row.cause.enqueued_time)));
        envelopes.extend(&self.others);
        envelopes.extend(self.passed.iter().map(|(number, time)| (*number, time.unwrap_or(i64::MIN))));
        // Stable, so that of several rows of an envelope the ones that know most stay in front.
        envelopes.sort_by_key(|(number, _)| *number);
        envelopes.dedup_by_key(|(number, _)| *number);
        envelopes.retain(|(number, _)| *number > after);
        envelopes
    }

    fn validate(&self, after: i64) -> Result<(), Error> {
        let rows = self.value.len();
        let lengths = [
            self.sequence_number.len(),
            self.item.len(),
            self.enqueued_time.len(),
            self.device.len(),
            self.metric.len(),
            self.event_time.len(),
            self.quality.len(),
        ];
        let problem = if lengths.iter().any(|length| *length != rows) {
            "its columns don't fit together"
        } else if self.sequence_number.iter().any(|number| *number <= after)
            || self.rejected.iter().any(|row| row.cause.sequence_number <= after)
        {
            "a sequence number is not after the last one"
        } else if !self.value.iter().all(|value| value.is_finite()) {
            "a value is not finite"
        } else if !self.event_time.iter().all(|time| (TIME_MIN_US..=TIME_MAX_US).contains(time)) {
            "an event time is outside the years 1 to 9999"
        } else {
            return Ok(());
        };
        Err(Error::Rows(format!("couldn't take in stored rows: {problem}; see `alumicatalyst lake doctor`")))
    }
}

impl Partition {
    /// Takes in rows that lie behind the last sequence number, as if their envelopes had come again.
    pub fn on_stored(&mut self, mut rows: StoredRows) -> Result<Output, Error> {
        rows.validate(self.last_sequence)?;
        let order = rows.order();
        let mut envelopes = rows.envelopes(&order, self.last_sequence);
        let mut newest = self.newest_enqueued.unwrap_or(TIME_MIN_US);
        for (_, enqueued_time) in &mut envelopes {
            *enqueued_time = if *enqueued_time == i64::MIN { newest } else { *enqueued_time };
            newest = newest.max(*enqueued_time);
        }
        self.gather(&mut rows, &order, &envelopes);
        let (sequence_numbers, enqueued_times): (Vec<i64>, Vec<i64>) = envelopes.into_iter().unzip();
        let batch = Batch {
            bodies: &[],
            offsets: &vec![0; sequence_numbers.len() + 1],
            sequence_numbers: &sequence_numbers,
            enqueued_times: &enqueued_times,
            properties: &[],
        };
        self.skip.clear();
        self.skip.resize(sequence_numbers.len(), false);
        self.catalog.take_canonical(true);
        let mut output = self.analyse(&batch);
        self.catalog.take_canonical(false);
        tell_refused(&mut output, &rows, &order);
        carry_over(&mut output, rows.rejected);
        Ok(output)
    }

    /// Puts the readings where the decoder would have put them.
    fn gather(&mut self, rows: &mut StoredRows, order: &Order, envelopes: &[(i64, i64)]) {
        fn pick<T: Copy>(to: &mut Vec<T>, from: &[T], order: &[u32]) {
            to.extend(order.iter().map(|row| from[*row as usize]));
        }
        let decoded = &mut self.decoded;
        decoded.clear();
        let mut envelope = 0;
        for (number, item) in &order.places {
            while envelopes[envelope].0 < *number {
                envelope += 1;
            }
            decoded.envelope.push(envelope as u32);
            decoded.item.push(*item);
        }
        pick(&mut decoded.device, &rows.device, &order.rows);
        pick(&mut decoded.metric, &rows.metric, &order.rows);
        pick(&mut decoded.event_time, &rows.event_time, &order.rows);
        pick(&mut decoded.value, &rows.value, &order.rows);
        pick(&mut decoded.quality, &rows.quality, &order.rows);
        decoded.start.resize(order.rows.len(), 0);
        decoded.end.resize(order.rows.len(), 0);
        decoded.fresh = std::mem::take(&mut rows.fresh);
    }

    /// The vocabulary that the names of stored rows are looked up in.
    pub fn stored_names(&self) -> &Vocabulary {
        &self.vocabulary
    }
}

fn text(row: &RejectedRow, value: f64, quality: i16) -> String {
    let name = |name: &Option<String>| Value::from(name.as_deref());
    let event_time = row.event_time.unwrap_or_default();
    format!(
        r#"{{"device":{},"metric":{},"event_time_us":{event_time},"value":{},"quality":{quality}}}"#,
        name(&row.device),
        name(&row.metric),
        Value::from(value),
    )
}

/// Adds what was rejected before to what is now.
fn carry_over(output: &mut Output, carried: Vec<RejectedRow>) {
    if carried.is_empty() {
        return;
    }
    let counts = &mut output.counts;
    for row in &carried {
        if let Ok(at) = counts.sequence_number.binary_search(&row.cause.sequence_number) {
            counts.total[at] += 1;
            counts.rejected[at] += 1;
        }
    }
    output.rejected.extend(carried);
    output
        .rejected
        .sort_by_key(|RejectedRow { cause: Cause { sequence_number, item, .. }, .. }| (*sequence_number, *item));
}

/// Readings in the order of the log.
struct Order {
    /// Sequence number and item.
    places: Vec<(i64, i32)>,
    /// Where they stand in the columns.
    rows: Vec<u32>,
}

fn span(numbers: &[i64]) -> (i64, i64) {
    numbers.iter().fold((i64::MAX, i64::MIN), |(least, most), number| (least.min(*number), most.max(*number)))
}

/// Sorts by keys of which none is above `most`, digit by digit; rows of one key keep their order.
fn sorted(mut from: Vec<(u64, u32)>, most: u64) -> Vec<(u64, u32)> {
    const BITS: u32 = 11;
    if from.is_sorted_by_key(|(key, _)| *key) {
        return from;
    }
    let digit = |key: u64, shift: u32| (key >> shift) as usize & ((1 << BITS) - 1);
    let mut to = vec![(0, 0); from.len()];
    for shift in (0..u64::BITS - most.leading_zeros()).step_by(BITS as usize) {
        let mut next = vec![0_u32; (1 << BITS) + 1];
        for (key, _) in &from {
            next[digit(*key, shift) + 1] += 1;
        }
        if next.iter().any(|count| *count as usize == from.len()) {
            continue;
        }
        for at in 1..next.len() {
            next[at] += next[at - 1];
        }
        for row in &from {
            let place = &mut next[digit(row.0, shift)];
            to[*place as usize] = *row;
            *place += 1;
        }
        std::mem::swap(&mut from, &mut to);
    }
    from
}

/// Gives readings that the dictionary refuses a body: there is none of theirs any more.
fn tell_refused(output: &mut Output, rows: &StoredRows, order: &Order) {
    let mut at = 0;
    for row in &mut output.rejected {
        while order.places[at] < (row.cause.sequence_number, row.cause.item) {
            at += 1;
        }
        let from = order.rows[at] as usize;
        let body = text(row, rows.value[from], rows.quality[from]);
        row.body_bytes = body.len() as i64;
        row.body = body.into_bytes();
        row.body.truncate(REJECTED_READING_BYTES_MAX);
        row.detail = Cow::Owned(format!("{}, of a stored reading", row.detail));
        row.at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn readings_come_in_the_order_of_the_log(
            rows in prop::collection::vec(
                (prop_oneof![0..20_i64, 0..i64::MAX, (0..9_i64).prop_map(|n| n << 40)], prop_oneof![0..5, 0..1 << 20]),
                0..200,
            )
        ) {
            let (sequence_number, item): (Vec<i64>, Vec<i32>) = rows.iter().copied().unzip();
            let value = vec![0.0; rows.len()];
            let stored = StoredRows { sequence_number, item, value, ..StoredRows::default() };
            let mut expected: Vec<(i64, i32, u32)> = rows.iter().zip(0..).map(|((n, i), at)| (*n, *i, at)).collect();
            expected.sort_unstable();
            let order = stored.order();
            let found: Vec<_> = order.places.iter().zip(&order.rows).map(|((n, i), row)| (*n, *i, *row)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
