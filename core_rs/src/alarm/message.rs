//! What an operator reads of a transition: what was measured, the limit, how far it went.

use super::{Step, Transition};
use crate::dictionary::compiled::{Alarm, Condition, Metric};
use crate::dictionary::duration;

/// The parts of a rule's messages.
#[derive(Debug)]
pub(super) enum Wording {
    Limit {
        head: String,
        /// What of the metric: `rate of `, `score of ` or nothing.
        of: &'static str,
        /// With the blank before it.
        unit: String,
        /// Such as `above 780 °C`.
        limit: String,
    },
    State {
        head: String,
        /// Code and name, each code once.
        names: Vec<(f64, String)>,
    },
}

impl Wording {
    pub(super) fn new(alarm: &Alarm, metric: &Metric) -> Self {
        let head = alarm.text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| alarm.rule.clone());
        let unit = if metric.unit == "1" { String::new() } else { format!(" {}", metric.unit) };
        let (of, unit, word, limit) = match alarm.condition {
            Condition::Above { limit } => ("", unit, "above", limit),
            Condition::Below { limit } => ("", unit, "below", limit),
            Condition::ScoreAbove { limit } => ("score of ", String::new(), "above", limit),
            Condition::RateAbove { limit, per_us } => ("rate of ", rate(&unit, per_us), "above", limit),
            Condition::RateBelow { limit, per_us } => ("rate of ", rate(&unit, per_us), "below", limit),
            Condition::Is { .. } => {
                let mut names: Vec<(f64, String)> = Vec::new();
                for (state, code) in metric.states.iter().flatten() {
                    let code = f64::from(*code);
                    if names.iter().all(|(known, _)| *known != code) {
                        names.push((code, state.clone()));
                    }
                }
                return Self::State { head, names };
            }
        };
        let limit = format!("{word} {}{unit}", readable(limit));
        Self::Limit { head, of, unit, limit }
    }

    /// The message of a step of an alarm on `metric`.
    pub(super) fn of(&self, metric: &str, step: &Step) -> String {
        let (Self::Limit { head, .. } | Self::State { head, .. }) = self;
        let (Some(measure), peak) = (step.measure, step.peak) else {
            return format!("{head}: cleared, the rule was removed or changed");
        };
        match self {
            Self::Limit { of, unit, limit, .. } => {
                let (measure, peak) = (readable(measure), readable(peak));
                match step.transition {
                    Transition::Raised => format!("{head}: {of}{metric} {measure}{unit}, {limit}"),
                    Transition::Updated => format!("{head}: {of}{metric} reached {peak}{unit}, {limit}"),
                    Transition::Cleared => format!("{head}: {of}{metric} back at {measure}{unit}, peak {peak}{unit}"),
                }
            }
            Self::State { names, .. } => {
                let name = names.iter().find(|(code, _)| *code == measure).map_or("", |(_, name)| name);
                format!("{head}: {metric} is {name}")
            }
        }
    }
}

fn rate(unit: &str, per_us: i64) -> String {
    let per = duration::format(per_us);
    if unit.is_empty() { format!(" /{per}") } else { format!("{unit}/{per}") }
}

/// A number as one reads it out: to six significant digits. The row beside the message has it in full.
fn readable(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}
