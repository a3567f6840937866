//! `[machine.X]` and `[[override]]`: patterns expanded into the series of the plant.

use super::canonical;
use super::compiled::{Bounds, Metric, Series};
use super::consistent::{check_asset, check_name, mixed_units};
use super::metric::{Defaults, Entries, Key, compile};
use super::pattern;
use super::problem::Log;
use super::toml_reader::{Node, Section};
use std::collections::{BTreeMap, BTreeSet};

const DEVICE: &str = "{device}";
const ASSET_ALLOWED: &str = "allowed: a path below the site such as \"area/line/{device}\"";
/// Series that all overrides together may name, as a multiple of `bounds.series`: it bounds the work of a check.
const OVERRIDDEN_FACTOR: usize = 4;
/// Metrics of a device that a message lists.
const METRICS_NAMED: usize = 32;

/// A device and metric before its metric is compiled.
struct Slot<'a> {
    machine: usize,
    metric: usize,
    overrides: Vec<usize>,
    /// Line of whoever overrides a key already.
    overridden: BTreeMap<Key<'a>, u32>,
}

struct Machine<'a> {
    asset: String,
    asset_at: usize,
    metrics: Vec<(&'a str, Entries<'a>)>,
}

type Slots<'a> = BTreeMap<String, BTreeMap<&'a str, Slot<'a>>>;

/// Everything below `[machine]` and `[[override]]`.
struct Plant<'a> {
    /// The devices of some machine could not be read, so that one missing may be defined after all.
    incomplete: bool,
    machines: Vec<Machine<'a>>,
    overrides: Vec<Entries<'a>>,
    slots: Slots<'a>,
}

/// What the tables of the machines and overrides come to.
pub(super) struct Read<'a> {
    /// Distinct metrics in the order of their first series.
    pub(super) metrics: Vec<Metric>,
    /// Sorted by device and metric.
    pub(super) series: Vec<Series>,
    /// Names of all metrics, those with problems too.
    pub(super) names: BTreeSet<&'a str>,
}

pub(super) fn read<'a>(root: &Section<'a>, site: &str, bounds: Bounds, defaults: &Defaults, log: &mut Log) -> Read<'a> {
    let mut plant = Plant { incomplete: false, machines: Vec::new(), overrides: Vec::new(), slots: Slots::new() };
    let machines = root.need(log, "machine", "at least one table [machine.NAME]").and_then(|node| node.table(log));
    let mut room = bounds.series as usize;
    for (_, node) in machines.iter().flat_map(Section::members) {
        if let Some(section) = node.table(log) {
            plant.read_machine(&section, &mut room, log);
        }
    }
    let mut room = (bounds.series as usize).saturating_mul(OVERRIDDEN_FACTOR);
    let overrides = root.get("override").and_then(|node| node.tables(log)).unwrap_or_default();
    for section in overrides {
        plant.read_override(&section, &mut room, log);
    }
    let names = plant.machines.iter().flat_map(|machine| machine.metrics.iter().map(|(name, _)| *name)).collect();
    let (metrics, series) = plant.compile(site, defaults, log);
    Read { metrics, series, names }
}

impl<'a> Plant<'a> {
    fn read_machine(&mut self, section: &Section<'a>, room: &mut usize, log: &mut Log) {
        let device = section.need(log, "device", "a device, a pattern such as \"pot-{001..048}\", or a list of them");
        let asset = read_asset(section, log);
        let asset_at = section.get("asset").map_or(section.at, |node| node.at);
        let mut metrics = Vec::new();
        for (name, node) in section.members().filter(|(name, _)| !["device", "asset"].contains(name)) {
            if !node.is_table() {
                let message = format!(
                    "neither a metric's table nor a key of a machine{}; allowed: device, asset, and tables",
                    log.guess(name, ["device", "asset"])
                );
                node.problem(log, message);
                continue;
            }
            if let Err(message) = check_name(name) {
                node.problem(log, message);
            }
            let Some(table) = node.table(log) else { continue };
            metrics.push((name, Entries::read(&table, &[], log)));
        }
        if metrics.is_empty() {
            log.add(
                Some(section.at),
                &section.key,
                "",
                "a machine without metrics; allowed: at least one table, its metric",
            );
        }
        let devices = device.as_ref().and_then(|node| read_devices(node, *room, log));
        self.incomplete |= devices.is_none();
        let mut devices = devices.unwrap_or_default();
        // A machine without metrics takes room too, which bounds what a check can be made to do.
        let taken = devices.len().saturating_mul(metrics.len().max(1));
        if let Some(device) = device.filter(|_| taken > *room) {
            device.problem(log, "makes more series than allowed; allowed: at most bounds.series in all");
            self.incomplete = true;
            devices.clear();
        }
        *room = room.saturating_sub(taken);
        let machine = self.machines.len();
        for name in devices {
            let slots = self.slots.entry(name.clone()).or_default();
            for (metric, (metric_name, entries)) in metrics.iter().enumerate() {
                if let Some(other) = slots.get(metric_name) {
                    let (_, other): &(_, Entries<'_>) = match self.machines.get(other.machine) {
                        Some(machine) => &machine.metrics[other.metric],
                        None => &metrics[other.metric],
                    };
                    let message = format!(
                        "{metric_name:?} of device {name:?} is defined on line {} already; allowed: each device and metric once",
                        log.line(other.at)
                    );
                    log.add(Some(entries.at), &entries.key, "", message);
                    continue;
                }
                slots.insert(metric_name, Slot { machine, metric, overrides: Vec::new(), overridden: BTreeMap::new() });
            }
        }
        self.machines.push(Machine { asset, asset_at, metrics });
    }

    fn read_override(&mut self, section: &Section<'a>, room: &mut usize, log: &mut Log) {
        const OWN: [&str; 3] = ["device", "metric", "reason"];
        let device = section.need(log, "device", "a device, a pattern or a list of them");
        let metric = section.need(log, "metric", "the name of a metric");
        let reason = section.need(log, "reason", "why these devices differ, for those who read it later");
        if let Some((node, reason)) = reason.and_then(|node| node.text(log).map(|text| (node, text)))
            && reason.trim().is_empty()
        {
            node.problem(log, "allowed: why these devices differ, for those who read it later");
        }
        let entries = Entries::read(section, &OWN, log);
        if entries.values.is_empty() {
            log.add(Some(section.at), &section.key, "", "overrides nothing; allowed: one or more keys of the metric");
        }
        let (Some(device), Some(metric)) = (device, metric) else { return };
        let Some(name) = metric.text(log) else { return };
        let devices = read_devices(&device, *room, log).unwrap_or_default();
        *room = room.saturating_sub(devices.len());
        let index = self.overrides.len();
        for own in devices {
            let Some(slots) = self.slots.get_mut(&own) else {
                if self.incomplete {
                    continue;
                }
                let guess = log.guess(&own, self.slots.keys().map(String::as_str));
                device.problem(
                    log,
                    format!("no machine has device {own:?}{guess}; allowed: devices of the machines above"),
                );
                continue;
            };
            let Some(slot) = slots.get_mut(name) else {
                let guess = log.guess(name, slots.keys().copied());
                let known = slots.keys().copied().take(METRICS_NAMED).collect::<Vec<_>>().join(", ");
                metric.problem(log, format!("device {own:?} has no such metric{guess}; allowed: {known}"));
                continue;
            };
            for (key, node) in &entries.values {
                if let Some(line) = slot.overridden.insert(*key, log.line(node.at)) {
                    node.problem(
                        log,
                        format!("{own:?} has an override of this key on line {line} already; allowed: each key once"),
                    );
                }
            }
            slot.overrides.push(index);
        }
        self.overrides.push(entries);
    }

    fn compile(&self, site: &str, defaults: &Defaults, log: &mut Log) -> (Vec<Metric>, Vec<Series>) {
        let mut indexes = Distinct::default();
        // Also what no device has is looked at: its problems would appear as soon as one has it.
        let mut compiled: BTreeMap<(usize, usize, &[usize]), Option<u32>> = BTreeMap::new();
        for machine in &self.machines {
            for (name, entries) in &machine.metrics {
                compile(name, entries, defaults, log);
            }
        }
        let mut series = Vec::new();
        for (device, slots) in &self.slots {
            for (name, slot) in slots {
                let machine = &self.machines[slot.machine];
                let key = (slot.machine, slot.metric, &slot.overrides[..]);
                let index = *compiled.entry(key).or_insert_with(|| {
                    let base = &machine.metrics[slot.metric].1;
                    let mut entries = base.clone();
                    slot.overrides.iter().for_each(|&over| entries.overlay(&self.overrides[over]));
                    compile(name, &entries, defaults, log).map(|metric| indexes.add(metric, &entries))
                });
                let asset = format!("{site}/{}", machine.asset.replace(DEVICE, device));
                if let Err(message) = check_asset(&asset) {
                    log.add(Some(machine.asset_at), "asset", &format!("{asset:?}"), message);
                }
                if let Some(metric) = index {
                    series.push(Series { device: device.clone(), asset, metric });
                }
            }
        }
        // As written, so that the later table is the one that is wrong.
        let mut order: Vec<usize> = (0..indexes.metrics.len()).collect();
        order.sort_by_key(|&index| indexes.origins[index].locate(&["unit".to_owned()]).1);
        for (index, finding) in mixed_units(&indexes.metrics, order) {
            let (key, at) = indexes.origins[index].locate(&finding.path);
            log.add(Some(at), &key, &finding.value, finding.message);
        }
        (indexes.metrics, series)
    }
}

/// Metrics by meaning: two tables that say the same are one.
#[derive(Default)]
struct Distinct<'a> {
    metrics: Vec<Metric>,
    origins: Vec<Entries<'a>>,
    known: BTreeMap<String, u32>,
}

impl<'a> Distinct<'a> {
    fn add(&mut self, metric: Metric, origin: &Entries<'a>) -> u32 {
        let next = self.metrics.len() as u32;
        let index = *self.known.entry(canonical::json(&metric)).or_insert(next);
        if index == next {
            self.metrics.push(metric);
            self.origins.push(origin.clone());
        }
        index
    }
}

/// Names of all devices of a text or list, each once; `None` and a problem where any is bad.
fn read_devices(node: &Node<'_>, room: usize, log: &mut Log) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut sound = true;
    for text in node.texts(log)? {
        match pattern::expand(text, room.saturating_sub(names.len())) {
            Ok(expanded) => names.extend(expanded),
            Err(message) => {
                node.problem(log, message);
                sound = false;
            }
        }
    }
    let mut known = BTreeSet::new();
    for name in &names {
        if let Err(message) = check_name(name) {
            node.problem(log, message);
            sound = false;
        } else if !known.insert(name) {
            node.problem(log, format!("names {name:?} twice; allowed: each device once"));
            sound = false;
        }
    }
    if sound && names.is_empty() {
        node.problem(log, "names no device; allowed: at least one");
        sound = false;
    }
    sound.then_some(names)
}

/// The asset below the site; the device's own name where it is not stated.
fn read_asset(section: &Section<'_>, log: &mut Log) -> String {
    let Some(node) = section.get("asset") else { return DEVICE.to_owned() };
    let Some(asset) = node.text(log) else { return DEVICE.to_owned() };
    let rest = asset.replace(DEVICE, "x");
    if rest.contains(['{', '}']) || check_asset(&rest).is_err() {
        node.problem(log, format!("not a path; {ASSET_ALLOWED}"));
        return DEVICE.to_owned();
    }
    asset.to_owned()
}
