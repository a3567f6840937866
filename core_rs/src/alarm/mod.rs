//! Alarms: the process side of an alarm's life, by the rules of a metric. Raised, updated and cleared are decided at the
//! readings of a series, in the order of their event times; silence decides nothing.
//!
//! Nearly all readings exceed nothing, and nearly all series are normal. For these [`Rules::is_quiet`] is all that runs;
//! rules have a state only in series where at least one of them is pending or active.

mod message;
mod rule;

pub use rule::{Active, State};

use crate::dictionary::compiled::{Condition, Metric, Priority};
use crate::output::Cause;
use crate::score::Score;
use rule::Rule;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// What happened to an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Transition {
    Raised,
    Updated,
    Cleared,
}

impl Transition {
    pub const ALL: [&'static str; 3] = ["raised", "updated", "cleared"];
}

/// A reading that the rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub time: i64,
    pub value: f64,
    pub score: Score,
    /// Event time and value of the one before, if there is one.
    pub previous: Option<(i64, f64)>,
    /// Where it came from, which a raised alarm is named after.
    pub cause: Cause,
}

/// One step of an alarm, without the names of its series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub transition: Transition,
    pub step: i32,
    /// Where the reading that raised it came from.
    pub raised_by: (i64, i32),
    /// Index of the rule within its metric.
    pub rule: u32,
    pub onset_time: i64,
    pub event_time: i64,
    pub value: f64,
    pub threshold: Option<f64>,
    pub peak: f64,
    pub score: Option<f64>,
    /// What the rule measured of the reading; none where no reading but a change of dictionary cleared the alarm.
    pub measure: Option<f64>,
}

/// The rules of one metric, by name, ready to be looked at.
#[derive(Debug)]
pub struct Rules {
    by_name: Vec<Rule>,
    /// A value from `low` to `high` and a score up to `score` exceed no limit.
    low: f64,
    high: f64,
    score: f64,
    /// Whether some rule needs more than a value and a score to be found quiet.
    watchful: bool,
}

impl Rules {
    pub fn new(metric: &Metric) -> Self {
        let mut rules = Self {
            by_name: metric.alarms.iter().map(|alarm| Rule::new(alarm, metric)).collect(),
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            score: f64::INFINITY,
            watchful: false,
        };
        for alarm in &metric.alarms {
            match alarm.condition {
                Condition::Above { limit } => rules.high = rules.high.min(limit),
                Condition::Below { limit } => rules.low = rules.low.max(limit),
                Condition::ScoreAbove { limit } => rules.score = rules.score.min(limit),
                Condition::RateAbove { .. } | Condition::RateBelow { .. } | Condition::Is { .. } => {
                    rules.watchful = true;
                }
            }
        }
        rules
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether a reading changes nothing in a series without pending or active rules.
    #[inline(always)]
    pub fn is_quiet(&self, value: f64, score: Score) -> bool {
        let strange = matches!(score, Score::Scored(score) if score > self.score);
        !self.watchful && value >= self.low && value <= self.high && !strange
    }

    /// Looks at a reading; `states` are those of its series and exist while any is not normal.
    #[inline(never)]
    pub fn look(&self, reading: &Reading, states: &mut Option<Box<[State]>>, mut emit: impl FnMut(Step)) {
        if states.is_none() && !self.by_name.iter().any(|rule| rule.exceeds(reading)) {
            return;
        }
        let all = states.get_or_insert_with(|| vec![State::Normal; self.by_name.len()].into_boxed_slice());
        for ((index, rule), state) in (0..).zip(&self.by_name).zip(all.iter_mut()) {
            if let Some(step) = rule.look(index, reading, state) {
                emit(step);
            }
        }
        if all.iter().all(|state| *state == State::Normal) {
            *states = None;
        }
    }

    /// What clears an active alarm whose rule is no more. `time` and `value` are those of the last reading looked at.
    pub fn withdraw(&self, index: u32, active: &Active, time: i64, value: f64) -> Step {
        self.by_name[index as usize].withdraw(index, active, time, value)
    }

    /// What an operator reads of a step.
    pub fn message(&self, metric: &str, step: &Step) -> String {
        self.by_name[step.rule as usize].message(metric, step)
    }
}

/// Whether an alarm goes on where a rule's condition became another one: it does if it measures the same thing.
pub fn goes_on(was: &Condition, is: &Condition, same_detector: bool) -> bool {
    match (was, is) {
        (Condition::Above { .. }, Condition::Above { .. }) | (Condition::Below { .. }, Condition::Below { .. }) => true,
        (Condition::ScoreAbove { .. }, Condition::ScoreAbove { .. }) => same_detector,
        (Condition::RateAbove { per_us: was, .. }, Condition::RateAbove { per_us: is, .. })
        | (Condition::RateBelow { per_us: was, .. }, Condition::RateBelow { per_us: is, .. }) => was == is,
        (Condition::Is { code: was }, Condition::Is { code: is }) => was == is,
        _ => false,
    }
}

/// Names of the priorities, by code.
pub const PRIORITIES: [&str; 4] = ["low", "medium", "high", "critical"];

pub fn priority_code(priority: Priority) -> i32 {
    match priority {
        Priority::Low => 0,
        Priority::Medium => 1,
        Priority::High => 2,
        Priority::Critical => 3,
    }
}

/// The identity of an alarm: what it is about, and the reading that raised it.
pub fn alarm_id(partition: &str, device: &str, metric: &str, rule: &str, raised_by: (i64, i32)) -> String {
    let text = format!("{partition}\n{device}\n{metric}\n{rule}\n{}\n{}\n", raised_by.0, raised_by.1);
    let digest = Sha256::digest(text.as_bytes());
    digest[..16].iter().fold(String::with_capacity(32), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}
