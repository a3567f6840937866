//! The series of one partition: their watermarks, remembered event times and windows, and when each falls silent.
//!
//! Everything of one kind stands in one array, and what every reading needs of a series is one cache line there, two of
//! its first window and one of its remembered event times: with tens of thousands of series, memory is the cost.

use crate::dictionary::compiled::Metric;
use crate::window::{ClosedBy, Pane, Taken, Windows};
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

/// A series by itself, as a state or a change of dictionary carries it.
#[derive(Clone, Debug)]
pub struct Series {
    pub identity: Identity,
    pub watermark: i64,
    pub newest: i64,
    pub seen: i64,
    /// Remembered event times, oldest arrival first.
    pub recent: Vec<i64>,
    pub windows: Vec<Windows>,
}

impl Series {
    pub fn new(identity: Identity, metric: &Metric) -> Self {
        let tumbling = (0..).zip(&metric.windows).filter(|(_, window)| window.hop_us == window.length_us);
        Self {
            identity,
            watermark: i64::MIN,
            newest: i64::MIN,
            seen: i64::MIN,
            recent: Vec::new(),
            windows: tumbling.map(|(definition, window)| Windows::new(definition, window.length_us)).collect(),
        }
    }
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

/// All series of a partition, numbered in the order of their first appearance.
#[derive(Clone, Debug, Default)]
pub struct Store {
    order: Vec<Order>,
    identities: Vec<Identity>,
    windows: Vec<Windows>,
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
        self.recent.reserve(more * duplicates);
    }

    pub fn identity(&self, index: u32) -> Identity {
        self.identities[index as usize]
    }

    #[inline(always)]
    pub fn watermark(&self, index: u32) -> i64 {
        self.order[index as usize].watermark
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
        self.refresh(index);
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
        }
    }

    fn range(order: &Order) -> std::ops::Range<usize> {
        order.windows_from as usize..(order.windows_from + order.windows) as usize
    }

    /// Sorts a valid reading into duplicate, late or windowed, and closes what its watermark passes.
    #[inline(always)]
    pub fn take(
        &mut self,
        index: u32,
        metric: &Metric,
        partition_time: i64,
        time: i64,
        value: f64,
        closed: &mut Vec<Closed>,
    ) -> Outcome {
        let order = &mut self.order[index as usize];
        order.seen = partition_time;
        let memory = metric.duplicates;
        let recent = &mut self.recent[order.recent_from as usize..][..usize::from(memory)];
        // Nothing remembered is newer than the newest, so most readings need no search.
        if time <= order.newest && recent[..usize::from(order.recent)].contains(&time) {
            return Outcome::Duplicate;
        }
        if let Some(place) = recent.get_mut(usize::from(order.recent_at)) {
            *place = time;
            order.recent = order.recent.max(order.recent_at + 1);
            order.recent_at = if order.recent_at + 1 == memory { 0 } else { order.recent_at + 1 };
        }
        let before = order.watermark;
        let (mut missed, mut opened) = (0_u32, false);
        for windows in &mut self.windows[Self::range(order)] {
            match windows.take(before, time, value) {
                Taken::Added => {}
                Taken::Opened => opened = true,
                Taken::Missed => missed += 1,
            }
        }
        let late = if order.windows == 0 { time < before } else { missed == order.windows };
        order.newest = order.newest.max(time);
        order.watermark = before.max(time.min(partition_time) - metric.out_of_orderness_us);
        if opened || order.watermark >= order.next_end {
            self.turn_over(index, metric, opened, closed);
        }
        // limits.rs keeps the definitions of a metric few.
        let missed = missed as i16;
        if late {
            Outcome::Late { missed, by_us: before.saturating_sub(time).max(0) }
        } else {
            Outcome::Windowed { missed }
        }
    }

    /// What happens once a window rather than at every reading: one opened, or the watermark passed the end of some.
    #[inline(never)]
    fn turn_over(&mut self, index: u32, metric: &Metric, opened: bool, closed: &mut Vec<Closed>) {
        if opened {
            self.refresh(index);
        }
        let order = self.order[index as usize];
        if order.watermark >= order.next_end {
            self.close(index, order.watermark, ClosedBy::Watermark, closed);
        }
        self.queue(index, metric);
    }

    /// Reads a word of every cache line that `take` will need. Done for the next few readings at once, their misses
    /// overlap: a prefetch in safe Rust. The result means nothing, but must be used.
    #[inline(always)]
    pub fn touch(&self, index: u32) -> i64 {
        let Some(order) = self.order.get(index as usize) else { return 0 };
        let recent = self.recent.get(order.recent_from as usize).copied().unwrap_or(0);
        order.watermark ^ recent ^ self.windows.get(order.windows_from as usize).map_or(0, Windows::touch)
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
                self.close(index, until, ClosedBy::Idle, closed);
            }
            self.queue(index, metric);
        }
    }

    /// Closes every open window.
    pub fn close_all(&mut self, closed: &mut Vec<Closed>) {
        for index in 0..self.order.len() as u32 {
            self.close(index, i64::MAX, ClosedBy::Flush, closed);
        }
    }

    fn close(&mut self, index: u32, until: i64, closed_by: ClosedBy, closed: &mut Vec<Closed>) {
        let range = Self::range(&self.order[index as usize]);
        for windows in &mut self.windows[range] {
            let (length, window) = (windows.length, windows.definition);
            windows.close(until, |pane| {
                closed.push(Closed { end: pane.start + length, window, series: index, closed_by, pane });
            });
        }
        self.refresh(index);
    }

    fn refresh(&mut self, index: u32) {
        let order = &mut self.order[index as usize];
        order.next_end = self.windows[Self::range(order)].iter().map(Windows::next_end).min().unwrap_or(i64::MAX);
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
