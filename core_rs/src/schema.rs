//! Names and types of every table and column: the only definition. The lake, the stubs and the docs are checked against it.

use Type::{Binary, Bool, Float32, Float64, Int16, Int32, Int64, LargeBinary, PlainText, Properties, Text, Time};

/// The types that tables are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Travels as dictionary<int32, utf8>, is stored as a string.
    Text,
    /// A string that rarely repeats, so it travels plain.
    PlainText,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Bool,
    /// timestamp[us, UTC]
    Time,
    Date,
    Binary,
    /// 64-bit offsets: a batch of bodies may pass 2 GiB.
    LargeBinary,
    /// map<utf8, utf8>
    Properties,
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Type,
    pub nullable: bool,
}

const fn some(name: &'static str, kind: Type) -> Column {
    Column { name, kind, nullable: false }
}

const fn maybe(name: &'static str, kind: Type) -> Column {
    Column { name, kind, nullable: true }
}

/// Columns that the readings, windows, alarms, latest and rejected tables begin with, after `date`.
const CAUSE: [Column; 4] = [
    some("partition", Type::Text),
    some("sequence_number", Type::Int64),
    some("item", Type::Int32),
    some("enqueued_time", Type::Time),
];

/// UTC date of `enqueued_time`: the partition column of a table in the lake, which derives it.
pub const DATE: Column = some("date", Type::Date);

/// Where a stored row was first written: the UUID of its file, and its number within. Rewriting a file keeps both, so a
/// row can still be proven by the digest that was taken then.
pub const LOCATORS: [Column; 2] = [some("_batch", Type::Binary), some("_row", Type::Int32)];

/// Tables that cannot be named are not tables.
pub const TABLES: [&str; 9] =
    ["envelopes", "readings", "windows", "alarms", "latest", "rejected", "counts", "batches", "journal"];

const ENVELOPES: &[Column] = &[
    some("body", LargeBinary),
    some("sequence_number", Int64),
    maybe("offset", PlainText),
    some("enqueued_time", Time),
    maybe("properties", Properties),
];

const READINGS: &[Column] = &[
    some("device", Text),
    some("metric", Text),
    some("event_time", Time),
    some("value", Float64),
    some("quality", Int16),
    some("outcome", Text),
    some("windows_missed", Int16),
    maybe("lateness_us", Int64),
    some("score_state", Text),
    maybe("score", Float32),
];

const WINDOWS: &[Column] = &[
    some("device", Text),
    some("metric", Text),
    some("window_name", Text),
    some("window_start", Time),
    some("window_end", Time),
    some("closed_by", Text),
    some("count", Int64),
    maybe("mean", Float64),
    maybe("min", Float64),
    maybe("max", Float64),
    maybe("first", Float64),
    maybe("last", Float64),
    maybe("std", Float64),
    some("first_time", Time),
    some("last_time", Time),
    maybe("slope_per_s", Float64),
    maybe("score_max", Float32),
];

const ALARMS: &[Column] = &[
    some("alarm_id", PlainText),
    some("step", Int32),
    some("transition", Text),
    some("device", Text),
    some("metric", Text),
    maybe("asset", Text),
    some("alarm_rule", Text),
    some("priority", Text),
    some("onset_time", Time),
    some("event_time", Time),
    some("value", Float64),
    maybe("threshold", Float64),
    some("peak", Float64),
    maybe("score", Float32),
    some("message", PlainText),
];

/// The newest reading of each series of a batch: for whoever shows them, not for the lake.
const LATEST: &[Column] = &[
    some("device", Text),
    some("metric", Text),
    some("event_time", Time),
    some("value", Float64),
    some("quality", Int16),
];

const REJECTED: &[Column] = &[
    some("reason", Text),
    some("detail", PlainText),
    maybe("device", PlainText),
    maybe("metric", PlainText),
    maybe("event_time", Time),
    some("body", Binary),
    some("body_bytes", Int64),
];

const COUNTS: &[Column] = &[
    some("sequence_number", Int64),
    some("enqueued_time", Time),
    some("body_bytes", Int64),
    some("rows_total", Int64),
    some("rows_windowed", Int64),
    some("rows_late", Int64),
    some("rows_duplicate", Int64),
    some("rows_rejected", Int64),
    some("rows_unscored", Int64),
    some("rows_windows", Int64),
    some("rows_alarms", Int64),
    maybe("event_time_min", Time),
    maybe("event_time_max", Time),
];

const BATCHES: &[Column] = &[
    some("partition", Text),
    some("first_sequence", Int64),
    some("last_sequence", Int64),
    some("envelopes", Int64),
    some("redelivered", Int64),
    some("body_bytes", Int64),
    some("rows_total", Int64),
    some("rows_windowed", Int64),
    some("rows_late", Int64),
    some("rows_duplicate", Int64),
    some("rows_rejected", Int64),
    some("rows_unscored", Int64),
    some("rows_windows", Int64),
    some("rows_alarms", Int64),
    maybe("event_time_min", Time),
    maybe("event_time_max", Time),
    some("enqueued_time_max", Time),
    some("dictionary_version", Text),
    some("dictionary_sha256", Text),
    some("software_version", Text),
    some("cold_start", Bool),
    some("decode_us", Int64),
    some("analyse_us", Int64),
    some("committed_time", Time),
];

const JOURNAL: &[Column] = &[
    some("partition", Text),
    some("after_sequence", Int64),
    some("ordinal", Int64),
    some("kind", Text),
    some("time", Time),
    some("body", PlainText),
];

/// Columns of a table, as the core emits it: without `date`, which [`stored`] adds.
pub fn columns(table: &str) -> Option<Vec<Column>> {
    let (head, own): (&[Column], &[Column]) = match table {
        "envelopes" => (&[], ENVELOPES),
        "readings" => (&CAUSE, READINGS),
        "windows" => (&CAUSE, WINDOWS),
        "alarms" => (&CAUSE, ALARMS),
        "latest" => (&CAUSE, LATEST),
        "rejected" => (&CAUSE, REJECTED),
        "counts" => (&[], COUNTS),
        "batches" => (&[], BATCHES),
        "journal" => (&[], JOURNAL),
        _ => return None,
    };
    Some([head, own].concat())
}

/// Columns of a table as the lake stores it: with the date that its folders are named by, and the locators.
pub fn stored(table: &str) -> Option<Vec<Column>> {
    let head: &[Column] = match table {
        "readings" | "windows" | "alarms" | "rejected" | "batches" => &[DATE],
        "journal" => &[],
        _ => return None,
    };
    columns(table).map(|columns| [head, &columns[..], &LOCATORS].concat())
}

/// What the rows of a data file are sorted by: the columns that name a series, and its time. None: by arrival.
pub fn order(table: &str) -> Option<(&'static [&'static str], &'static str)> {
    match table {
        "readings" | "alarms" => Some((&["device", "metric"], "event_time")),
        "windows" => Some((&["device", "metric", "window_name"], "window_start")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_columns_of_distinct_names() {
        for table in TABLES {
            let all = stored(table).or_else(|| columns(table)).unwrap();
            let mut names: Vec<&str> = all.iter().map(|column| column.name).collect();
            let before = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), before, "{table}");
        }
        assert_eq!(columns("nonsense"), None);
    }
}
