//! Progress through one batch: the readings that are kept, the rows that came out, the count of the envelope at hand.

use crate::check::Candidate;
use crate::decode::Decoded;
use crate::output::{
    AlarmRow, Cause, Count, CountRows, DUPLICATE, LATE, LEARNING, OUT_OF_ORDER, Output, RejectedRow, SCORE_OFF, SCORED,
    WINDOWED, WindowRow,
};
use crate::score::{Score, stored};
use crate::series::{Outcome, Verdict};

/// Progress through one batch.
pub(super) struct Walk {
    pub(super) out: Output,
    /// Next decoded reading, and where the next accepted one is kept.
    pub(super) read: usize,
    kept: usize,
    /// For each series the place in `latest` of its last reading in order; stale where that place says another series.
    latest_of: Vec<u32>,
    latest_series: Vec<u32>,
    /// Next rejection of the decoder.
    pub(super) rejection: usize,
    pub(super) count: Count,
}

impl Walk {
    pub(super) fn new(follows: i64, envelopes: usize, readings: usize, latest_of: Vec<u32>) -> Self {
        let mut out = Output { follows, counts: CountRows::with_capacity(envelopes), ..Output::default() };
        out.readings.cause.reserve(readings);
        out.readings.outcome.reserve(readings);
        out.readings.windows_missed.reserve(readings);
        out.readings.score_state.reserve(readings);
        Self { out, read: 0, kept: 0, latest_of, latest_series: Vec::new(), rejection: 0, count: Count::default() }
    }

    pub(super) fn begin(&mut self, count: Count) {
        self.out.first.get_or_insert(count.sequence_number);
        self.count = count;
    }

    /// Accepted readings move up over rejected ones, so the decoder's columns become the output's without a copy.
    #[inline(always)]
    pub(super) fn accept(
        &mut self,
        cause: Cause,
        decoded: &mut Decoded,
        reading: &Candidate,
        verdict: &Verdict,
        store_above: f64,
        watermark: i64,
    ) {
        let (row, readings) = (self.kept, &mut self.out.readings);
        decoded.device[row] = reading.device;
        decoded.metric[row] = reading.metric;
        decoded.event_time[row] = reading.event_time;
        decoded.value[row] = reading.value;
        decoded.quality[row] = reading.quality;
        self.kept += 1;
        readings.cause.push(cause);
        let (code, missed) = match verdict.outcome {
            Outcome::Windowed { missed } => {
                self.count.windowed += 1;
                (WINDOWED, missed)
            }
            Outcome::Late { missed, by_us } => {
                self.count.late += 1;
                readings.lateness_us.push((row as u32, by_us));
                (LATE, missed)
            }
            Outcome::Duplicate => {
                self.count.duplicate += 1;
                (DUPLICATE, 0)
            }
        };
        readings.outcome.push(code);
        readings.windows_missed.push(missed);
        let score_state = match verdict.score {
            Score::Scored(score) => {
                if score >= store_above {
                    readings.score.push((row as u32, stored(score)));
                }
                SCORED
            }
            Score::Learning => LEARNING,
            Score::OutOfOrder => OUT_OF_ORDER,
            Score::Off => SCORE_OFF,
        };
        readings.score_state.push(score_state);
        self.count.unscored += i64::from(score_state != SCORED);
        self.count.saw(reading.event_time);
        self.out.watermark = Some(self.out.watermark.map_or(watermark, |lowest| lowest.min(watermark)));
    }

    /// The reading accepted last is the newest of its series.
    #[inline(always)]
    pub(super) fn latest(&mut self, series: u32) {
        let row = (self.kept - 1) as u32;
        if let Some(&at) = self.latest_of.get(series as usize)
            && self.latest_series.get(at as usize) == Some(&series)
        {
            self.out.latest[at as usize] = row;
            return;
        }
        if self.latest_of.len() <= series as usize {
            self.latest_of.resize(series as usize + 1, 0);
        }
        self.latest_of[series as usize] = self.latest_series.len() as u32;
        self.latest_series.push(series);
        self.out.latest.push(row);
    }

    pub(super) fn alarm(&mut self, row: AlarmRow) {
        self.count.alarms += 1;
        self.out.alarms.push(row);
    }

    pub(super) fn reject(&mut self, row: RejectedRow) {
        self.count.rejected += 1;
        self.out.rejected.push(row);
    }

    pub(super) fn window(&mut self, cause: Cause, row: &WindowRow) {
        self.count.windows += 1;
        self.out.windows.push(cause, row);
    }

    /// The output, and what the next batch's walk can use again.
    pub(super) fn finish(mut self, decoded: &mut Decoded) -> (Output, Vec<u32>) {
        fn take<T>(column: &mut Vec<T>, rows: usize) -> Vec<T> {
            column.truncate(rows);
            std::mem::take(column)
        }
        let readings = &mut self.out.readings;
        readings.device = take(&mut decoded.device, self.kept);
        readings.metric = take(&mut decoded.metric, self.kept);
        readings.event_time = take(&mut decoded.event_time, self.kept);
        readings.value = take(&mut decoded.value, self.kept);
        readings.quality = take(&mut decoded.quality, self.kept);
        (self.out, self.latest_of)
    }
}
