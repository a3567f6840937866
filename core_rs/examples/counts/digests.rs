//! The kernel of the row digests: a data file of readings, sorted by series and time as the lake stores them.

use crate::made::{SECOND, SERIES, rows};
use crate::{Answer, counted, must};
use alumicatalyst_core::ledger::{Column, LEAF_ROWS, Leaves, Nulls, Values, form, merkle, schema_text};
use alumicatalyst_core::schema;

pub(crate) fn digests() -> Answer {
    let mut made: Vec<_> = rows(0..40).collect();
    made.sort_by_key(|(series, time, _)| (*series, *time));
    let count = made.len();
    let sequence: Vec<i64> = made.iter().map(|(_, time, _)| *time / SECOND).collect();
    let item: Vec<i32> = made.iter().map(|(series, ..)| (series % 100) as i32).collect();
    let enqueued: Vec<i64> = made.iter().map(|(_, time, _)| time / SECOND * SECOND + SECOND / 4).collect();
    let time: Vec<i64> = made.iter().map(|(_, time, _)| *time).collect();
    let value: Vec<f64> = made.iter().map(|(.., value)| *value as f64 / 1_000.0).collect();
    let device: Vec<i32> = made.iter().map(|(series, ..)| *series as i32).collect();
    let names: Vec<String> = (1..=SERIES).map(|pot| format!("pot-{pot:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // One in 16 scores is high enough to be kept.
    let scored: Vec<bool> = (0..count).map(|row| row % 16 == 0).collect();
    let score: Vec<f32> = (0..count).map(|row| if row % 16 == 0 { 3.5 } else { 0.0 }).collect();
    let one = |name: &'static &'static str| (Values::Coded { codes: &[0], names: std::slice::from_ref(name) }, true);

    let columns: Vec<Column<'_>> = schema::columns("readings")
        .unwrap_or_default()
        .iter()
        .map(|column| {
            let (values, constant) = match column.name {
                "partition" => one(&"bench/1/0"),
                "sequence_number" => (Values::Int64(&sequence), false),
                "item" => (Values::Int32(&item), false),
                "enqueued_time" => (Values::Int64(&enqueued), false),
                "device" => (Values::Coded { codes: &device, names: &names }, false),
                "metric" => one(&"cell_voltage"),
                "event_time" => (Values::Int64(&time), false),
                "value" => (Values::Float64(&value), false),
                "quality" => (Values::Int16(&[192]), true),
                "outcome" => one(&"windowed"),
                "windows_missed" => (Values::Int16(&[0]), true),
                "lateness_us" => (Values::Int64(&[0]), true),
                "score_state" => one(&"scored"),
                "score" => (Values::Float32(&score), false),
                other => return Err(format!("couldn't count: readings have a column {other} that has no values here")),
            };
            let nulls = match column.name {
                "lateness_us" => Nulls::All,
                "score" => Nulls::But(&scored),
                _ => Nulls::None,
            };
            Ok(Column { form: form(column), values, nulls, constant })
        })
        .collect::<Result<_, String>>()?;
    let text = schema_text("readings").unwrap_or_default();
    let mut leaves = Leaves::new(&text, &[7; 16], &columns, count);
    let (mut hashes, mut root) = (0, [0; 32]);
    counted(&mut || {
        let found = leaves.hashes();
        hashes = found.len();
        root = merkle::root(found);
    });
    must(hashes == count.div_ceil(LEAF_ROWS) && root != [0; 32], "leaves")?;
    Ok(count)
}
