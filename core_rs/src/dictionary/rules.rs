//! Alarm rules that contradict each other, cannot fire or cannot clear.

use super::compiled::{Alarm, Condition, Detector, Metric};
use super::duration;
use super::problem::Finding;
use crate::limits::DURATION_MAX_US;

pub(super) const RULES_MAX: usize = 32;
const RULE_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 256;

/// What a limit is compared with; limits of one kind share an axis.
#[derive(Clone, Copy, PartialEq)]
enum Axis {
    Value,
    Rate,
    Score,
}

/// A condition as a limit on an axis; rates are per second, so that they compare whatever their `per`.
struct Bar<'a> {
    alarm: &'a Alarm,
    axis: Axis,
    key: &'static str,
    upper: bool,
    limit: f64,
    deadband: f64,
}

fn limit(alarm: &Alarm) -> Option<Bar<'_>> {
    let (axis, key, upper, limit, per_us) = match alarm.condition {
        Condition::Above { limit } => (Axis::Value, "above", true, limit, None),
        Condition::Below { limit } => (Axis::Value, "below", false, limit, None),
        Condition::RateAbove { limit, per_us } => (Axis::Rate, "rate_above", true, limit, Some(per_us)),
        Condition::RateBelow { limit, per_us } => (Axis::Rate, "rate_below", false, limit, Some(per_us)),
        Condition::ScoreAbove { limit } => (Axis::Score, "score_above", true, limit, None),
        Condition::Is { .. } => return None,
    };
    let scale = per_us.map_or(1.0, |per_us| 1e6 / per_us as f64);
    Some(Bar { alarm, axis, key, upper, limit: limit * scale, deadband: alarm.deadband * scale })
}

fn finding(alarm: &Alarm, key: &str, value: impl std::fmt::Display, message: impl Into<String>) -> Finding {
    Finding::new(&["alarm", &alarm.rule, key], value, message)
}

/// All that is wrong with the alarms of a metric; paths start at the metric.
pub(super) fn check(metric: &Metric, found: &mut Vec<Finding>) {
    if metric.alarms.len() > RULES_MAX {
        let message = format!("allowed: at most {RULES_MAX} rules for a metric");
        found.push(Finding::new(&["alarm"], format!("{} of them", metric.alarms.len()), message));
        return;
    }
    if !metric.alarms.is_sorted_by(|left, right| left.rule < right.rule) {
        found.push(Finding::new(&["alarm"], "", "allowed: rules sorted by name, each once"));
    }
    for alarm in &metric.alarms {
        let sound = found.len();
        check_alone(metric, alarm, found);
        if found.len() == sound {
            check_reach(metric, alarm, found);
        }
    }
    for (index, left) in metric.alarms.iter().enumerate() {
        for right in &metric.alarms[index + 1..] {
            check_pair(left, right, found);
        }
    }
}

fn check_alone(metric: &Metric, alarm: &Alarm, found: &mut Vec<Finding>) {
    if alarm.rule.is_empty() || alarm.rule.len() > RULE_BYTES_MAX || alarm.rule.contains(char::is_control) {
        let message = format!("allowed: a rule name of 1 to {RULE_BYTES_MAX} bytes without control characters");
        found.push(Finding::new(&["alarm", &alarm.rule], "", message));
    }
    if let Some(text) =
        alarm.text.as_ref().filter(|text| text.len() > TEXT_BYTES_MAX || text.contains(char::is_control))
    {
        let message = format!("allowed: at most {TEXT_BYTES_MAX} bytes of text without control characters");
        found.push(finding(alarm, "text", format!("{text:?}"), message));
    }
    if !(alarm.deadband.is_finite() && alarm.deadband >= 0.0) {
        found.push(finding(alarm, "deadband", alarm.deadband, "allowed: a finite number, zero or more"));
    }
    for (key, delay_us) in [("on", alarm.on_us), ("off", alarm.off_us)] {
        if !(0..=DURATION_MAX_US).contains(&delay_us) {
            found.push(finding(alarm, key, duration::format(delay_us), "allowed: a duration, at most 36600d"));
        }
    }
    if let Condition::RateAbove { per_us, .. } | Condition::RateBelow { per_us, .. } = alarm.condition
        && !(1..=DURATION_MAX_US).contains(&per_us)
    {
        let message = "allowed: a duration above zero, at most 36600d";
        found.push(finding(alarm, "per", duration::format(per_us), message));
    }
    match (alarm.condition, &metric.states) {
        (Condition::Is { code }, Some(states)) if !states.values().any(|&known| known == code) => {
            found.push(finding(alarm, "is", code, "is no code of the states; allowed: one of them"));
        }
        (Condition::Is { .. }, None) => {
            found.push(finding(alarm, "is", "", "needs states; allowed: for a metric with states"));
        }
        (Condition::Is { .. }, Some(_)) if alarm.deadband != 0.0 => {
            found.push(finding(
                alarm,
                "deadband",
                alarm.deadband,
                "a status has none; allowed: no deadband beside `is`",
            ));
        }
        _ => {}
    }
    let Some(limit) = limit(alarm) else { return };
    if !limit.limit.is_finite() {
        found.push(finding(alarm, limit.key, limit.limit, "allowed: a finite number"));
    }
    if metric.states.is_some() {
        found.push(finding(
            alarm,
            limit.key,
            limit.limit,
            "stands beside states; allowed: `is` for a metric with states",
        ));
    }
    if limit.axis == Axis::Score && metric.detector == Detector::None {
        found.push(finding(
            alarm,
            "score_above",
            limit.limit,
            "needs a detector; allowed: for a metric whose detector is not \"none\"",
        ));
    }
    if limit.axis == Axis::Score && limit.limit <= 0.0 {
        found.push(finding(alarm, "score_above", limit.limit, "allowed: a finite number above zero"));
    }
}

/// A limit on the value must be within the range, and so must the level at which it clears.
fn check_reach(metric: &Metric, alarm: &Alarm, found: &mut Vec<Finding>) {
    let Some(Bar { axis, key, upper, limit, deadband, .. }) = limit(alarm) else { return };
    let [low, high] = match (axis, metric.range) {
        (Axis::Value, Some([low, high])) if low < high => [low, high],
        (Axis::Score, _) => [0.0, f64::INFINITY],
        _ => return,
    };
    let inside = if upper { low <= limit && limit < high } else { low < limit && limit <= high };
    let clears = if upper { limit - deadband >= low } else { limit + deadband <= high };
    if !inside {
        let message = format!("is always or never reached; allowed: a limit within the range [{low}, {high}]");
        found.push(finding(alarm, key, limit, message));
    } else if !clears {
        let room = if upper { limit - low } else { high - limit };
        let message = format!("the alarm could never clear within the range; allowed: at most {room}");
        found.push(finding(alarm, "deadband", deadband, message));
    }
}

fn check_pair(left: &Alarm, right: &Alarm, found: &mut Vec<Finding>) {
    if left.condition == right.condition {
        let key = limit(right).map_or("is", |limit| limit.key);
        let value = limit(right).map_or_else(String::new, |_| shown(right));
        let message = format!("is the same condition as that of {:?}; allowed: each condition once", left.rule);
        found.push(finding(right, key, value, message));
        return;
    }
    let (Some(a), Some(b)) = (limit(left), limit(right)) else { return };
    if a.axis != b.axis {
        return;
    }
    if a.upper == b.upper {
        check_order(&a, &b, found);
        check_order(&b, &a, found);
        return;
    }
    let (upper, lower) = if a.upper { (&a, &b) } else { (&b, &a) };
    let span = upper.limit - lower.limit;
    if span <= 0.0 {
        let message = format!(
            "overlaps {} = {} of {:?}, one of the two is always active; allowed: {} greater than {}",
            lower.key,
            shown(lower.alarm),
            lower.alarm.rule,
            upper.key,
            lower.key
        );
        found.push(finding(upper.alarm, upper.key, shown(upper.alarm), message));
        return;
    }
    for (this, other) in [(upper, lower), (lower, upper)] {
        if this.deadband > span {
            let message = format!(
                "reaches beyond {} = {} of {:?}; allowed: at most the span between the two limits",
                other.key,
                shown(other.alarm),
                other.alarm.rule
            );
            found.push(finding(this.alarm, "deadband", this.alarm.deadband, message));
        }
    }
}

/// HH lies beyond H, and LL beyond L, where the names say so.
fn check_order(mild: &Bar<'_>, severe: &Bar<'_>, found: &mut Vec<Finding>) {
    let (mild_rule, severe_rule) = (&mild.alarm.rule, &severe.alarm.rule);
    let letter = if severe.upper { 'H' } else { 'L' };
    let named = |rule: &str| !rule.is_empty() && rule.chars().all(|own| own == letter);
    if !named(mild_rule) || !named(severe_rule) || severe_rule.len() <= mild_rule.len() {
        return;
    }
    let beyond = if severe.upper { severe.limit > mild.limit } else { severe.limit < mild.limit };
    if !beyond {
        let word = if severe.upper { "greater" } else { "less" };
        let message = format!("comes before that of {mild_rule:?}; allowed: {word} than {}", shown(mild.alarm));
        found.push(finding(severe.alarm, severe.key, shown(severe.alarm), message));
    }
}

/// The limit as written, not per second.
fn shown(alarm: &Alarm) -> String {
    match alarm.condition {
        Condition::Above { limit } | Condition::Below { limit } | Condition::ScoreAbove { limit } => limit.to_string(),
        Condition::RateAbove { limit, per_us } | Condition::RateBelow { limit, per_us } => {
            format!("{limit} per {}", duration::format(per_us))
        }
        Condition::Is { code } => code.to_string(),
    }
}
