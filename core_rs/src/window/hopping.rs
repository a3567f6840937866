//! Hopping windows: `length` long, one begins at every multiple of `hop`. Readings are kept once, in panes of a hop, and
//! a window merges the panes that it covers when it closes.
//!
//! A window is due when it holds a reading that it could still take, whether its last pane has one or not. Which those
//! are needs no list: a reading that misses a window raises `closed_until` over it, so every window that ends after
//! `closed_until` and covers a pane is due.

use super::{Finished, Reading, Taken, Windows, start_of};
use crate::stats::Accumulator;

pub(super) fn take(windows: &mut Windows, length: i64, hop: i64, passed: i64, reading: &Reading) -> Taken {
    let start = start_of(reading.time, hop);
    // The windows that cover the pane end at start + hop, start + 2 hop, ... start + length.
    let covering = length / hop;
    let missed = if start + hop > passed { 0 } else { ((passed - start) / hop).min(covering) };
    if missed == covering {
        return Taken { entered: false, missed: missed as u32, opened: false };
    }
    if missed > 0 {
        windows.closed_until = passed;
        windows.settle(hop);
    }
    let taken = windows.put(hop, start, reading);
    Taken { missed: missed as u32, ..taken }
}

/// End of the first window after `closed_until` that covers the oldest pane.
pub(super) fn next_end(oldest_start: i64, closed_until: i64, hop: i64) -> i64 {
    let first = oldest_start + hop;
    if closed_until < first { first } else { start_of(closed_until, hop) + hop }
}

pub(super) fn close(windows: &mut Windows, length: i64, hop: i64, until: i64, mut emit: impl FnMut(Finished)) {
    let Some(oldest) = windows.panes().next().map(|pane| pane.start) else { return };
    let until = until.min(windows.newest_start() + length);
    let mut end = next_end(oldest, windows.closed_until, hop);
    while end <= until {
        let start = end - length;
        let mut merged: Option<Accumulator> = None;
        let covered = windows.panes().skip_while(|pane| pane.start < start).take_while(|pane| pane.start < end);
        for pane in covered {
            let stats = pane.stats.counted_from(pane.start - start);
            match &mut merged {
                None => merged = Some(stats),
                Some(merged) => merged.merge(&stats),
            }
        }
        if let Some(stats) = merged {
            windows.closed_until = end;
            emit(Finished { start, end, stats });
            end += hop;
        } else {
            // No pane from here to the end of the window, so the next one that counts begins later.
            let next = windows.panes().map(|pane| pane.start).find(|start| *start >= end);
            end = next.map_or(i64::MAX, |start| start + hop);
        }
    }
    windows.forget(length);
}

impl Windows {
    fn newest_start(&self) -> i64 {
        self.panes().last().map_or(i64::MIN, |pane| pane.start)
    }

    /// Drops the panes of which every window has closed.
    fn forget(&mut self, length: i64) {
        let closed_until = self.closed_until;
        let over = |start: i64| start + length <= closed_until;
        self.older.retain(|pane| !over(pane.start));
        for place in [&mut self.previous, &mut self.newest] {
            if place.is_open() && over(place.start) {
                *place = super::Pane::NONE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Plain;
    use super::*;
    use crate::dictionary::compiled::Window;

    fn hopping() -> Plain {
        Plain::new(Window::fixed("30us/10us", 30, 10))
    }

    #[test]
    fn a_window_whose_last_pane_is_empty_is_emitted_too() {
        let mut plain = hopping();
        assert_eq!(plain.take(i64::MIN, 5), Taken::OPENED);
        assert_eq!(plain.next_end(), 10);
        assert_eq!(plain.close(1_000), [(-20, 10, 1), (-10, 20, 1), (0, 30, 1)]);
        assert_eq!(plain.next_end(), i64::MAX);
    }

    #[test]
    fn a_window_merges_its_panes_and_those_far_apart_share_none() {
        let mut plain = hopping();
        for time in [5, 12, 13, 25, 95] {
            plain.take(i64::MIN, time);
        }
        assert_eq!(plain.close(30), [(-20, 10, 1), (-10, 20, 3), (0, 30, 4)]);
        assert_eq!(plain.close(200), [(10, 40, 3), (20, 50, 1), (70, 100, 1), (80, 110, 1), (90, 120, 1)]);
    }

    #[test]
    fn a_reading_counts_the_windows_that_it_missed_and_these_are_not_emitted() {
        let mut plain = hopping();
        assert_eq!(plain.take(22, 5), Taken { missed: 2, ..Taken::OPENED });
        assert_eq!(plain.next_end(), 30);
        assert_eq!(plain.take(25, 6), Taken { missed: 2, ..Taken::ADDED });
        assert_eq!(plain.take(30, 7), Taken { entered: false, missed: 3, opened: false });
        assert_eq!(plain.close(30), [(0, 30, 2)]);
    }

    #[test]
    fn silence_closes_some_windows_of_a_pane_and_the_others_still_count_right() {
        let mut plain = hopping();
        plain.take(i64::MIN, 15);
        assert_eq!(plain.close(25), [(-10, 20, 1)]);
        assert_eq!(plain.take(i64::MIN, 16), Taken { missed: 1, ..Taken::ADDED }, "its first window has closed");
        assert_eq!(plain.close(i64::MAX), [(0, 30, 2), (10, 40, 2)]);
    }
}
