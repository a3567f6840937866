//! The series of one partition: their watermarks, remembered event times, windows and detectors, and when each falls
//! silent.
//!
//! Everything of one kind stands in one array, and what every reading needs of a series is one cache line there, one of
//! its detector, two of its first window and one of its remembered event times: with tens of thousands of series, memory
//! is the cost.

use crate::alarm;
use crate::dictionary::compiled::{Detector, Metric};
use crate::score::{self, Memory, Score};
use crate::stats::{Accumulator, NO_SCORE};
use crate::window::{ClosedBy, Kind, Reading, Windows};
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

/// What the order of readings depends on.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Order {
    /// No earlier event time is expected; `i64::MIN` before the first reading. Never goes back (I3).
    watermark: i64,
    /// Newest event time of the series.
    newest: i64,
    /// Partition time at the last valid reading.
    seen: i64,
    /// End of the open window that closes next; `i64::MAX` where none is open.
    next_end: i64,
    /// Partition time of the entry in the silence queue that counts; `i64::MAX` for none.
    queued: i64,
    windows_from: u32,
    windows: u32,
    recent_from: u32,
    /// Event times remembered so far, and where the next one goes.
    recent: u16,
    recent_at: u16,
}

/// What detector and alarm rules remember of a series.
#[derive(Clone, Debug, PartialEq)]
#[repr(align(64))]
pub struct Watch {
    pub memory: Memory,
    /// Value of the newest reading that was looked at, NaN before the first.
    pub last: f64,
    /// One for each rule of the metric, while any of them is not normal.
    pub states: Option<Box<[alarm::State]>>,
}

impl Watch {
    pub fn new(metric: &Metric) -> Self {
        Self { memory: Memory::new(metric), last: f64::NAN, states: None }
    }
}

/// Whether detector or rules need to see a metric's readings.
fn is_watched(metric: &Metric) -> bool {
    metric.detector != Detector::None || !metric.alarms.is_empty()
}

/// A series by itself, as a state or a change of dictionary carries it.
#[derive(Clone, Debug)]
pub struct Series {
    pub identity: Identity,
    pub watermark: i64,
    pub newest: i64,
    pub seen: i64,
    /// Remembered event times, oldest arrival first.
    pub recent: Vec<i64>,
    /// One for each window definition of the metric, in its order.
    pub windows: Vec<Windows>,
    pub watch: Watch,
}

impl Series {
    pub fn new(identity: Identity, metric: &Metric) -> Self {
        Self {
            identity,
            watermark: i64::MIN,
            newest: i64::MIN,
            seen: i64::MIN,
            recent: Vec::new(),
            windows: (0..metric.windows.len() as u32).map(Windows::new).collect(),
            watch: Watch::new(metric),
        }
    }
}

/// A window that closed, in the making of one cause's rows.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    pub start: i64,
    pub end: i64,
    /// Index of the window definition within the metric.
    pub window: u32,
    pub series: u32,
    pub closed_by: ClosedBy,
    pub stats: Accumulator,
}

/// What became of a valid reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Windowed { missed: i16 },
    Late { missed: i16, by_us: i64 },
    Duplicate,
}

/// What the series makes of a valid reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    pub outcome: Outcome,
    pub score: Score,
    /// Newest event time before this one, where this reading is newer: then it is in order, and rules look at it.
    pub in_order_after: Option<i64>,
}

/// All series of a partition, numbered in the order of their first appearance.
#[derive(Clone, Debug, Default)]
pub struct Store {
    order: Vec<Order>,
    identities: Vec<Identity>,
    windows: Vec<Windows>,
    watches: Vec<Watch>,
    recent: Vec<i64>,
    /// Earliest partition time at which a series may have a window to close. An entry whose time is not the series'
    /// `queued` is stale. Derived from the series, so no part of the state.
    silence: BinaryHeap<Reverse<(i64, u32)>>,
}

impl Store {
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Makes room for so many series in all, with one window definition each.
    pub fn reserve(&mut self, series: usize, duplicates: usize) {
        let more = series.saturating_sub(self.len());
        self.order.reserve(more);
        self.identities.reserve(more);
        self.windows.reserve(more);
        self.watches.reserve(more);
        self.recent.reserve(more * duplicates);
    }

    pub fn identity(&self, index: u32) -> Identity {
        self.identities[index as usize]
    }

    #[inline(always)]
    pub fn watermark(&self, index: u32) -> i64 {
        self.order[index as usize].watermark
    }

    /// What detector and rules remember of a series.
    #[inline(always)]
    pub fn watch(&mut self, index: u32) -> &mut Watch {
        &mut self.watches[index as usize]
    }

    /// Adds a series, new or restored, and returns its number.
    pub fn attach(&mut self, series: Series, metric: &Metric) -> u32 {
        let index = self.order.len() as u32;
        let memory = usize::from(metric.duplicates);
        let kept = &series.recent[series.recent.len().saturating_sub(memory)..];
        self.order.push(Order {
            watermark: series.watermark,
            newest: series.newest,
            seen: series.seen,
            next_end: i64::MAX,
            queued: i64::MAX,
            windows_from: self.windows.len() as u32,
            windows: series.windows.len() as u32,
            recent_from: self.recent.len() as u32,
            recent: kept.len() as u16,
            recent_at: if kept.len() == memory { 0 } else { kept.len() as u16 },
        });
        self.recent.extend_from_slice(kept);
        self.recent.resize(self.recent.len() + memory - kept.len(), 0);
        self.identities.push(series.identity);
        self.windows.extend(series.windows);
        self.watches.push(series.watch);
        self.refresh(index, metric);
        self.queue(index, metric);
        index
    }

    /// A copy of a series by itself.
    pub fn series(&self, index: u32) -> Series {
        let order = &self.order[index as usize];
        let (from, count) = (order.recent_from as usize, usize::from(order.recent));
        let recent = &self.recent[from..from + count];
        // Once the ring is full its oldest entry is the one to be overwritten next.
        let (newer, older) = recent.split_at(usize::from(order.recent_at).min(count));
        Series {
            identity: self.identities[index as usize],
            watermark: order.watermark,
            newest: order.newest,
            seen: order.seen,
            recent: [older, newer].concat(),
            windows: self.windows[Self::range(order)].to_vec(),
            watch: self.watches[index as usize].clone(),
        }
    }

    fn range(order: &Order) -> std::ops::Range<usize> {
        order.windows_from as usize..(order.windows_from + order.windows) as usize
    }

    /// Sorts a valid reading into duplicate, late or windowed, scores it, and closes what its watermark passes.
    #[inline(always)]
    pub fn take(
        &mut self,
        index: u32,
        metric: &Metric,
        partition_time: i64,
        time: i64,
        value: f64,
        closed: &mut Vec<Closed>,
    ) -> Verdict {
        let order = &mut self.order[index as usize];
        order.seen = partition_time;
        let memory = metric.duplicates;
        let recent = &mut self.recent[order.recent_from as usize..][..usize::from(memory)];
        // Nothing remembered is newer than the newest, so most readings need no search.
        let in_order = time > order.newest;
        if !in_order && recent[..usize::from(order.recent)].contains(&time) {
            return Verdict { outcome: Outcome::Duplicate, score: score::unseen(metric), in_order_after: None };
        }
        if let Some(place) = recent.get_mut(usize::from(order.recent_at)) {
            *place = time;
            order.recent = order.recent.max(order.recent_at + 1);
            order.recent_at = if order.recent_at + 1 == memory { 0 } else { order.recent_at + 1 };
        }
        let score = if !is_watched(metric) {
            Score::Off
        } else if in_order {
            // The first reading comes after nothing, and its distance in time is not looked at.
            self.watches[index as usize].memory.take(metric, time.saturating_sub(order.newest), value)
        } else {
            score::unseen(metric)
        };
        let reading = Reading { time, value, score: score.value().unwrap_or(NO_SCORE) };
        let before = order.watermark;
        let (mut missed, mut opened, mut entered) = (0_u32, false, order.windows == 0 && time >= before);
        for windows in &mut self.windows[Self::range(order)] {
            let taken = windows.take(&metric.windows, before, &reading);
            missed += taken.missed;
            opened |= taken.opened;
            entered |= taken.entered;
        }
        let in_order_after = in_order.then_some(order.newest);
        order.newest = order.newest.max(time);
        order.watermark = before.max(time.min(partition_time) - metric.out_of_orderness_us);
        if opened || order.watermark >= order.next_end {
            self.turn_over(index, metric, opened, closed);
        }
        // Many more than anyone would open, though limits.rs has room for more.
        let missed = missed.min(i16::MAX as u32) as i16;
        let outcome = if entered {
            Outcome::Windowed { missed }
        } else {
            Outcome::Late { missed, by_us: before.saturating_sub(time).max(0) }
        };
        Verdict { outcome, score, in_order_after }
    }

    /// What happens once a window rather than at every reading: one opened, or the watermark passed the end of some.
    #[inline(never)]
    fn turn_over(&mut self, index: u32, metric: &Metric, opened: bool, closed: &mut Vec<Closed>) {
        if opened {
            self.refresh(index, metric);
        }
        let order = self.order[index as usize];
        if order.watermark >= order.next_end {
            self.close(index, metric, order.watermark, ClosedBy::Watermark, closed);
        }
        self.queue(index, metric);
    }

    /// Reads a word of every cache line that `take` will need. Done for the next few readings at once, their misses
    /// overlap: a prefetch in safe Rust. The result means nothing, but must be used.
    #[inline(always)]
    pub fn touch(&self, index: u32) -> i64 {
        let Some(order) = self.order.get(index as usize) else { return 0 };
        let recent = self.recent.get(order.recent_from as usize).copied().unwrap_or(0);
        let mean = match self.watches[index as usize].memory {
            Memory::Ewma(ewma) => ewma.mean.to_bits() as i64,
            Memory::None => 0,
        };
        order.watermark ^ recent ^ mean ^ self.windows.get(order.windows_from as usize).map_or(0, Windows::touch)
    }

    /// Queues a series for the partition time at which silence could close its next window.
    fn queue(&mut self, index: u32, metric: &Metric) {
        let order = &mut self.order[index as usize];
        let due = silent_at(order, metric);
        if due < order.queued {
            order.queued = due;
            self.silence.push(Reverse((due, index)));
        }
    }

    /// Closes the windows of the series that have been idle at `partition_time` for as long as their metric allows.
    #[inline]
    pub fn close_silent<'m>(
        &mut self,
        partition_time: i64,
        metric_of: impl Fn(Identity) -> &'m Metric,
        closed: &mut Vec<Closed>,
    ) {
        while self.silence.peek().is_some_and(|Reverse((due, _))| *due <= partition_time) {
            let Some(Reverse((due, index))) = self.silence.pop() else { return };
            let order = &mut self.order[index as usize];
            if order.queued != due {
                continue;
            }
            order.queued = i64::MAX;
            let metric = metric_of(self.identities[index as usize]);
            if silent_at(order, metric) <= partition_time {
                let until = partition_time - metric.idle_us.max(metric.out_of_orderness_us);
                self.close(index, metric, until, ClosedBy::Idle, closed);
            }
            self.queue(index, metric);
        }
    }

    /// Closes every open window.
    pub fn close_all<'m>(&mut self, metric_of: impl Fn(Identity) -> &'m Metric, closed: &mut Vec<Closed>) {
        for index in 0..self.order.len() as u32 {
            let metric = metric_of(self.identities[index as usize]);
            self.close(index, metric, i64::MAX, ClosedBy::Flush, closed);
        }
    }

    fn close(&mut self, index: u32, metric: &Metric, until: i64, closed_by: ClosedBy, closed: &mut Vec<Closed>) {
        let range = Self::range(&self.order[index as usize]);
        for windows in &mut self.windows[range] {
            let window = windows.definition;
            windows.close(Kind::of(&metric.windows[window as usize]), until, |done| {
                let (start, end, stats) = (done.start, done.end, done.stats);
                closed.push(Closed { start, end, window, series: index, closed_by, stats });
            });
        }
        self.refresh(index, metric);
    }

    /// A session's end moves on with its readings, so `next_end` may lie before the true one, but never behind it.
    fn refresh(&mut self, index: u32, metric: &Metric) {
        let order = &mut self.order[index as usize];
        let end_of = |windows: &Windows| windows.next_end(Kind::of(&metric.windows[windows.definition as usize]));
        order.next_end = self.windows[Self::range(order)].iter().map(end_of).min().unwrap_or(i64::MAX);
    }
}

/// Rows of one cause stand in the order of window end, definition, first appearance of the series.
pub fn in_order(closed: &mut [Closed]) {
    if closed.len() > 1 {
        closed.sort_unstable_by_key(|row| (row.end, row.window, row.series));
    }
}

/// Partition time from which on the next window of a silent series closes; `i64::MAX` where none is open.
fn silent_at(order: &Order, metric: &Metric) -> i64 {
    if order.next_end == i64::MAX {
        return i64::MAX;
    }
    let by_window = order.next_end + metric.idle_us.max(metric.out_of_orderness_us);
    by_window.max(order.seen.saturating_add(metric.idle_us))
}
