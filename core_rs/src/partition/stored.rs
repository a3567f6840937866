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

    /// The numbers of the readings in the order of the log.
    fn order(&self) -> Vec<u32> {
        let mut keyed: Vec<(i64, u32)> = self.sequence_number.iter().copied().zip(0..).collect();
        sort(&mut keyed);
        let mut order: Vec<u32> = keyed.iter().map(|(_, row)| *row).collect();
        let item = |row: &u32| self.item[*row as usize];
        let mut start = 0;
        for envelope in keyed.chunk_by(|one, next| one.0 == next.0) {
            let rows = &mut order[start..start + envelope.len()];
            if !rows.is_sorted_by_key(item) {
                rows.sort_unstable_by_key(item);
            }
            start += envelope.len();
        }
        order
    }

    /// Every envelope above a sequence number once, in order: number and enqueued time.
    fn envelopes(&self, order: &[u32], after: i64) -> Vec<(i64, i64)> {
        let mut envelopes: Vec<(i64, i64)> = Vec::new();
        for row in order {
            let row = *row as usize;
            if envelopes.last().is_none_or(|(last, _)| *last != self.sequence_number[row]) {
                envelopes.push((self.sequence_number[row], self.enqueued_time[row]));
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
        // Where readings move up over refused ones, these are what tells what was refused.
        let told = (self.decoded.value.clone(), self.decoded.quality.clone());
        self.catalog.take_canonical(true);
        let mut output = self.analyse(&batch);
        self.catalog.take_canonical(false);
        self.tell_refused(&mut output, &sequence_numbers, &told);
        carry_over(&mut output, rows.rejected);
        Ok(output)
    }

    /// Puts the readings where the decoder would have put them.
    fn gather(&mut self, rows: &mut StoredRows, order: &[u32], envelopes: &[(i64, i64)]) {
        fn pick<T: Copy>(to: &mut Vec<T>, from: &[T], order: &[u32]) {
            to.extend(order.iter().map(|row| from[*row as usize]));
        }
        let decoded = &mut self.decoded;
        decoded.clear();
        let mut envelope = 0;
        for row in order {
            let number = rows.sequence_number[*row as usize];
            while envelopes[envelope].0 < number {
                envelope += 1;
            }
            decoded.envelope.push(envelope as u32);
        }
        pick(&mut decoded.item, &rows.item, order);
        pick(&mut decoded.device, &rows.device, order);
        pick(&mut decoded.metric, &rows.metric, order);
        pick(&mut decoded.event_time, &rows.event_time, order);
        pick(&mut decoded.value, &rows.value, order);
        pick(&mut decoded.quality, &rows.quality, order);
        decoded.start.resize(order.len(), 0);
        decoded.end.resize(order.len(), 0);
        decoded.fresh = std::mem::take(&mut rows.fresh);
    }

    /// Gives readings that the dictionary refuses a body: there is none of theirs any more.
    fn tell_refused(&self, output: &mut Output, sequence_numbers: &[i64], told: &(Vec<f64>, Vec<i16>)) {
        let mut at = 0;
        for row in &mut output.rejected {
            let cause = |at: usize| (sequence_numbers[self.decoded.envelope[at] as usize], self.decoded.item[at]);
            while cause(at) < (row.cause.sequence_number, row.cause.item) {
                at += 1;
            }
            let body = text(row, told.0[at], told.1[at]);
            row.body_bytes = body.len() as i64;
            row.body = body.into_bytes();
            row.body.truncate(REJECTED_READING_BYTES_MAX);
            row.detail = Cow::Owned(format!("{}, of a stored reading", row.detail));
            row.at = None;
        }
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

/// Sorts by the first, keeping the order of what is equal: digit by digit, of which a few differ among neighbours.
fn sort(keyed: &mut Vec<(i64, u32)>) {
    const BITS: u32 = 11;
    if keyed.is_sorted_by_key(|(number, _)| *number) {
        return;
    }
    let least = keyed.iter().map(|(number, _)| *number).min().unwrap_or_default();
    let digit = |number: i64, shift: u32| (number.wrapping_sub(least) as u64 >> shift) as usize & ((1 << BITS) - 1);
    let most = keyed.iter().map(|(number, _)| number.wrapping_sub(least) as u64).max().unwrap_or_default();
    let mut from = std::mem::take(keyed);
    let mut to = vec![(0, 0); from.len()];
    for shift in (0..u64::BITS - most.leading_zeros()).step_by(BITS as usize) {
        let mut next = vec![0_u32; (1 << BITS) + 1];
        for (number, _) in &from {
            next[digit(*number, shift) + 1] += 1;
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
    *keyed = from;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_sorted_and_keep_their_order(
            numbers in prop::collection::vec(prop_oneof![0..20_i64, 0..i64::MAX, (0..9_i64).prop_map(|n| n << 40)], 0..200)
        ) {
            let mut keyed: Vec<(i64, u32)> = numbers.iter().copied().zip(0..).collect();
            let mut expected = keyed.clone();
            expected.sort_by_key(|(number, _)| *number);
            sort(&mut keyed);
            prop_assert_eq!(keyed, expected);
        }
    }
}
