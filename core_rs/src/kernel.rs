//! The window stage alone, for columns of numbers: batch work on rows that are decoded already, and its benchmark.

use crate::dictionary::compiled::{Conversion, Detector, Metric, Window};
use crate::series::{Closed, Identity, Series, Store, in_order};

/// Windows of one definition over any number of series. Partition time is the newest event time.
pub struct FixedWindows {
    metric: Metric,
    store: Store,
    newest: i64,
    closed: Vec<Closed>,
}

impl FixedWindows {
    /// All in microseconds; the length is a positive multiple of the hop.
    pub fn new(length_us: i64, hop_us: i64, out_of_orderness_us: i64) -> Self {
        let metric = Metric {
            name: String::new(),
            unit: "1".to_owned(),
            conversion: Conversion { subtract: 0.0, multiply: 1.0, divide: 1.0 },
            range: None,
            resolution: None,
            every_us: None,
            states: None,
            windows: vec![Window::fixed("", length_us, hop_us)],
            out_of_orderness_us,
            idle_us: crate::limits::DURATION_MAX_US,
            clock_skew_us: 0,
            max_age_us: crate::limits::DURATION_MAX_US,
            duplicates: 8,
            detector: Detector::None,
            alarms: Vec::new(),
        };
        Self { metric, store: Store::default(), newest: i64::MIN, closed: Vec::new() }
    }

    /// Takes readings in arrival order and hands every window that closes to `emit`. Series numbers are
    /// dense from 0: memory is held for every number up to the highest.
    pub fn on_readings(&mut self, series: &[u32], event_times: &[i64], values: &[f64], mut emit: impl FnMut(&Closed)) {
        let series_max = series.iter().copied().max().map_or(0, |number| number as usize + 1);
        self.store.reserve(series_max, usize::from(self.metric.duplicates));
        while self.store.len() < series_max {
            let identity = Identity { device: 0, metric: 0, definition: 0 };
            self.store.attach(Series::new(identity, &self.metric), &self.metric);
        }
        for (at, ((&number, &time), &value)) in series.iter().zip(event_times).zip(values).enumerate() {
            if at % 16 == 0 {
                let ahead = &series[at..series.len().min(at + 16)];
                std::hint::black_box(ahead.iter().fold(0, |word, &number| word ^ self.store.touch(number)));
            }
            self.newest = self.newest.max(time);
            self.store.take(number, &self.metric, self.newest, time, value, &mut self.closed);
            if !self.closed.is_empty() {
                in_order(&mut self.closed);
                self.closed.iter().for_each(&mut emit);
                self.closed.clear();
            }
        }
    }

    /// Closes every open window.
    pub fn flush(&mut self, mut emit: impl FnMut(&Closed)) {
        let metric = &self.metric;
        self.store.close_all(|_| metric, &mut self.closed);
        in_order(&mut self.closed);
        self.closed.iter().for_each(&mut emit);
        self.closed.clear();
    }
}
