//! The series of one partition: their watermarks, remembered event times and windows, and when each falls silent.

use crate::dictionary::compiled::Metric;
use crate::window::{ClosedBy, Pane, Windows};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Which device and metric a series is, by vocabulary id, and the metric definition that it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub device: u32,
    pub metric: u32,
    /// Index of the definition in the catalog.
    pub definition: u32,
}

/// One device x metric. Its number is the order of first appearance.
#[derive(Clone, Debug)]
pub struct Series {
    /// No earlier event time is expected; `i64::MIN` before the first reading. Never goes back (I3).
    pub watermark: i64,
    /// Newest event time of the series.
    pub newest: i64,
    /// Partition time at the last valid reading.
    pub seen: i64,
    /// End of the open window that closes next.
    next_end: i64,
    /// Partition time of the entry in the silence queue that counts; `i64::MAX` for none.
    queued: i64,
    pub identity: Identity,
    recent_at: u32,
    pub recent: Vec<i64>,
    pub windows: Vec<Windows>,
}

/// A window that closed, in the making of one cause's rows.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    pub end: i64,
    /// Index of the window definition within the metric.
    pub window: u32,
    pub series: u32,
    pub closed_by: ClosedBy,
    pub pane: Pane,
}

/// What became of a valid reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Windowed { missed: i16 },
    Late { missed: i16, by_us: i64 },
    Duplicate,
}

impl Series {
    pub fn new(identity: Identity, metric: &Metric) -> Self {
        Self {
            watermark: i64::MIN,
            newest: i64::MIN,
            seen: i64::MIN,
            next_end: i64::MAX,
            queued: i64::MAX,
            identity,
            recent_at: 0,
            recent: Vec::with_capacity(usize::from(metric.duplicates)),
            windows: metric.windows.iter().filter(|w| w.hop_us == w.length_us).map(|w| Windows::new(w.length_us)).collect(),
        }
    }

    /// Whether `time` is among the last distinct event times; remembers it if not.
    #[inline(always)]
    fn is_duplicate(&mut self, time: i64, memory: u16) -> bool {
        // Nothing remembered is newer than the newest, so most readings need no search.
        if time <= self.newest && self.recent.contains(&time) {
            return true;
        }
        let memory = usize::from(memory);
        if self.recent.len() < memory {
            self.recent.push(time);
        } else if let Some(oldest) = self.recent.get_mut(self.recent_at as usize) {
            *oldest = time;
            self.recent_at = if self.recent_at as usize + 1 == memory { 0 } else { self.recent_at + 1 };
        }
        false
    }

    /// The remembered event times, oldest arrival first.
    pub fn remembered(&self) -> impl Iterator<Item = i64> + '_ {
        let (newer, older) = self.recent.split_at(self.recent_at as usize);
        older.iter().chain(newer).copied()
    }

    /// Takes over remembered event times, keeping the newest arrivals where the memory shrank.
    pub fn remember(&mut self, times: &[i64], memory: u16) {
        let skip = times.len().saturating_sub(usize::from(memory));
        self.recent.clear();
        self.recent.extend_from_slice(&times[skip..]);
        self.recent_at = 0;
    }

    fn refresh_next_end(&mut self) {
        self.next_end = self.windows.iter().map(Windows::next_end).min().unwrap_or(i64::MAX);
    }
}

/// All series of a partition and the queue of those that may fall silent.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub series: Vec<Series>,
    /// Earliest partition time at which a series may have a window to close. An entry whose time is not the series'
    /// `queued` is stale. Derived from the series, so no part of the state.
    silence: BinaryHeap<Reverse<(i64, u32)>>,
}

impl Store {
    /// Sorts a valid reading into duplicate, late or windowed, and closes what its watermark passes.
    #[inline(always)]
    pub fn take(&mut self, index: u32, metric: &Metric, partition_time: i64, time: i64, value: f64, closed: &mut Vec<Closed>) -> Outcome {
        let series = &mut self.series[index as usize];
        series.seen = partition_time;
        if series.is_duplicate(time, metric.duplicates) {
            return Outcome::Duplicate;
        }
        let before = series.watermark;
        let (mut missed, mut opened) = (0_i16, false);
        for windows in &mut series.windows {
            match windows.take(before, time, value) {
                crate::window::Taken::Added => {}
                crate::window::Taken::Opened => opened = true,
                crate::window::Taken::Missed => missed += 1,
            }
        }
        let late = if series.windows.is_empty() { time < before } else { usize::from(missed.unsigned_abs()) == series.windows.len() };
        series.newest = series.newest.max(time);
        series.watermark = before.max(time.min(partition_time) - metric.out_of_orderness_us);
        if opened {
            self.queue_opened(index, metric);
        }
        let series = &mut self.series[index as usize];
        if series.watermark >= series.next_end {
            Self::close(series, index, series.watermark, ClosedBy::Watermark, closed);
        }
        if late { Outcome::Late { missed, by_us: before.saturating_sub(time).max(0) } } else { Outcome::Windowed { missed } }
    }

    #[inline(never)]
    fn queue_opened(&mut self, index: u32, metric: &Metric) {
        self.series[index as usize].refresh_next_end();
        self.queue(index, metric);
    }

    /// Queues a series for the partition time at which silence could close its next window.
    fn queue(&mut self, index: u32, metric: &Metric) {
        let series = &mut self.series[index as usize];
        let due = silent_at(series, metric);
        if due < series.queued {
            series.queued = due;
            self.silence.push(Reverse((due, index)));
        }
    }

    /// Closes the windows of the series that have been idle at `partition_time` for as long as their metric allows.
    #[inline]
    pub fn close_silent<'m>(&mut self, partition_time: i64, metric_of: impl Fn(&Series) -> &'m Metric, closed: &mut Vec<Closed>) {
        while self.silence.peek().is_some_and(|Reverse((due, _))| *due <= partition_time) {
            let Some(Reverse((due, index))) = self.silence.pop() else { return };
            let series = &mut self.series[index as usize];
            if series.queued != due {
                continue;
            }
            series.queued = i64::MAX;
            let metric = metric_of(series);
            if silent_at(series, metric) <= partition_time {
                let until = partition_time - metric.idle_us.max(metric.out_of_orderness_us);
                Self::close(series, index, until, ClosedBy::Idle, closed);
            }
            self.queue(index, metric);
        }
    }

    /// Closes every open window.
    pub fn close_all(&mut self, closed: &mut Vec<Closed>) {
        for (index, series) in self.series.iter_mut().enumerate() {
            Self::close(series, index as u32, i64::MAX, ClosedBy::Flush, closed);
        }
    }

    fn close(series: &mut Series, index: u32, until: i64, closed_by: ClosedBy, closed: &mut Vec<Closed>) {
        for (window, windows) in series.windows.iter_mut().enumerate() {
            let length = windows.length;
            windows.close(until, |pane| {
                closed.push(Closed { end: pane.start + length, window: window as u32, series: index, closed_by, pane });
            });
        }
        series.refresh_next_end();
    }

    /// Adds a series, restored or new, with whatever windows it holds open.
    pub fn add(&mut self, mut series: Series, metric: &Metric) -> u32 {
        let index = self.series.len() as u32;
        series.queued = i64::MAX;
        series.refresh_next_end();
        self.series.push(series);
        self.queue(index, metric);
        index
    }
}

/// Rows of one cause stand in the order of window end, definition, first appearance of the series.
pub fn order(closed: &mut [Closed]) {
    if closed.len() > 1 {
        closed.sort_unstable_by_key(|row| (row.end, row.window, row.series));
    }
}

/// Partition time from which on the next window of a silent series closes; `i64::MAX` where none is open.
fn silent_at(series: &Series, metric: &Metric) -> i64 {
    if series.next_end == i64::MAX {
        return i64::MAX;
    }
    let by_window = series.next_end + metric.idle_us.max(metric.out_of_orderness_us);
    by_window.max(series.seen.saturating_add(metric.idle_us))
}

