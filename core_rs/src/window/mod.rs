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

/// Start of the window of `length` that holds `time`; windows are aligned to 1970-01-01 UTC.
#[inline]
pub fn start_of(time: i64, length: i64) -> i64 {
    time - time.rem_euclid(length)
}

/// The open windows of one series under one definition.
#[derive(Clone, Debug)]
pub struct Windows {
    pub length: i64,
    /// No window that ends at or before this takes a reading any more, whatever the watermark says.
    pub closed_until: i64,
    newest: Option<Pane>,
    previous: Option<Pane>,
    older: Vec<Pane>,
}

impl Windows {
    pub fn new(length: i64) -> Self {
        Self { length, closed_until: i64::MIN, newest: None, previous: None, older: Vec::new() }
    }

    /// Puts a reading into its window if that is open; false where it has closed.
    #[inline(always)]
    pub fn take(&mut self, watermark: i64, time: i64, value: f64) -> Taken {
        if let Some(pane) = &mut self.newest {
            let after_start = time.wrapping_sub(pane.start);
            if (after_start as u64) < self.length as u64 {
                pane.stats.add(time, after_start, value);
                return Taken::Added;
            }
        }
        self.take_elsewhere(watermark, time, value)
    }

    #[inline(never)]
    fn take_elsewhere(&mut self, watermark: i64, time: i64, value: f64) -> Taken {
        let start = start_of(time, self.length);
        if start + self.length <= watermark.max(self.closed_until) {
            return Taken::Missed;
        }
        if let Some(pane) = self.previous.iter_mut().chain(&mut self.older).find(|pane| pane.start == start) {
            pane.stats.add(time, time - start, value);
            return Taken::Added;
        }
        let mut pane = Pane { start, stats: Accumulator::new(time, time - start, value) };
        // Keep the two newest inline; the one that falls out is the older of them.
        for place in [&mut self.newest, &mut self.previous] {
            match place {
                None => {
                    *place = Some(pane);
                    return Taken::Opened;
                }
                Some(held) if held.start < pane.start => std::mem::swap(held, &mut pane),
                Some(_) => {}
            }
        }
        self.older.push(pane);
        Taken::Opened
    }

    /// End of the window that closes next; `i64::MAX` where none is open.
    pub fn next_end(&self) -> i64 {
        self.panes().map(|pane| pane.start).min().map_or(i64::MAX, |start| start + self.length)
    }

    /// Closes every window that ends at or before `until`, in no particular order.
    #[inline]
    pub fn close(&mut self, until: i64, mut emit: impl FnMut(Pane)) {
        let length = self.length;
        let due = |pane: &Pane| pane.start + length <= until;
        let mut closed_until = self.closed_until;
        let mut close = |pane: Pane| {
            closed_until = closed_until.max(pane.start + length);
            emit(pane);
        };
        if !self.older.is_empty() {
            self.older.retain(|pane| {
                let closes = due(pane);
                if closes {
                    close(*pane);
                }
                !closes
            });
        }
        if self.previous.as_ref().is_some_and(due) {
            self.previous.take().into_iter().for_each(&mut close);
        }
        if self.newest.as_ref().is_some_and(due) {
            self.newest.take().into_iter().for_each(&mut close);
        }
        self.closed_until = closed_until;
    }

    /// All open windows, in no particular order.
    pub fn panes(&self) -> impl Iterator<Item = &Pane> {
        self.newest.iter().chain(&self.previous).chain(&self.older)
    }

    /// Puts back a window that a state held.
    pub fn restore(&mut self, pane: Pane) {
        if self.newest.is_none() {
            self.newest = Some(pane);
        } else if self.previous.is_none() {
            self.previous = Some(pane);
        } else {
            self.older.push(pane);
        }
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
        let mut windows = Windows::new(10);
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
        let mut windows = Windows::new(10);
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
