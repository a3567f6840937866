//! Sessions: readings less than `gap` apart. A session lasts from its first reading until `gap` after its last one.
//!
//! A reading's own window is `[time, time + gap)`. It enters a session if that window is open, whatever the session's end,
//! so that no session can come to begin where one begins that was emitted before.

use super::{Pane, Reading, Taken, Windows};

pub(super) fn end(session: &Pane, gap: i64) -> i64 {
    session.stats.last_time + gap
}

pub(super) fn take(windows: &mut Windows, gap: i64, passed: i64, reading: &Reading) -> Taken {
    let time = reading.time;
    if time + gap <= passed {
        return Taken::MISSED;
    }
    let newest = &mut windows.newest;
    // Earlier sessions end before the newest begins, so a reading behind its start touches none of them.
    if newest.is_open() && time >= newest.start && time < end(newest, gap) {
        newest.add(reading);
        return Taken::ADDED;
    }
    let mut joined: Option<Pane> = None;
    while let Some(earlier) = windows.remove_last(|session| time < end(session, gap) && session.start < time + gap) {
        joined = Some(match joined {
            None => earlier,
            Some(later) => join(earlier, &later),
        });
    }
    let Some(mut session) = joined else {
        windows.insert(Pane::of(time, reading));
        return Taken::OPENED;
    };
    if time < session.start {
        session = Pane { start: time, stats: session.stats.counted_from(session.start - time) };
    }
    session.add(reading);
    windows.insert(session);
    Taken::ADDED
}

fn join(earlier: Pane, later: &Pane) -> Pane {
    let mut session = earlier;
    session.stats.merge(&later.stats.counted_from(later.start - earlier.start));
    session
}

impl Windows {
    /// Takes out the latest pane that fits; the next newer ones move up, so that the inline places stay the newest.
    fn remove_last(&mut self, fits: impl Fn(&Pane) -> bool) -> Option<Pane> {
        if self.newest.is_open() && fits(&self.newest) {
            let next = self.older.pop().unwrap_or(Pane::NONE);
            return Some(std::mem::replace(&mut self.newest, std::mem::replace(&mut self.previous, next)));
        }
        if self.previous.is_open() && fits(&self.previous) {
            let next = self.older.pop().unwrap_or(Pane::NONE);
            return Some(std::mem::replace(&mut self.previous, next));
        }
        self.older.iter().rposition(fits).map(|at| self.older.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Plain;
    use super::*;
    use crate::dictionary::compiled::Window;

    fn sessions() -> Plain {
        Plain::new(Window::session("session/10us", 10))
    }

    #[test]
    fn readings_less_than_a_gap_apart_share_a_session() {
        let mut plain = sessions();
        assert_eq!(plain.take(i64::MIN, 5), Taken::OPENED);
        assert_eq!(plain.take(i64::MIN, 14), Taken::ADDED);
        assert_eq!(plain.take(i64::MIN, 24), Taken::OPENED, "a gap apart is another session");
        assert_eq!((plain.next_end(), plain.close(100)), (24, vec![(5, 24, 2), (24, 34, 1)]));
    }

    #[test]
    fn a_reading_in_between_joins_two_sessions_and_an_earlier_one_moves_the_start() {
        let mut plain = sessions();
        for time in [0, 15, 40, 60] {
            assert_eq!(plain.take(i64::MIN, time), Taken::OPENED);
        }
        assert_eq!(plain.take(i64::MIN, 8), Taken::ADDED);
        assert_eq!(plain.take(i64::MIN, 33), Taken::ADDED);
        let starts: Vec<i64> = plain.windows.panes().map(|pane| pane.start).collect();
        assert_eq!(starts, [0, 33, 60]);
        assert_eq!(plain.close(i64::MAX), [(0, 25, 3), (33, 50, 2), (60, 70, 1)]);
    }

    #[test]
    fn a_reading_whose_own_window_has_closed_is_missed_though_its_session_is_open() {
        let mut plain = sessions();
        plain.take(i64::MIN, 20);
        plain.take(i64::MIN, 29);
        assert_eq!(plain.take(25, 15), Taken::MISSED);
        assert_eq!(plain.take(25, 16), Taken::ADDED);
        assert_eq!(plain.close(39), [(16, 39, 3)]);
        assert_eq!(plain.take(25, 29), Taken::MISSED);
        assert_eq!(plain.take(25, 30), Taken::OPENED, "a new session beside the one that was emitted");
    }
}
