//! Tumbling windows of one series and definition: which are open, what they hold, when they close.
//!
//! Almost always the one or two newest windows are open, so these stand inline; a definition whose out-of-orderness
//! spans more of them keeps the rest in `older`. Open windows always end after both the watermark and `closed_until`.

use crate::stats::Accumulator;

/// Why a window was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClosedBy {
    Watermark,
    Idle,
    Flush,
}

impl ClosedBy {
    pub const ALL: [&'static str; 3] = ["watermark", "idle", "flush"];
}

/// One open window: `[start, start + length)` and the statistics of its readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pane {
    pub start: i64,
    pub stats: Accumulator,
}

impl Pane {
    /// A place without a window.
    const NONE: Self = Self { start: i64::MIN, stats: Accumulator::NONE };

    fn is_open(&self) -> bool {
        self.start != i64::MIN
    }
}

/// Start of the window of `length` that holds `time`; windows are aligned to 1970-01-01 UTC.
#[inline]
pub fn start_of(time: i64, length: i64) -> i64 {
    time - time.rem_euclid(length)
}

/// The open windows of one series under one definition. The fields that every reading needs fill two cache lines.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Windows {
    pub length: i64,
    /// No window that ends at or before this takes a reading any more, whatever the watermark says.
    pub closed_until: i64,
    newest: Pane,
    previous: Pane,
    older: Vec<Pane>,
    /// Index of the definition within its metric.
    pub definition: u32,
}

impl Windows {
    pub fn new(definition: u32, length: i64) -> Self {
        Self { length, closed_until: i64::MIN, newest: Pane::NONE, previous: Pane::NONE, older: Vec::new(), definition }
    }

    /// Puts a reading into its window if that is open; says so where it has closed.
    #[inline(always)]
    pub fn take(&mut self, watermark: i64, time: i64, value: f64) -> Taken {
        // A place without a window starts so early that no time falls into it.
        let after_start = time.wrapping_sub(self.newest.start);
        if (after_start as u64) < self.length as u64 {
            self.newest.stats.add(time, after_start, value);
            return Taken::Added;
        }
        self.take_elsewhere(watermark, time, value)
    }

    #[inline(never)]
    fn take_elsewhere(&mut self, watermark: i64, time: i64, value: f64) -> Taken {
        let start = start_of(time, self.length);
        if start + self.length <= watermark.max(self.closed_until) {
            return Taken::Missed;
        }
        if let Some(pane) = std::iter::once(&mut self.previous).chain(&mut self.older).find(|pane| pane.start == start)
        {
            pane.stats.add(time, time - start, value);
            return Taken::Added;
        }
        self.place(Pane { start, stats: Accumulator::new(time, time - start, value) });
        Taken::Opened
    }

    /// Keeps the two newest windows inline and pushes what falls out to the older ones.
    pub fn place(&mut self, pane: Pane) {
        let older = if pane.start > self.newest.start {
            let before = std::mem::replace(&mut self.previous, self.newest);
            self.newest = pane;
            before
        } else if pane.start > self.previous.start {
            std::mem::replace(&mut self.previous, pane)
        } else {
            pane
        };
        if older.is_open() {
            self.older.push(older);
        }
    }

    /// Reads a word of both cache lines that `take` needs.
    #[inline(always)]
    pub fn touch(&self) -> i64 {
        self.length ^ self.newest.stats.time_mean.to_bits() as i64
    }

    /// End of the window that closes next; `i64::MAX` where none is open.
    pub fn next_end(&self) -> i64 {
        self.panes().map(|pane| pane.start).min().map_or(i64::MAX, |start| start + self.length)
    }

    /// Closes every window that ends at or before `until`, in no particular order.
    #[inline]
    pub fn close(&mut self, until: i64, mut emit: impl FnMut(Pane)) {
        let length = self.length;
        let mut closed_until = self.closed_until;
        let mut closes = |pane: &Pane| {
            let closes = pane.is_open() && pane.start + length <= until;
            if closes {
                closed_until = closed_until.max(pane.start + length);
                emit(*pane);
            }
            closes
        };
        if !self.older.is_empty() {
            self.older.retain(|pane| !closes(pane));
        }
        for place in [&mut self.previous, &mut self.newest] {
            if closes(place) {
                *place = Pane::NONE;
            }
        }
        self.closed_until = closed_until;
    }

    /// The same windows as another definition of the same length, after a change of dictionary.
    #[must_use]
    pub fn under(&self, definition: u32) -> Self {
        Self { definition, ..self.clone() }
    }

    /// All open windows, in no particular order.
    pub fn panes(&self) -> impl Iterator<Item = &Pane> {
        [&self.newest, &self.previous].into_iter().chain(&self.older).filter(|pane| pane.is_open())
    }
}

/// What became of a reading under one definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Added,
    /// Into a window that this reading opened.
    Opened,
    /// Its window has closed.
    Missed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(windows: &Windows) -> Vec<i64> {
        let mut starts: Vec<i64> = windows.panes().map(|pane| pane.start).collect();
        starts.sort_unstable();
        starts
    }

    #[test]
    fn readings_open_windows_in_any_order_and_find_them_again() {
        let mut windows = Windows::new(0, 10);
        for (time, taken) in [(25, Taken::Opened), (5, Taken::Opened), (15, Taken::Opened), (41, Taken::Opened)] {
            assert_eq!(windows.take(i64::MIN, time, 1.0), taken);
        }
        for time in [0, 19, 20, 49] {
            assert_eq!(windows.take(i64::MIN, time, 1.0), Taken::Added);
        }
        assert_eq!(starts(&windows), [0, 10, 20, 40]);
        assert!(windows.panes().all(|pane| pane.stats.count == 2));
    }

    #[test]
    fn a_closed_window_takes_nothing_and_closing_raises_closed_until() {
        let mut windows = Windows::new(0, 10);
        for time in [1, 11, 21] {
            windows.take(i64::MIN, time, 1.0);
        }
        let mut closed = Vec::new();
        windows.close(20, |pane| closed.push(pane.start));
        closed.sort_unstable();
        assert_eq!((closed, windows.closed_until, windows.next_end()), (vec![0, 10], 20, 30));
        assert_eq!(windows.take(i64::MIN, 12, 1.0), Taken::Missed);
        assert_eq!(windows.take(30, 22, 1.0), Taken::Added, "open until it is closed");
        assert_eq!(windows.take(40, 31, 1.0), Taken::Missed);
    }

    #[test]
    fn windows_before_1970_are_aligned_too() {
        assert_eq!(start_of(-1, 10), -10);
        assert_eq!(start_of(-10, 10), -10);
    }
}
