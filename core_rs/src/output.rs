//! What one batch yields, as plain columns: the Arrow layer turns them into tables without a copy.

use crate::alarm::Transition;
use crate::decode::Reason;
use crate::window::ClosedBy;
use std::borrow::Cow;

/// Why an output row exists: the envelope, and the position in it, that made the core emit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    pub sequence_number: i64,
    /// -1: the envelope itself, before its first reading.
    pub item: i32,
    pub enqueued_time: i64,
}

/// Causes of a table's rows, a column each.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    pub sequence_number: Vec<i64>,
    pub item: Vec<i32>,
    pub enqueued_time: Vec<i64>,
}

impl Causes {
    #[inline(always)]
    pub fn push(&mut self, cause: Cause) {
        self.sequence_number.push(cause.sequence_number);
        self.item.push(cause.item);
        self.enqueued_time.push(cause.enqueued_time);
    }

    pub fn reserve(&mut self, rows: usize) {
        self.sequence_number.reserve(rows);
        self.item.reserve(rows);
        self.enqueued_time.reserve(rows);
    }
}

/// Names of the outcomes of a valid reading, by code.
pub const OUTCOMES: [&str; 3] = ["windowed", "late", "duplicate"];
pub const WINDOWED: i32 = 0;
pub const LATE: i32 = 1;
pub const DUPLICATE: i32 = 2;

/// Names of the score states, by code.
pub const SCORE_STATES: [&str; 4] = ["scored", "learning", "out_of_order", "off"];
pub const SCORED: i32 = 0;
pub const LEARNING: i32 = 1;
pub const OUT_OF_ORDER: i32 = 2;
pub const SCORE_OFF: i32 = 3;

/// Valid readings. Devices and metrics are ids of the vocabulary.
#[derive(Clone, Debug, Default)]
pub struct ReadingRows {
    pub cause: Causes,
    pub device: Vec<u32>,
    pub metric: Vec<u32>,
    pub event_time: Vec<i64>,
    pub value: Vec<f64>,
    pub quality: Vec<i16>,
    pub outcome: Vec<i32>,
    pub windows_missed: Vec<i16>,
    /// (row, lateness) of the late ones.
    pub lateness_us: Vec<(u32, i64)>,
    pub score_state: Vec<i32>,
    /// (row, score) of those that the lake keeps.
    pub score: Vec<(u32, f32)>,
}

/// Closed windows.
#[derive(Clone, Debug, Default)]
pub struct WindowRows {
    pub cause: Causes,
    pub device: Vec<u32>,
    pub metric: Vec<u32>,
    pub window_name: Vec<u32>,
    pub window_start: Vec<i64>,
    pub window_end: Vec<i64>,
    pub closed_by: Vec<i32>,
    pub count: Vec<i64>,
    pub mean: Vec<Option<f64>>,
    pub min: Vec<f64>,
    pub max: Vec<f64>,
    pub first: Vec<f64>,
    pub last: Vec<f64>,
    pub std: Vec<Option<f64>>,
    pub first_time: Vec<i64>,
    pub last_time: Vec<i64>,
    pub slope_per_s: Vec<Option<f64>>,
    pub score_max: Vec<Option<f32>>,
}

/// A closed window's row before it gets its cause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowRow {
    pub device: u32,
    pub metric: u32,
    pub window_name: u32,
    pub start: i64,
    pub end: i64,
    pub closed_by: ClosedBy,
    pub stats: crate::stats::Accumulator,
}

impl WindowRows {
    pub fn push(&mut self, cause: Cause, row: &WindowRow) {
        self.cause.push(cause);
        self.device.push(row.device);
        self.metric.push(row.metric);
        self.window_name.push(row.window_name);
        self.window_start.push(row.start);
        self.window_end.push(row.end);
        self.closed_by.push(row.closed_by as i32);
        let stats = &row.stats;
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
        self.score_max.push(stats.score_max());
    }

    pub fn len(&self) -> usize {
        self.device.len()
    }

    pub fn is_empty(&self) -> bool {
        self.device.is_empty()
    }
}

/// One step of an alarm. There are few of them, so they carry their names.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmRow {
    pub cause: Cause,
    pub alarm_id: String,
    pub step: i32,
    pub transition: Transition,
    pub device: String,
    pub metric: String,
    /// None for a series that the dictionary does not list.
    pub asset: Option<String>,
    pub rule: String,
    pub priority: i32,
    pub onset_time: i64,
    pub event_time: i64,
    pub value: f64,
    pub threshold: Option<f64>,
    pub peak: f64,
    pub score: Option<f64>,
    pub message: String,
}

/// One rejected reading, or one envelope rejected whole (item -1).
#[derive(Clone, Debug)]
pub struct RejectedRow {
    pub cause: Cause,
    pub reason: Reason,
    pub detail: Cow<'static, str>,
    /// The byte of the envelope where it was met; none of a row that a lake held before.
    pub at: Option<u32>,
    pub device: Option<String>,
    pub metric: Option<String>,
    pub event_time: Option<i64>,
    /// The bytes in question, cut to their limit.
    pub body: Vec<u8>,
    /// How many there were.
    pub body_bytes: i64,
}

/// What one envelope came to; the sums over a flush are its row of `batches`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub sequence_number: i64,
    pub enqueued_time: i64,
    pub body_bytes: i64,
    pub windowed: i64,
    pub late: i64,
    pub duplicate: i64,
    pub rejected: i64,
    /// Valid readings without a score, whatever the reason.
    pub unscored: i64,
    pub windows: i64,
    pub alarms: i64,
    pub event_time_min: Option<i64>,
    pub event_time_max: Option<i64>,
}

impl Count {
    /// I1: every reading is counted once.
    pub fn total(&self) -> i64 {
        self.windowed + self.late + self.duplicate + self.rejected
    }

    #[inline(always)]
    pub fn saw(&mut self, event_time: i64) {
        self.event_time_min = Some(self.event_time_min.map_or(event_time, |time| time.min(event_time)));
        self.event_time_max = Some(self.event_time_max.map_or(event_time, |time| time.max(event_time)));
    }
}

/// Counts, one row per envelope. Column by column, because with one reading an envelope this is a table as long as theirs.
#[derive(Clone, Debug, Default)]
pub struct CountRows {
    pub sequence_number: Vec<i64>,
    pub enqueued_time: Vec<i64>,
    pub body_bytes: Vec<i64>,
    pub total: Vec<i64>,
    pub windowed: Vec<i64>,
    pub late: Vec<i64>,
    pub duplicate: Vec<i64>,
    pub rejected: Vec<i64>,
    pub unscored: Vec<i64>,
    pub windows: Vec<i64>,
    pub alarms: Vec<i64>,
    pub event_time_min: Vec<Option<i64>>,
    pub event_time_max: Vec<Option<i64>>,
}

impl CountRows {
    /// Makes room for a batch, so that no column grows step by step.
    pub fn with_capacity(envelopes: usize) -> Self {
        let integers = || Vec::with_capacity(envelopes);
        Self {
            sequence_number: integers(),
            enqueued_time: integers(),
            body_bytes: integers(),
            total: integers(),
            windowed: integers(),
            late: integers(),
            duplicate: integers(),
            rejected: integers(),
            unscored: integers(),
            windows: integers(),
            alarms: integers(),
            event_time_min: Vec::with_capacity(envelopes),
            event_time_max: Vec::with_capacity(envelopes),
        }
    }

    #[inline(always)]
    pub fn push(&mut self, count: &Count) {
        self.sequence_number.push(count.sequence_number);
        self.enqueued_time.push(count.enqueued_time);
        self.body_bytes.push(count.body_bytes);
        self.total.push(count.total());
        self.windowed.push(count.windowed);
        self.late.push(count.late);
        self.duplicate.push(count.duplicate);
        self.rejected.push(count.rejected);
        self.unscored.push(count.unscored);
        self.windows.push(count.windows);
        self.alarms.push(count.alarms);
        self.event_time_min.push(count.event_time_min);
        self.event_time_max.push(count.event_time_max);
    }
}

/// Everything that a batch of envelopes yields.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Last sequence number before this batch, -1 for none.
    pub follows: i64,
    pub first: Option<i64>,
    /// Equal to `follows` for a batch that brought nothing new.
    pub last: i64,
    pub readings: ReadingRows,
    pub windows: WindowRows,
    pub alarms: Vec<AlarmRow>,
    /// Rows of `readings`: for each series that had readings in order, the last of them.
    pub latest: Vec<u32>,
    pub rejected: Vec<RejectedRow>,
    pub counts: CountRows,
    pub redelivered: i64,
    pub partition_time: Option<i64>,
    /// Lowest watermark among the series that this batch read.
    pub watermark: Option<i64>,
}
