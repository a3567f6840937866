//! The statistics of one window, updated a reading at a time in arrival order.
//!
//! Mean, variance and covariance with time follow B. P. Welford, "Note on a Method for Calculating Corrected Sums of
//! Squares and Products", Technometrics 4 (1962): one pass, and exact enough where a plain sum of squares is not. The
//! slope is that of the least-squares line of value over event time. Panes are merged after T. F. Chan, G. H. Golub and
//! R. J. `LeVeque`, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", Stanford STAN-CS-79-773.

/// Running statistics of at least one reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accumulator {
    pub count: u64,
    pub first_time: i64,
    pub last_time: i64,
    pub first: f64,
    pub last: f64,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// Sum of squared deviations of the values.
    pub squares: f64,
    /// Mean of the event times, in microseconds after the start of the window.
    pub time_mean: f64,
    /// Sum of squared deviations of the event times.
    pub time_squares: f64,
    /// Sum of products of both deviations.
    pub products: f64,
    /// Greatest score, [`NO_SCORE`] where no reading has one.
    pub score_max: f64,
}

/// Stands for the score of a reading that was not scored; scores are zero or more.
pub const NO_SCORE: f64 = -1.0;

impl Accumulator {
    /// Statistics of no reading, where a window may come to stand.
    pub const NONE: Self = Self {
        count: 0,
        first_time: 0,
        last_time: 0,
        first: 0.0,
        last: 0.0,
        min: 0.0,
        max: 0.0,
        mean: 0.0,
        squares: 0.0,
        time_mean: 0.0,
        time_squares: 0.0,
        products: 0.0,
        score_max: NO_SCORE,
    };

    /// Statistics of a single reading at `event_time`, `after_start` microseconds into its window.
    #[inline]
    pub fn new(event_time: i64, after_start: i64, value: f64, score: f64) -> Self {
        Self {
            count: 1,
            first_time: event_time,
            last_time: event_time,
            first: value,
            last: value,
            min: value,
            max: value,
            mean: value,
            squares: 0.0,
            time_mean: after_start as f64,
            time_squares: 0.0,
            products: 0.0,
            score_max: score,
        }
    }

    #[inline(always)]
    pub fn add(&mut self, event_time: i64, after_start: i64, value: f64, score: f64) {
        self.count += 1;
        let weight = 1.0 / self.count as f64;
        let time = after_start as f64;
        let (time_before, before) = (time - self.time_mean, value - self.mean);
        self.time_mean += time_before * weight;
        self.mean += before * weight;
        let after = value - self.mean;
        self.squares += before * after;
        self.time_squares += time_before * (time - self.time_mean);
        self.products += time_before * after;
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
        self.score_max = if score > self.score_max { score } else { self.score_max };
        // Of equal event times the first to arrive is the first, the last to arrive the last.
        if event_time >= self.last_time {
            self.last_time = event_time;
            self.last = value;
        } else if event_time < self.first_time {
            self.first_time = event_time;
            self.first = value;
        }
    }

    /// The same readings, counted from a window start that lies `earlier_us` before the one so far.
    #[must_use]
    pub fn counted_from(&self, earlier_us: i64) -> Self {
        Self { time_mean: self.time_mean + earlier_us as f64, ..*self }
    }

    /// Joins statistics of later readings, counted from the same window start.
    pub fn merge(&mut self, later: &Self) {
        let (count, added) = (self.count as f64, later.count as f64);
        let share = added / (count + added);
        let weight = count * share;
        let (time, value) = (later.time_mean - self.time_mean, later.mean - self.mean);
        self.count += later.count;
        self.time_mean += time * share;
        self.mean += value * share;
        self.squares += later.squares + value * value * weight;
        self.time_squares += later.time_squares + time * time * weight;
        self.products += later.products + time * value * weight;
        self.min = if later.min < self.min { later.min } else { self.min };
        self.max = if later.max > self.max { later.max } else { self.max };
        self.score_max = if later.score_max > self.score_max { later.score_max } else { self.score_max };
        if later.last_time >= self.last_time {
            self.last_time = later.last_time;
            self.last = later.last;
        }
        if later.first_time < self.first_time {
            self.first_time = later.first_time;
            self.first = later.first;
        }
    }

    pub fn mean(&self) -> Option<f64> {
        finite(self.mean)
    }

    /// Sample standard deviation (n - 1); none for a single reading.
    pub fn std(&self) -> Option<f64> {
        if self.count < 2 {
            return None;
        }
        finite((self.squares / (self.count - 1) as f64).sqrt())
    }

    /// Greatest score, rounded as stored; none where no reading has one.
    pub fn score_max(&self) -> Option<f32> {
        (self.score_max >= 0.0).then(|| crate::score::stored(self.score_max))
    }

    /// Slope of the least-squares line, in units per second; none where all readings share one event time.
    pub fn slope_per_s(&self) -> Option<f64> {
        if self.time_squares > 0.0 { finite(self.products / self.time_squares * 1e6) } else { None }
    }
}

/// A statistic that overflowed is null, never infinite or NaN (I8).
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(readings: &[(i64, f64)]) -> Accumulator {
        let mut all = Accumulator::new(readings[0].0, readings[0].0, readings[0].1, NO_SCORE);
        for &(time, value) in &readings[1..] {
            all.add(time, time, value, NO_SCORE);
        }
        all
    }

    #[test]
    fn a_straight_line_has_its_slope_and_spread() {
        let line = of(&[(0, 1.0), (1_000_000, 3.0), (2_000_000, 5.0), (3_000_000, 7.0)]);
        assert_eq!(line.mean(), Some(4.0));
        assert!((line.slope_per_s().unwrap() - 2.0).abs() < 1e-12);
        assert!((line.std().unwrap() - (20.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn first_and_last_go_by_event_time_and_ties_by_arrival() {
        let all = of(&[(5, 1.0), (9, 2.0), (1, 3.0), (9, 4.0), (1, 5.0)]);
        assert_eq!((all.first, all.first_time, all.last, all.last_time), (3.0, 1, 4.0, 9));
    }

    #[test]
    fn i8_a_single_reading_and_an_overflow_have_no_spread() {
        assert_eq!((of(&[(0, 1.0)]).std(), of(&[(0, 1.0)]).slope_per_s()), (None, None));
        let huge = of(&[(0, 1.7e308), (1, -1.7e308), (2, 1.7e308)]);
        assert_eq!((huge.mean(), huge.std(), huge.slope_per_s()), (None, None, None));
        assert_eq!((huge.min, huge.max), (-1.7e308, 1.7e308));
    }

    #[test]
    fn equal_event_times_have_no_slope() {
        assert_eq!(of(&[(7, 1.0), (7, 2.0)]).slope_per_s(), None);
    }

    #[test]
    fn merged_panes_are_the_statistics_of_all_their_readings() {
        let readings = [(0, 1.0), (3, 9.0), (10, 2.0), (12, -4.0), (19, 5.0)];
        let (all, mut merged, later) = (of(&readings), of(&readings[..2]), of(&readings[2..]));
        merged.merge(&later);
        assert_eq!((merged.count, merged.first, merged.last, merged.min, merged.max), (5, 1.0, 5.0, -4.0, 9.0));
        for (one, other) in [
            (merged.mean(), all.mean()),
            (merged.std(), all.std()),
            (merged.slope_per_s(), all.slope_per_s()),
            (Some(merged.time_mean), Some(all.time_mean)),
        ] {
            assert!((one.unwrap() - other.unwrap()).abs() < 1e-9 * other.unwrap().abs());
        }
        let shifted = all.counted_from(100);
        assert_eq!(shifted.time_mean, all.time_mean + 100.0);
        assert_eq!(shifted.slope_per_s(), all.slope_per_s());
    }
}
