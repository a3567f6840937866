//! A change of dictionary in a running partition: what is still defined goes on, the rest is closed.

use super::{Due, Partition};
use crate::alarm::{Active, State, goes_on};
use crate::check::Known;
use crate::dictionary::Dictionary;
use crate::dictionary::compiled::{Alarm, Metric};
use crate::output::{AlarmRow, Cause, WindowRow};
use crate::series::{Series, Watch};
use crate::window::{ClosedBy, Kind, Windows};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Up to where the windows of a definition were closed that the dictionary no longer has: by device and metric, then by
/// the definition's name. Should it come back, no window is emitted twice.
pub(crate) type Retired = BTreeMap<(String, String), BTreeMap<String, i64>>;

impl Partition {
    /// Goes on under another dictionary. Series and windows that it still defines are kept; what it no longer defines
    /// is closed and comes out with the next envelope.
    pub fn change_dictionary(&mut self, dictionary: Arc<Dictionary>, ordinal: i64) {
        let mut next = Self::new(self.id.clone(), dictionary);
        next.last_sequence = self.last_sequence;
        next.journal_ordinal = ordinal;
        next.newest_enqueued = self.newest_enqueued;
        next.due = std::mem::take(&mut self.due);
        next.due_alarms = std::mem::take(&mut self.due_alarms);
        next.retired = std::mem::take(&mut self.retired);
        let mut closed = Vec::new();
        for index in 0..self.store.len() as u32 {
            let old = self.store.series(index);
            let device = self.vocabulary.devices.name(old.identity.device);
            let metric = self.vocabulary.metrics.name(old.identity.metric);
            let metric_was = &self.catalog.definitions[old.identity.definition as usize].metric;
            let adopted = next.adopt(device, metric, metric_was, &old);
            let withdrawn = self.withdrawn(&old, adopted.as_ref().map(|(_, series, _)| series), &next);
            next.due_alarms.extend(withdrawn);
            let kept = |definition: u32| adopted.as_ref().is_some_and(|(_, _, kept)| kept.contains(&definition));
            for windows in old.windows.iter().filter(|windows| !kept(windows.definition)) {
                let window = &metric_was.windows[windows.definition as usize];
                let window_name = &window.name;
                let open = windows.open(Kind::of(window));
                let until = open.iter().map(|window| window.end).fold(windows.closed_until, i64::max);
                for window in open {
                    let row = WindowRow {
                        device: old.identity.device,
                        metric: old.identity.metric,
                        window_name: 0,
                        start: window.start,
                        end: window.end,
                        closed_by: ClosedBy::Flush,
                        stats: window.stats,
                    };
                    let names = (device.to_owned(), metric.to_owned(), window_name.clone());
                    let due = Due { device: names.0, metric: names.1, window_name: names.2, row };
                    closed.push(((row.end, windows.definition, index), due));
                }
                next.retire(device, metric, window_name, until);
            }
            if let Some((known, mut series, _)) = adopted {
                next.recall_windows(&mut series);
                next.add(known, series);
            }
        }
        closed.sort_by_key(|(key, _)| *key);
        next.due.extend(closed.into_iter().map(|(_, due)| due));
        next.bound_retired();
        *self = next;
    }

    /// Takes a series over from the previous dictionary; says which of its window definitions live on.
    fn adopt(
        &mut self,
        device: &str,
        metric: &str,
        metric_was: &Metric,
        old: &Series,
    ) -> Option<(Known, Series, Vec<u32>)> {
        let (known, identity) = self.identify(device, metric)?;
        let metric = &self.catalog.definitions[identity.definition as usize].metric;
        let mut series = Series::new(identity, metric);
        series.watermark = old.watermark;
        series.newest = old.newest;
        series.seen = old.seen;
        series.recent.clone_from(&old.recent);
        let mut kept = Vec::new();
        // A value in another unit does not go into a window that has begun; it waits for the next one.
        for windows in series.windows.iter_mut().filter(|_| metric.unit == metric_was.unit) {
            let definition = &metric.windows[windows.definition as usize];
            let same = |was: &&Windows| metric_was.windows[was.definition as usize] == *definition;
            if let Some(was) = old.windows.iter().find(same) {
                kept.push(was.definition);
                *windows = was.under(windows.definition);
            }
        }
        if metric.unit == metric_was.unit {
            series.watch = adopt_watch(metric, metric_was, &old.watch);
        }
        Some((known, series, kept))
    }

    /// The steps that clear the active alarms of a series whose rules are not those of `adopted` any more.
    fn withdrawn(&self, old: &Series, adopted: Option<&Series>, next: &Self) -> Vec<AlarmRow> {
        let Some(states) = &old.watch.states else { return Vec::new() };
        let identity = old.identity;
        let definition = &self.catalog.definitions[identity.definition as usize];
        let goes_on = |rule: u32| {
            let active_under = |series: &Series| {
                let metric = &next.catalog.definitions[series.identity.definition as usize].metric;
                let name = &definition.metric.alarms[rule as usize].rule;
                let at = metric.alarms.iter().position(|alarm| alarm.rule == *name);
                at.and_then(|at| series.watch.states.as_ref().map(|states| states[at]))
            };
            matches!(adopted.and_then(active_under), Some(State::Active(_)))
        };
        let Ok(known) = self.catalog.find(identity.device, identity.metric) else { return Vec::new() };
        // The cause is the next envelope's, and set when that comes.
        let cause = Cause { sequence_number: 0, item: -1, enqueued_time: 0 };
        let active: Vec<(u32, Active)> =
            (0..).zip(states).filter_map(|(rule, state)| Some((rule, state.active()?))).collect();
        active
            .into_iter()
            .filter(|(rule, _)| !goes_on(*rule))
            .map(|(rule, active)| {
                let step = definition.rules.withdraw(rule, &active, old.newest, old.watch.last);
                self.alarm(known, identity, cause, &step)
            })
            .collect()
    }

    fn retire(&mut self, device: &str, metric: &str, window_name: &str, closed_until: i64) {
        if closed_until > i64::MIN {
            let of_series = self.retired.entry((device.to_owned(), metric.to_owned())).or_default();
            let until = of_series.entry(window_name.to_owned()).or_insert(closed_until);
            *until = closed_until.max(*until);
        }
    }

    /// Gives the windows of a series that appears, or changes, what is known of them from before.
    pub(super) fn recall_windows(&mut self, series: &mut Series) {
        if self.retired.is_empty() {
            return;
        }
        let device = self.vocabulary.devices.name(series.identity.device);
        let metric = self.vocabulary.metrics.name(series.identity.metric);
        let Some(mut of_series) = self.retired.remove(&(device.to_owned(), metric.to_owned())) else { return };
        let definition = &self.catalog.definitions[series.identity.definition as usize].metric;
        for windows in &mut series.windows {
            if let Some(until) = of_series.remove(&definition.windows[windows.definition as usize].name) {
                windows.closed_until = windows.closed_until.max(until);
            }
        }
        if !of_series.is_empty() {
            self.retired.insert((device.to_owned(), metric.to_owned()), of_series);
        }
    }

    /// Keeps as many retired series as there may be live ones; of more, those whose windows ended first are forgotten.
    fn bound_retired(&mut self) {
        let bound = self.dictionary.compiled().bounds.series as usize;
        if self.retired.len() > bound {
            let ended = |windows: &BTreeMap<String, i64>| windows.values().copied().max().unwrap_or(i64::MIN);
            let mut by_end: Vec<_> =
                self.retired.iter().map(|(series, windows)| (ended(windows), series.clone())).collect();
            by_end.sort_unstable();
            for (_, series) in by_end.drain(..self.retired.len() - bound) {
                self.retired.remove(&series);
            }
        }
    }
}

/// What detector and rules know under another definition of the same quantity.
fn adopt_watch(metric: &Metric, metric_was: &Metric, was: &Watch) -> Watch {
    let mut watch = Watch::new(metric);
    if !metric.alarms.is_empty() {
        watch.last = was.last;
    }
    let same_detector = metric.detector == metric_was.detector && metric.resolution == metric_was.resolution;
    if same_detector {
        watch.memory = was.memory;
    }
    if let Some(states_was) = &was.states {
        let state_of = |alarm: &Alarm| {
            let at = metric_was.alarms.iter().position(|known| known.rule == alarm.rule)?;
            goes_on(&metric_was.alarms[at].condition, &alarm.condition, same_detector).then(|| states_was[at])
        };
        let states: Box<[State]> = metric.alarms.iter().map(|alarm| state_of(alarm).unwrap_or_default()).collect();
        watch.states = states.iter().any(|state| *state != State::Normal).then_some(states);
    }
    watch
}
