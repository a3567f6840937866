//! One rule and its life in one series: normal, pending for the on-delay, active, clearing for the off-delay.

use super::message::Wording;
use super::{Reading, Step, Transition};
use crate::dictionary::compiled::{Alarm, Condition, Metric};

/// A peak that goes on growing is reported at most this often.
const UPDATE_EVERY_US: i64 = 60_000_000;

/// Where a rule stands in a series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum State {
    #[default]
    Normal,
    /// The condition holds since `onset`, which is not yet long enough.
    Pending {
        onset: i64,
        peak: f64,
    },
    Active(Active),
}

impl State {
    pub fn active(&self) -> Option<Active> {
        match self {
            Self::Active(active) => Some(*active),
            Self::Normal | Self::Pending { .. } => None,
        }
    }
}

/// An alarm that was raised and has not cleared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Active {
    /// Sequence number and item of the reading that raised it.
    pub raised_by: (i64, i32),
    pub step: i32,
    pub onset: i64,
    pub peak: f64,
    /// The peak that the last transition told of, and its event time.
    pub reported: f64,
    pub reported_at: i64,
    /// Since when every reading was back.
    pub back_since: Option<i64>,
}

/// How a measure stands to a limit.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Exceeds,
    /// Within the deadband.
    Between,
    Back,
}

#[derive(Debug)]
pub(super) struct Rule {
    condition: Condition,
    deadband: f64,
    on_us: i64,
    off_us: i64,
    wording: Wording,
}

impl Rule {
    pub(super) fn new(alarm: &Alarm, metric: &Metric) -> Self {
        Self {
            condition: alarm.condition,
            deadband: alarm.deadband,
            on_us: alarm.on_us,
            off_us: alarm.off_us,
            wording: Wording::new(alarm, metric),
        }
    }

    /// What the rule measures of a reading; nothing where the reading has no such measure.
    fn measure(&self, reading: &Reading) -> Option<f64> {
        match self.condition {
            Condition::Above { .. } | Condition::Below { .. } | Condition::Is { .. } => Some(reading.value),
            Condition::ScoreAbove { .. } => reading.score.value(),
            Condition::RateAbove { per_us, .. } | Condition::RateBelow { per_us, .. } => {
                let (time, value) = reading.previous?;
                let rate = (reading.value - value) / (reading.time - time) as f64 * per_us as f64;
                // Values that far apart change as fast as can be said.
                Some(rate.clamp(-f64::MAX, f64::MAX))
            }
        }
    }

    fn limit(&self) -> Option<f64> {
        match self.condition {
            Condition::Above { limit }
            | Condition::Below { limit }
            | Condition::ScoreAbove { limit }
            | Condition::RateAbove { limit, .. }
            | Condition::RateBelow { limit, .. } => Some(limit),
            Condition::Is { .. } => None,
        }
    }

    fn side(&self, measure: f64) -> Side {
        let (exceeds, back) = match self.condition {
            Condition::Above { limit } | Condition::ScoreAbove { limit } | Condition::RateAbove { limit, .. } => {
                (measure > limit, measure <= limit - self.deadband)
            }
            Condition::Below { limit } | Condition::RateBelow { limit, .. } => {
                (measure < limit, measure >= limit + self.deadband)
            }
            Condition::Is { code } => (measure == f64::from(code), measure != f64::from(code)),
        };
        match (exceeds, back) {
            (true, _) => Side::Exceeds,
            (false, true) => Side::Back,
            (false, false) => Side::Between,
        }
    }

    /// The more extreme of a peak and a further measure. A state has none but its code.
    fn extreme(&self, peak: f64, measure: f64) -> f64 {
        match self.condition {
            Condition::Above { .. } | Condition::ScoreAbove { .. } | Condition::RateAbove { .. } => peak.max(measure),
            Condition::Below { .. } | Condition::RateBelow { .. } => peak.min(measure),
            Condition::Is { .. } => peak,
        }
    }

    pub(super) fn exceeds(&self, reading: &Reading) -> bool {
        self.measure(reading).is_some_and(|measure| self.side(measure) == Side::Exceeds)
    }

    /// Moves the state over a reading; at most one transition comes of it.
    pub(super) fn look(&self, index: u32, reading: &Reading, state: &mut State) -> Option<Step> {
        let measure = self.measure(reading)?;
        let side = self.side(measure);
        match state {
            State::Normal if side == Side::Exceeds => self.rise(index, reading, measure, reading.time, measure, state),
            State::Normal => None,
            State::Pending { onset, peak } if side == Side::Exceeds => {
                let (onset, peak) = (*onset, self.extreme(*peak, measure));
                self.rise(index, reading, measure, onset, peak, state)
            }
            State::Pending { .. } => {
                *state = State::Normal;
                None
            }
            State::Active(active) => {
                let transition = self.go_on(active, reading.time, measure, side)?;
                let step = self.step(transition, index, reading, measure, active);
                if transition == Transition::Cleared {
                    *state = State::Normal;
                }
                Some(step)
            }
        }
    }

    /// The condition holds since `onset`: raises the alarm once that is long enough.
    fn rise(
        &self,
        index: u32,
        reading: &Reading,
        measure: f64,
        onset: i64,
        peak: f64,
        state: &mut State,
    ) -> Option<Step> {
        if reading.time - onset < self.on_us {
            *state = State::Pending { onset, peak };
            return None;
        }
        let active = Active {
            raised_by: (reading.cause.sequence_number, reading.cause.item),
            step: 0,
            onset,
            peak,
            reported: peak,
            reported_at: reading.time,
            back_since: None,
        };
        *state = State::Active(active);
        Some(self.step(Transition::Raised, index, reading, measure, &active))
    }

    fn go_on(&self, active: &mut Active, time: i64, measure: f64, side: Side) -> Option<Transition> {
        active.peak = self.extreme(active.peak, measure);
        active.back_since = if side == Side::Back { active.back_since.or(Some(time)) } else { None };
        let transition = if active.back_since.is_some_and(|since| time - since >= self.off_us) {
            Transition::Cleared
        } else {
            let grown = (active.peak - active.reported).abs();
            let due = self.limit().is_some()
                && grown > 0.0
                && grown >= self.deadband
                && time - active.reported_at >= UPDATE_EVERY_US;
            if !due {
                return None;
            }
            Transition::Updated
        };
        active.step = active.step.saturating_add(1);
        active.reported = active.peak;
        active.reported_at = time;
        Some(transition)
    }

    fn step(&self, transition: Transition, rule: u32, reading: &Reading, measure: f64, active: &Active) -> Step {
        Step {
            transition,
            step: active.step,
            raised_by: active.raised_by,
            rule,
            onset_time: active.onset,
            event_time: reading.time,
            value: reading.value,
            threshold: self.limit(),
            peak: active.peak,
            score: reading.score.value(),
            measure: Some(measure),
        }
    }

    pub(super) fn withdraw(&self, rule: u32, active: &Active, time: i64, value: f64) -> Step {
        Step {
            transition: Transition::Cleared,
            step: active.step.saturating_add(1),
            raised_by: active.raised_by,
            rule,
            onset_time: active.onset,
            event_time: time,
            value,
            threshold: self.limit(),
            peak: active.peak,
            score: None,
            measure: None,
        }
    }

    pub(super) fn message(&self, metric: &str, step: &Step) -> String {
        self.wording.of(metric, step)
    }
}
