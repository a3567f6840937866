//! One metric: what its table and the overrides on it say, over the defaults.

use super::compiled::{Alarm, Condition, Conversion, Detector, Metric, Priority, Window};
use super::consistent::{STATES_MAX, check_metric};
use super::problem::{Log, written};
use super::rules::RULES_MAX;
use super::toml_reader::{Node, Section};
use super::{duration, unit};
use crate::limits::{DUPLICATES_MAX, WINDOWS_PER_METRIC_MAX};
use std::collections::{BTreeMap, BTreeSet};

const KEYS: [&str; 14] = [
    "unit",
    "sent_in",
    "range",
    "resolution",
    "every",
    "states",
    "windows",
    "detector",
    "alarm",
    "out_of_orderness",
    "idle",
    "clock_skew",
    "max_age",
    "duplicates",
];
const RULE_KEYS: [&str; 12] = [
    "above",
    "below",
    "rate_above",
    "rate_below",
    "score_above",
    "is",
    "per",
    "deadband",
    "on",
    "off",
    "priority",
    "text",
];
const CONDITIONS: [&str; 6] = ["above", "below", "rate_above", "rate_below", "score_above", "is"];
const PRIORITIES: [(&str, Priority); 4] =
    [("low", Priority::Low), ("medium", Priority::Medium), ("high", Priority::High), ("critical", Priority::Critical)];
const UNIT_ALLOWED: &str = "a unit such as \"kA\", or states for a status";

/// What a metric is where it does not say otherwise.
pub(super) struct Defaults {
    pub(super) metric: Metric,
    /// What `detector = "ewma"` means.
    pub(super) ewma: Detector,
}

/// A key of a metric; the first part is the alarm rule that it belongs to.
pub(super) type Key<'a> = (Option<&'a str>, &'a str);

/// Everything that is said about a metric, in one flat map, so that an override replaces key by key.
#[derive(Clone)]
pub(super) struct Entries<'a> {
    pub(super) key: String,
    pub(super) at: usize,
    pub(super) values: BTreeMap<Key<'a>, Node<'a>>,
}

impl<'a> Entries<'a> {
    /// Reads a metric's table; `besides` are keys that belong to someone else.
    pub(super) fn read(section: &Section<'a>, besides: &[&str], log: &mut Log) -> Self {
        let mut values = BTreeMap::new();
        for (name, node) in section.members().filter(|(name, _)| !besides.contains(name)) {
            if name == "alarm" {
                read_rules(&node, &mut values, log);
            } else if KEYS.contains(&name) {
                values.insert((None, name), node);
            } else {
                node.unknown_key(log, name, &[&KEYS, besides].concat());
            }
        }
        Self { key: section.key.clone(), at: section.at, values }
    }

    pub(super) fn overlay(&mut self, over: &Self) {
        self.values.extend(over.values.iter().map(|(key, node)| (*key, node.clone())));
    }

    fn get(&self, name: &'a str) -> Option<&Node<'a>> {
        self.values.get(&(None, name))
    }

    /// Dotted key and position of what a finding is about: the key itself, its rule, or the metric.
    pub(super) fn locate(&self, path: &[String]) -> (String, usize) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let exact = match path[..] {
            ["alarm", rule, key, ..] => {
                let first = || self.values.range((Some(rule), "")..).next().filter(|((own, _), _)| *own == Some(rule));
                self.values.get_key_value(&(Some(rule), key)).or_else(first)
            }
            ["alarm"] => self.values.iter().find(|((rule, _), _)| rule.is_some()),
            [key, ..] => self.values.get_key_value(&(None, key)),
            [] => None,
        };
        let full = path.iter().fold(self.key.clone(), |full, key| format!("{full}.{}", written(key)));
        match exact {
            // An override's own key names the override, not the metric that it changes.
            Some(((_, own), node)) if path.last() == Some(own) => (node.key.clone(), node.at),
            Some((_, node)) => (full, node.at),
            None => (full, self.at),
        }
    }
}

fn read_rules<'a>(node: &Node<'a>, values: &mut BTreeMap<Key<'a>, Node<'a>>, log: &mut Log) {
    let Some(rules) = node.table(log) else { return };
    if rules.members().count() > RULES_MAX {
        node.problem(log, format!("too many rules; allowed: at most {RULES_MAX} for a metric"));
        return;
    }
    for (rule, node) in rules.members() {
        let Some(section) = node.table(log) else { continue };
        section.only(log, &RULE_KEYS);
        let known = section.members().filter(|(key, _)| RULE_KEYS.contains(key));
        values.extend(known.map(|(key, node)| ((Some(rule), key), node)));
        if section.members().next().is_none() {
            node.problem(log, format!("an empty rule; allowed: {}", RULE_KEYS.join(", ")));
        }
    }
}

/// Takes values one by one and remembers whether any was bad, so that all are looked at.
struct Taker<'l, 'a> {
    log: &'l mut Log,
    entries: &'l Entries<'a>,
    sound: bool,
}

impl<'a> Taker<'_, 'a> {
    /// The value of a key where it is written and good; a bad one leaves a problem behind.
    fn take<T>(&mut self, key: Key<'a>, read: impl FnOnce(&Node<'a>, &mut Log) -> Option<T>) -> Option<T> {
        let value = read(self.entries.values.get(&key)?, self.log);
        self.sound &= value.is_some();
        value
    }

    fn missing(&mut self, path: &[&str], allowed: &str) {
        let path: Vec<String> = path.iter().map(|&key| key.to_owned()).collect();
        let (key, at) = self.entries.locate(&path);
        self.log.add(Some(at), &key, "", format!("missing; allowed: {allowed}"));
        self.sound = false;
    }
}

/// The metric, or `None` and at least one problem.
pub(super) fn compile(name: &str, entries: &Entries<'_>, defaults: &Defaults, log: &mut Log) -> Option<Metric> {
    let base = &defaults.metric;
    let mut from = Taker { log, entries, sound: true };
    let states = from.take((None, "states"), read_states);
    let status = entries.get("states").is_some();
    let detector = from.take((None, "detector"), |node, log| read_detector(node, defaults, log));
    // A status or a detector that could not be read would make rules look wrong that are not.
    let rules_judged = from.sound;
    let (unit, conversion) = read_unit(&mut from, status);
    let duration =
        |from: &mut Taker<'_, '_>, key, otherwise| from.take((None, key), Node::duration_us).unwrap_or(otherwise);
    let mut metric = Metric {
        name: name.to_owned(),
        unit,
        conversion,
        range: from.take((None, "range"), Node::pair),
        resolution: from.take((None, "resolution"), Node::number),
        every_us: from.take((None, "every"), Node::duration_us),
        states,
        windows: from.take((None, "windows"), read_windows).unwrap_or_else(|| base.windows.clone()),
        out_of_orderness_us: duration(&mut from, "out_of_orderness", base.out_of_orderness_us),
        idle_us: duration(&mut from, "idle", base.idle_us),
        clock_skew_us: duration(&mut from, "clock_skew", base.clock_skew_us),
        max_age_us: duration(&mut from, "max_age", base.max_age_us),
        duplicates: from.take((None, "duplicates"), read_duplicates).unwrap_or(base.duplicates),
        detector: detector.unwrap_or(if status { Detector::None } else { base.detector }),
        alarms: Vec::new(),
    };
    if rules_judged {
        let rules: BTreeSet<&str> = entries.values.keys().filter_map(|(rule, _)| *rule).collect();
        metric.alarms =
            rules.into_iter().filter_map(|rule| read_alarm(rule, metric.states.as_ref(), &mut from)).collect();
    }
    let Taker { log, mut sound, .. } = from;
    let mut found = Vec::new();
    check_metric(&metric, &mut found);
    for finding in found {
        let (key, at) = entries.locate(&finding.path);
        log.add(Some(at), &key, &finding.value, finding.message);
        sound = false;
    }
    sound.then_some(metric)
}

/// The unit and how to get there; a placeholder where a problem was found.
fn read_unit(from: &mut Taker<'_, '_>, status: bool) -> (String, Conversion) {
    let known = |node: &Node<'_>, log: &mut Log| {
        let text = node.text(log)?;
        unit::check(text).map_err(|message| node.problem(log, message)).ok().map(|()| text.to_owned())
    };
    if from.entries.get("unit").is_none() && !status {
        from.missing(&["unit"], UNIT_ALLOWED);
    }
    let unit = from.take((None, "unit"), known);
    let sent_in = from.take((None, "sent_in"), known);
    if let Some(node) = from.entries.get("sent_in").filter(|_| status) {
        node.problem(from.log, "stands beside states; allowed: for measured metrics only");
        from.sound = false;
    }
    let conversion = match (&unit, sent_in) {
        (Some(unit), Some(sent_in)) => from.take((None, "sent_in"), |node, log| {
            unit::conversion(&sent_in, unit).map_err(|message| node.problem(log, message)).ok()
        }),
        _ => None,
    };
    (unit.unwrap_or_else(|| "1".to_owned()), conversion.unwrap_or(unit::SAME))
}

fn read_states(node: &Node<'_>, log: &mut Log) -> Option<BTreeMap<String, i32>> {
    let code = |(name, node): (&str, Node<'_>), log: &mut Log| {
        let code = node.whole(log, i64::from(i32::MIN)..=i64::from(i32::MAX))?;
        Some((name.to_owned(), code as i32))
    };
    let section = node.table(log)?;
    if section.members().count() > STATES_MAX {
        node.problem(log, format!("too many states; allowed: 1 to {STATES_MAX}"));
        return None;
    }
    let members: Vec<_> = section.members().map(|member| code(member, log)).collect();
    members.into_iter().collect()
}

/// A list of windows.
pub(super) fn read_windows(node: &Node<'_>, log: &mut Log) -> Option<Vec<Window>> {
    let texts = node.list(log)?;
    if texts.len() > WINDOWS_PER_METRIC_MAX {
        node.problem(log, format!("too many windows; allowed: at most {WINDOWS_PER_METRIC_MAX} for a metric"));
        return None;
    }
    let windows: Vec<_> = texts
        .into_iter()
        .map(|text| {
            duration::parse_window(text)
                .map_err(|message| log.add(Some(node.at), &node.key, &format!("{text:?}"), message))
        })
        .collect();
    windows.into_iter().collect::<Result<_, ()>>().ok()
}

/// A detector by name.
pub(super) fn read_detector(node: &Node<'_>, defaults: &Defaults, log: &mut Log) -> Option<Detector> {
    Some(if node.word(log, &["none", "ewma"])? == 0 { Detector::None } else { defaults.ewma })
}

pub(super) fn read_duplicates(node: &Node<'_>, log: &mut Log) -> Option<u16> {
    node.whole(log, 0..=i64::from(DUPLICATES_MAX)).map(|number| number as u16)
}

fn read_alarm<'a>(rule: &'a str, states: Option<&BTreeMap<String, i32>>, from: &mut Taker<'_, 'a>) -> Option<Alarm> {
    let of = |key: &'a str| (Some(rule), key);
    let condition = read_condition(rule, states, from);
    let deadband = from.take(of("deadband"), Node::number).unwrap_or(0.0);
    let on_us = from.take(of("on"), Node::duration_us).unwrap_or(0);
    let off_us = from.take(of("off"), Node::duration_us).unwrap_or(0);
    let text = from.take(of("text"), |node, log| node.text(log).map(str::to_owned));
    let priorities = PRIORITIES.map(|(word, _)| word);
    if !from.entries.values.contains_key(&of("priority")) {
        from.missing(&["alarm", rule, "priority"], &priorities.join(", "));
    }
    let priority = from.take(of("priority"), |node, log| node.word(log, &priorities));
    let priority = PRIORITIES[priority?].1;
    Some(Alarm { rule: rule.to_owned(), condition: condition?, deadband, on_us, off_us, priority, text })
}

/// Exactly one condition, and `per` beside a rate.
fn read_condition<'a>(
    rule: &'a str,
    states: Option<&BTreeMap<String, i32>>,
    from: &mut Taker<'_, 'a>,
) -> Option<Condition> {
    let entries = from.entries;
    let node = |key: &'a str| entries.values.get(&(Some(rule), key));
    let stated: Vec<&str> = CONDITIONS.into_iter().filter(|&key| node(key).is_some()).collect();
    let &[key] = &stated[..] else {
        if let Some(second) = stated.get(1).and_then(|&key| node(key)) {
            second.problem(
                from.log,
                format!("a second condition beside {}; allowed: exactly one of {}", stated[0], CONDITIONS.join(", ")),
            );
            from.sound = false;
        } else {
            from.missing(&["alarm", rule, "above"], &format!("exactly one of {}", CONDITIONS.join(", ")));
        }
        return None;
    };
    let rate = key.starts_with("rate_");
    match node("per") {
        None if rate => from.missing(&["alarm", rule, "per"], "a duration, the rate is the change per this"),
        Some(per) if !rate => {
            per.problem(from.log, "stands without a rate; allowed: beside rate_above and rate_below");
            from.sound = false;
        }
        _ => {}
    }
    if key == "is" {
        let code = from.take((Some(rule), "is"), |node, log| read_state(node, states, log))?;
        return Some(Condition::Is { code });
    }
    let limit = from.take((Some(rule), key), Node::number);
    let per_us = if rate { from.take((Some(rule), "per"), Node::duration_us) } else { Some(0) };
    let (limit, per_us) = (limit?, per_us?);
    Some(match key {
        "above" => Condition::Above { limit },
        "below" => Condition::Below { limit },
        "rate_above" => Condition::RateAbove { limit, per_us },
        "rate_below" => Condition::RateBelow { limit, per_us },
        _ => Condition::ScoreAbove { limit },
    })
}

fn read_state(node: &Node<'_>, states: Option<&BTreeMap<String, i32>>, log: &mut Log) -> Option<i32> {
    let Some(states) = states else {
        node.problem(log, "needs states; allowed: for a metric with states");
        return None;
    };
    let words: Vec<&str> = states.keys().map(String::as_str).collect();
    node.word(log, &words).and_then(|index| states.values().nth(index).copied())
}
