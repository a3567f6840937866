//! Scores: how strange a reading is against what its series has been, by a closed set of detectors.
//!
//! A detector sees the readings of one series whose event times ascend, scores each before it learns from it, and keeps
//! a state of fixed size. Which one, and with what parameters, the data dictionary says.

mod ewma;

pub use ewma::Ewma;

use crate::dictionary::compiled::{Detector, Metric};

/// Higher scores say no more. It keeps what is stored exact: a float32 holds sixteenths up to 2^20.
pub const SCORE_MAX: f64 = 1_000_000.0;

/// What a detector says of a reading; the names of the states stand in `output.rs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// Exact, from zero to [`SCORE_MAX`].
    Scored(f64),
    /// Too few readings so far.
    Learning,
    /// Not after the last reading that was looked at.
    OutOfOrder,
    /// The metric has no detector.
    Off,
}

impl Score {
    pub fn value(self) -> Option<f64> {
        match self {
            Self::Scored(score) => Some(score),
            Self::Learning | Self::OutOfOrder | Self::Off => None,
        }
    }
}

/// What a detector remembers of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Memory {
    None,
    Ewma(Ewma),
}

impl Memory {
    pub fn new(metric: &Metric) -> Self {
        match metric.detector {
            Detector::None => Self::None,
            Detector::Ewma { .. } => Self::Ewma(Ewma::default()),
        }
    }

    /// Scores a reading that comes `elapsed_us` after the last one, then learns from it.
    #[inline(always)]
    pub fn take(&mut self, metric: &Metric, elapsed_us: i64, value: f64) -> Score {
        match (self, metric.detector) {
            (Self::Ewma(ewma), Detector::Ewma { half_life_us, learn, .. }) => {
                let score = ewma.take(half_life_us, metric.resolution.unwrap_or(0.0), elapsed_us, value);
                if ewma.seen(learn) { Score::Scored(score) } else { Score::Learning }
            }
            _ => Score::Off,
        }
    }
}

/// The score of a reading that is not looked at.
pub fn unseen(metric: &Metric) -> Score {
    if metric.detector == Detector::None { Score::Off } else { Score::OutOfOrder }
}

/// From which score on the lake keeps it.
pub fn store_above(metric: &Metric) -> f64 {
    match metric.detector {
        Detector::None => f64::INFINITY,
        Detector::Ewma { store_above, .. } => store_above,
    }
}

/// A score as it is stored: to sixteenths, because its last bits would cost more than all the rest of a row.
#[inline]
pub fn stored(score: f64) -> f32 {
    ((score * 16.0 + 0.5).floor() / 16.0) as f32
}
