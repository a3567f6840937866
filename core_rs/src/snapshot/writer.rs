//! The writing half of a state's format.

use crate::alarm::{State, Transition};
use crate::output::AlarmRow;
use crate::score::Memory;
use crate::series::{Series, Watch};
use crate::window::Pane;

pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn integer(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn float(&mut self, value: f64) {
        self.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.integer(text.len() as i64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(super) fn pane(&mut self, pane: &Pane) {
        let stats = &pane.stats;
        for value in [pane.start, stats.count as i64, stats.first_time, stats.last_time] {
            self.integer(value);
        }
        for value in [
            stats.first,
            stats.last,
            stats.min,
            stats.max,
            stats.mean,
            stats.squares,
            stats.time_mean,
            stats.time_squares,
            stats.products,
            stats.score_max,
        ] {
            self.float(value);
        }
    }

    pub(super) fn series(&mut self, series: &Series) {
        self.integer(series.watermark);
        self.integer(series.newest);
        self.integer(series.seen);
        self.integer(series.recent.len() as i64);
        for &time in &series.recent {
            self.integer(time);
        }
        for windows in &series.windows {
            self.integer(windows.closed_until);
            self.integer(windows.panes().count() as i64);
            for pane in windows.panes() {
                self.pane(pane);
            }
        }
        self.watch(&series.watch);
    }

    fn watch(&mut self, watch: &Watch) {
        match watch.memory {
            Memory::None => self.integer(0),
            Memory::Ewma(ewma) => {
                self.integer(1);
                self.float(ewma.mean);
                self.float(ewma.variance);
                self.integer(i64::from(ewma.count));
            }
        }
        self.float(watch.last);
        let states = watch.states.as_deref().unwrap_or_default();
        self.integer(states.len() as i64);
        for state in states {
            self.state(state);
        }
    }

    fn state(&mut self, state: &State) {
        match state {
            State::Normal => self.integer(0),
            State::Pending { onset, peak } => {
                self.integer(1);
                self.integer(*onset);
                self.float(*peak);
            }
            State::Active(active) => {
                self.integer(2);
                self.integer(active.raised_by.0);
                self.integer(i64::from(active.raised_by.1));
                self.integer(i64::from(active.step));
                self.integer(active.onset);
                self.float(active.peak);
                self.float(active.reported);
                self.integer(active.reported_at);
                self.maybe(active.back_since, Self::integer);
            }
        }
    }

    /// An alarm that a change of dictionary cleared: always a clearing, without a score, its cause still to come.
    pub(super) fn alarm(&mut self, row: &AlarmRow) {
        debug_assert_eq!(row.transition, Transition::Cleared);
        for text in [&row.alarm_id, &row.device, &row.metric, &row.rule, &row.message] {
            self.text(text);
        }
        self.maybe(row.asset.as_deref(), Self::text);
        for number in [i64::from(row.step), i64::from(row.priority), row.onset_time, row.event_time] {
            self.integer(number);
        }
        self.float(row.value);
        self.float(row.peak);
        self.maybe(row.threshold, Self::float);
    }

    fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.integer(i64::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}
