//! The windows of one series and definition: which are open, what they hold, when they close.
//!
//! Readings are collected in panes: a tumbling window is one pane, a hopping window the panes that it covers, a session
//! a pane that grows with its readings. Almost always the one or two newest panes are at work, so these stand inline;
//! the rest is kept in `older`. What a window takes, and when it ends, is the only thing that the kinds differ in.

mod hopping;
mod session;

use crate::dictionary::compiled::Window;
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

/// The kinds of windows, a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tumbling { length: i64 },
    Hopping { length: i64, hop: i64 },
    Session { gap: i64 },
}

impl Kind {
    #[inline]
    pub fn of(window: &Window) -> Self {
        match window.gap_us {
            Some(gap) => Self::Session { gap },
            None if window.hop_us == window.length_us => Self::Tumbling { length: window.length_us },
            None => Self::Hopping { length: window.length_us, hop: window.hop_us },
        }
    }
}

/// What a window is told of a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub time: i64,
    pub value: f64,
    /// [`crate::stats::NO_SCORE`] where it has none.
    pub score: f64,
}

/// The statistics of the readings from `start` on, up to where the kind of window says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pane {
    pub start: i64,
    pub stats: Accumulator,
}

impl Pane {
    /// A place without a pane. It starts so early that no reading falls into it.
    const NONE: Self = Self { start: i64::MIN, stats: Accumulator::NONE };

    fn is_open(&self) -> bool {
        self.start != i64::MIN
    }

    fn of(start: i64, reading: &Reading) -> Self {
        let after_start = reading.time - start;
        Self { start, stats: Accumulator::new(reading.time, after_start, reading.value, reading.score) }
    }

    #[inline(always)]
    fn add(&mut self, reading: &Reading) {
        self.stats.add(reading.time, reading.time - self.start, reading.value, reading.score);
    }
}

/// A window as it closes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    pub start: i64,
    pub end: i64,
    pub stats: Accumulator,
}

/// Start of the window or pane of `length` that holds `time`; windows are aligned to 1970-01-01 UTC.
#[inline]
pub fn start_of(time: i64, length: i64) -> i64 {
    time - time.rem_euclid(length)
}

/// What became of a reading under one definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether any window took it.
    pub entered: bool,
    /// Windows that would have, had they not closed.
    pub missed: u32,
    /// Whether a window opened, so that the next one may close sooner than was known.
    pub opened: bool,
}

impl Taken {
    const ADDED: Self = Self { entered: true, missed: 0, opened: false };
    const OPENED: Self = Self { entered: true, missed: 0, opened: true };
    const MISSED: Self = Self { entered: false, missed: 1, opened: false };
}

/// The windows of one series under one definition. The fields that every reading needs fill two cache lines.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Windows {
    /// How far behind the start of the newest pane a reading only adds to it; 0 where each needs a closer look.
    reach: i64,
    /// No window that ends at or before this takes a reading any more, whatever the watermark says.
    pub closed_until: i64,
    newest: Pane,
    previous: Pane,
    /// By start, all before `previous`.
    older: Vec<Pane>,
    /// Index of the definition within its metric.
    pub definition: u32,
}

impl Windows {
    pub fn new(definition: u32) -> Self {
        Self {
            reach: 0,
            closed_until: i64::MIN,
            newest: Pane::NONE,
            previous: Pane::NONE,
            older: Vec::new(),
            definition,
        }
    }

    /// Puts a reading into the windows that cover it and are open. `windows` are the definitions of the metric.
    #[inline(always)]
    pub fn take(&mut self, windows: &[Window], watermark: i64, reading: &Reading) -> Taken {
        let after_start = reading.time.wrapping_sub(self.newest.start);
        if (after_start as u64) < self.reach as u64 {
            self.newest.add(reading);
            return Taken::ADDED;
        }
        self.take_elsewhere(Kind::of(&windows[self.definition as usize]), watermark, reading)
    }

    #[inline(never)]
    fn take_elsewhere(&mut self, kind: Kind, watermark: i64, reading: &Reading) -> Taken {
        let passed = watermark.max(self.closed_until);
        match kind {
            Kind::Tumbling { length } => {
                let start = start_of(reading.time, length);
                if start + length <= passed {
                    return Taken::MISSED;
                }
                self.put(length, start, reading)
            }
            Kind::Hopping { length, hop } => hopping::take(self, length, hop, passed, reading),
            Kind::Session { gap } => session::take(self, gap, passed, reading),
        }
    }

    /// Adds a reading to the pane of a fixed length that starts at `start`, which is opened if need be.
    fn put(&mut self, length: i64, start: i64, reading: &Reading) -> Taken {
        let known = [&mut self.newest, &mut self.previous].into_iter().find(|pane| pane.start == start);
        if let Some(pane) = known {
            pane.add(reading);
            return Taken::ADDED;
        }
        if let Ok(at) = self.older.binary_search_by_key(&start, |pane| pane.start) {
            self.older[at].add(reading);
            return Taken::ADDED;
        }
        self.insert(Pane::of(start, reading));
        self.settle(length);
        Taken::OPENED
    }

    /// Puts a pane, new or restored, in its place.
    pub fn place(&mut self, kind: Kind, pane: Pane) {
        self.insert(pane);
        match kind {
            Kind::Tumbling { length } => self.settle(length),
            Kind::Hopping { hop, .. } => self.settle(hop),
            Kind::Session { .. } => {}
        }
    }

    /// Keeps the two newest panes inline and what falls out in order.
    fn insert(&mut self, pane: Pane) {
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
            let at = self.older.partition_point(|known| known.start < older.start);
            self.older.insert(at, older);
        }
    }

    /// The shortcut into the newest pane holds for as long as every window that covers it is open: then it needs no
    /// look at the watermark, which cannot pass the end of a pane that no newer reading follows.
    fn settle(&mut self, length: i64) {
        let whole = self.newest.is_open() && self.newest.start + length > self.closed_until;
        self.reach = if whole { length } else { 0 };
    }

    /// Reads a word of both cache lines that `take` needs.
    #[inline(always)]
    pub fn touch(&self) -> i64 {
        self.reach ^ self.newest.stats.time_mean.to_bits() as i64
    }

    /// End of the window that closes next; `i64::MAX` where none is open.
    pub fn next_end(&self, kind: Kind) -> i64 {
        let Some(oldest) = self.panes().next() else { return i64::MAX };
        match kind {
            Kind::Tumbling { length } => oldest.start + length,
            Kind::Hopping { hop, .. } => hopping::next_end(oldest.start, self.closed_until, hop),
            Kind::Session { gap } => session::end(oldest, gap),
        }
    }

    /// Closes every window that ends at or before `until`, by its end.
    #[inline]
    pub fn close(&mut self, kind: Kind, until: i64, emit: impl FnMut(Finished)) {
        match kind {
            Kind::Tumbling { length } => {
                self.close_panes(until, |pane| pane.start + length, emit);
                self.settle(length);
            }
            Kind::Hopping { length, hop } => {
                hopping::close(self, length, hop, until, emit);
                self.settle(hop);
            }
            Kind::Session { gap } => self.close_panes(until, |pane| session::end(pane, gap), emit),
        }
    }

    /// Closes windows that are one pane each.
    #[inline]
    fn close_panes(&mut self, until: i64, end_of: impl Fn(&Pane) -> i64, mut emit: impl FnMut(Finished)) {
        let closed_until = &mut self.closed_until;
        let mut closes = |pane: &Pane| {
            let closes = pane.is_open() && end_of(pane) <= until;
            if closes {
                let end = end_of(pane);
                *closed_until = end.max(*closed_until);
                emit(Finished { start: pane.start, end, stats: pane.stats });
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
    }

    /// The same windows under another number of their definition, after a change of dictionary.
    #[must_use]
    pub fn under(&self, definition: u32) -> Self {
        Self { definition, ..self.clone() }
    }

    /// All panes that are kept, by start.
    pub fn panes(&self) -> impl Iterator<Item = &Pane> {
        self.older.iter().chain([&self.previous, &self.newest]).filter(|pane| pane.is_open())
    }

    /// All windows that are open, as they would close now.
    pub fn open(&self, kind: Kind) -> Vec<Finished> {
        let mut open = Vec::new();
        self.clone().close(kind, i64::MAX, |window| open.push(window));
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDED: Taken = Taken::ADDED;
    const OPENED: Taken = Taken::OPENED;
    const MISSED: Taken = Taken::MISSED;

    /// Windows of one definition, driven by times alone.
    pub(super) struct Plain {
        pub(super) windows: Windows,
        pub(super) definition: [Window; 1],
    }

    impl Plain {
        pub(super) fn new(definition: Window) -> Self {
            Self { windows: Windows::new(0), definition: [definition] }
        }

        pub(super) fn take(&mut self, watermark: i64, time: i64) -> Taken {
            self.windows.take(&self.definition, watermark, &Reading { time, value: time as f64, score: -1.0 })
        }

        /// Start, end and count of the windows that close.
        pub(super) fn close(&mut self, until: i64) -> Vec<(i64, i64, u64)> {
            let mut closed = Vec::new();
            let kind = Kind::of(&self.definition[0]);
            self.windows.close(kind, until, |window| closed.push((window.start, window.end, window.stats.count)));
            closed
        }

        pub(super) fn next_end(&self) -> i64 {
            self.windows.next_end(Kind::of(&self.definition[0]))
        }
    }

    fn tumbling() -> Plain {
        Plain::new(Window::fixed("10us", 10, 10))
    }

    #[test]
    fn readings_open_windows_in_any_order_and_find_them_again() {
        let mut plain = tumbling();
        for (time, taken) in [(25, OPENED), (5, OPENED), (15, OPENED), (41, OPENED)] {
            assert_eq!(plain.take(i64::MIN, time), taken);
        }
        for time in [0, 19, 20, 49] {
            assert_eq!(plain.take(i64::MIN, time), ADDED);
        }
        let starts: Vec<i64> = plain.windows.panes().map(|pane| pane.start).collect();
        assert_eq!(starts, [0, 10, 20, 40]);
        assert!(plain.windows.panes().all(|pane| pane.stats.count == 2));
    }

    #[test]
    fn a_closed_window_takes_nothing_and_closing_raises_closed_until() {
        let mut plain = tumbling();
        for time in [1, 11, 21] {
            plain.take(i64::MIN, time);
        }
        assert_eq!(plain.close(20), [(0, 10, 1), (10, 20, 1)]);
        assert_eq!((plain.windows.closed_until, plain.next_end()), (20, 30));
        assert_eq!(plain.take(i64::MIN, 12), MISSED);
        assert_eq!(plain.take(30, 22), ADDED, "open until it is closed");
        assert_eq!(plain.take(40, 31), MISSED);
    }

    #[test]
    fn windows_before_1970_are_aligned_too() {
        assert_eq!(start_of(-1, 10), -10);
        assert_eq!(start_of(-10, 10), -10);
    }
}
