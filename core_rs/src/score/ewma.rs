//! Exponentially weighted mean and variance over event time; the score is the distance from the mean in deviations.
//!
//! S. W. Roberts, "Control Chart Tests Based on Geometric Moving Averages", Technometrics 1 (1959), for the chart;
//! T. Finch, "Incremental calculation of weighted mean and variance", University of Cambridge (2009), for the update. The
//! weight of a reading follows the time since the one before, so that a series may be measured at any pace.

use super::SCORE_MAX;

/// Mean and variance of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ewma {
    pub mean: f64,
    pub variance: f64,
    /// Readings seen, as many as matter.
    pub count: u32,
}

impl Ewma {
    /// Whether more than `learn` readings were seen, the last one included.
    #[inline(always)]
    pub fn seen(&self, learn: u32) -> bool {
        self.count > learn
    }

    /// Scores a value before it changes the mean.
    #[inline(always)]
    pub fn take(&mut self, half_life_us: i64, resolution: f64, elapsed_us: i64, value: f64) -> f64 {
        if self.count == 0 {
            *self = Self { mean: value, variance: 0.0, count: 1 };
            return 0.0;
        }
        self.count = self.count.saturating_add(1);
        // Values of opposite sign near the largest double are further apart than a double can say.
        let distance = (value - self.mean).clamp(-f64::MAX, f64::MAX);
        let score =
            if distance == 0.0 { 0.0 } else { (distance.abs() / self.variance.sqrt().max(resolution)).min(SCORE_MAX) };
        // libm's own code rather than the system's: the same bits on every machine (I2).
        let kept = libm::exp2(-(elapsed_us as f64 / half_life_us as f64));
        let weight = 1.0 - kept;
        self.mean += weight * distance;
        self.variance = kept * (self.variance + weight * distance * distance).min(f64::MAX);
        score
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_step_is_learned_in_a_half_life() {
        let mut ewma = Ewma::default();
        assert_eq!(ewma.take(10, 0.5, 0, 4.0), 0.0);
        assert_eq!(ewma.take(10, 0.5, 10, 5.0), 2.0, "one unit away, in units of the resolution");
        assert_eq!((ewma.mean, ewma.variance), (4.5, 0.25));
        assert_eq!(ewma.take(10, 0.5, 10, 5.0), 1.0);
    }

    #[test]
    fn i8_scores_are_finite_whatever_the_values() {
        let mut ewma = Ewma::default();
        for value in [0.0, 5e-324, f64::MAX, -f64::MAX, 1.0, f64::MIN_POSITIVE, -f64::MAX, f64::MAX] {
            let score = ewma.take(1_000, 0.0, 1, value);
            assert!((0.0..=SCORE_MAX).contains(&score), "{value}: {score}");
            assert!(ewma.mean.is_finite() && ewma.variance.is_finite(), "{ewma:?}");
        }
        let mut constant = Ewma::default();
        for _ in 0..3 {
            assert_eq!(constant.take(1_000, 0.0, 1, 7.0), 0.0);
        }
        assert_eq!(constant.take(1_000, 0.0, 1, 7.5), SCORE_MAX, "without spread or resolution any change is strange");
    }

    #[test]
    fn a_reading_is_scored_once_as_many_as_learn_came_before() {
        let mut ewma = Ewma::default();
        let seen: Vec<bool> = (0..4)
            .map(|at| {
                ewma.take(10, 0.0, 1, f64::from(at));
                ewma.seen(2)
            })
            .collect();
        assert_eq!(seen, [false, false, true, true]);
    }
}
