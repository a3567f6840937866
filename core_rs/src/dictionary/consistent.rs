//! What a compiled dictionary must satisfy, whether it comes from TOML or from its stored form.

use super::compiled::{Bounds, Compiled, Conversion, Detector, Metric};
use super::duration;
use super::problem::Finding;
use super::{payload, rules, unit};
use crate::limits::{
    BODY_BYTES_MAX, DEPTH_MAX, DUPLICATES_MAX, DURATION_MAX_US, NAME_BYTES_MAX, OPEN_WINDOWS_MAX,
    READINGS_PER_ENVELOPE_MAX, SERIES_MAX, WINDOWS_PER_METRIC_MAX,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const ASSET_BYTES_MAX: usize = 1024;
pub(super) const LEARN_MAX: u32 = 1_000_000;
pub(super) const STATES_MAX: usize = 1024;

/// Name and allowed maximum of every bound.
pub(super) const BOUNDS_MAX: [(&str, u32); 4] = [
    ("series", SERIES_MAX),
    ("body_bytes", BODY_BYTES_MAX),
    ("readings_per_envelope", READINGS_PER_ENVELOPE_MAX),
    ("depth", DEPTH_MAX),
];

pub(super) const BOUNDS_DEFAULT: Bounds =
    Bounds { series: 100_000, body_bytes: 1 << 20, readings_per_envelope: 1 << 16, depth: 32 };

/// A name of a device, a metric or a member.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    check_text(name, NAME_BYTES_MAX)
}

fn check_text(text: &str, bytes_max: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > bytes_max || text.contains(char::is_control) {
        return Err(format!("allowed: 1 to {bytes_max} bytes of text without control characters"));
    }
    Ok(())
}

/// `a/b/c`, as ISA-95 paths are written.
pub(super) fn check_asset(path: &str) -> Result<(), String> {
    check_text(path, ASSET_BYTES_MAX)?;
    if path.split('/').any(|part| part.trim().is_empty()) {
        return Err("allowed: a path such as area/line/unit, no part of it empty".to_owned());
    }
    Ok(())
}

fn check_time_zone(name: &str) -> Result<(), String> {
    let part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    if name.len() <= 64 && name.split('/').all(part) && name.split('/').count() <= 3 {
        return Ok(());
    }
    Err("not a time zone; allowed: a name of the IANA database, such as \"Europe/Oslo\" or \"UTC\"".to_owned())
}

/// All that is wrong with a compiled dictionary.
pub(super) fn check(compiled: &Compiled) -> Vec<Finding> {
    let mut found = Vec::new();
    head(compiled, &mut found);
    for (index, metric) in compiled.metrics.iter().enumerate() {
        within(&["metrics", &index.to_string()], &mut found, |found| check_metric(metric, found));
    }
    if let Some(unknown) = &compiled.unknown {
        within(&["unknown"], &mut found, |found| check_metric(unknown, found));
    }
    for (index, finding) in mixed_units(&compiled.metrics, 0..compiled.metrics.len()) {
        within(&["metrics", &index.to_string()], &mut found, |found| found.push(finding));
    }
    let names = compiled.metrics.iter().map(|metric| metric.name.as_str()).collect();
    payload::check(&compiled.payload, &names, compiled.unknown.is_some(), &mut found);
    check_series(compiled, &mut found);
    found
}

fn within(prefix: &[&str], found: &mut Vec<Finding>, check: impl FnOnce(&mut Vec<Finding>)) {
    let start = found.len();
    check(found);
    for finding in &mut found[start..] {
        finding.path.splice(0..0, prefix.iter().map(|&key| key.to_owned()));
    }
}

/// Name, version, site, time zone and bounds.
pub(super) fn head(compiled: &Compiled, found: &mut Vec<Finding>) {
    let Compiled { name, version, site, time_zone, bounds, .. } = compiled;
    let checked = [
        ("name", name, check_name(name)),
        ("version", version, check_name(version)),
        ("site", site, check_asset(site)),
        ("time_zone", time_zone, check_time_zone(time_zone)),
    ];
    for (key, value, result) in checked {
        if let Err(message) = result {
            found.push(Finding::new(&[key], format!("{value:?}"), message));
        }
    }
    let values = [bounds.series, bounds.body_bytes, bounds.readings_per_envelope, bounds.depth];
    for ((key, max), value) in BOUNDS_MAX.into_iter().zip(values) {
        if value == 0 || value > max {
            found.push(Finding::new(&["bounds", key], value, format!("allowed: a whole number from 1 to {max}")));
        }
    }
}

/// Index of, and finding on, every metric whose name has another unit earlier in the order given.
pub(super) fn mixed_units(metrics: &[Metric], order: impl IntoIterator<Item = usize>) -> Vec<(usize, Finding)> {
    let mut first: BTreeMap<&str, &Metric> = BTreeMap::new();
    let mut found = Vec::new();
    for index in order {
        let metric = &metrics[index];
        let other = *first.entry(&metric.name).or_insert(metric);
        if other.unit != metric.unit {
            let message = format!(
                "{:?} is in {:?} elsewhere; allowed: one unit for a metric name throughout",
                metric.name, other.unit
            );
            found.push((index, Finding::new(&["unit"], format!("{:?}", metric.unit), message)));
        } else if other.states.is_some() != metric.states.is_some() {
            let message = format!(
                "{:?} is both measured and a status; allowed: one of the two for a metric name throughout",
                metric.name
            );
            found.push((index, Finding::new(&["states"], "", message)));
        }
    }
    found
}

/// The series: sorted by device and metric (so none twice), each with a metric, each metric with a series.
fn check_series(compiled: &Compiled, found: &mut Vec<Finding>) {
    let Compiled { series, metrics, bounds, site, .. } = compiled;
    if series.len() > bounds.series as usize {
        let message = format!("more series than allowed: at most {} (bounds.series)", bounds.series);
        found.push(Finding::new(&["series"], series.len(), message));
    }
    let mut used = BTreeSet::new();
    let mut last = None;
    for (index, one) in series.iter().enumerate() {
        let path = ["series", &index.to_string()];
        let Some(metric) = metrics.get(one.metric as usize) else {
            found.push(Finding::new(&path, one.metric, "no such metric; allowed: an index into metrics"));
            continue;
        };
        used.insert(one.metric);
        let key = (one.device.as_str(), metric.name.as_str());
        if last.replace(key).is_some_and(|last| last >= key) {
            found.push(Finding::new(
                &path,
                format!("{key:?}"),
                "allowed: series sorted by device and metric, each once",
            ));
        }
        if let Err(message) = check_name(&one.device) {
            found.push(Finding::new(&path, format!("{:?}", one.device), message));
        }
        let below_site = one.asset.strip_prefix(site.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if !below_site || check_asset(&one.asset).is_err() {
            found.push(Finding::new(&path, format!("{:?}", one.asset), "allowed: an asset path below the site"));
        }
    }
    for (index, metric) in metrics.iter().enumerate().filter(|(index, _)| !used.contains(&(*index as u32))) {
        found.push(Finding::new(
            &["metrics", &index.to_string()],
            format!("{:?}", metric.name),
            "allowed: metrics that a series has",
        ));
    }
}

/// All that is wrong with one metric; paths start at the metric.
pub(super) fn check_metric(metric: &Metric, found: &mut Vec<Finding>) {
    if let Err(message) = check_name(&metric.name) {
        found.push(Finding::new(&[], format!("{:?}", metric.name), message));
    }
    if let Err(message) = unit::check(&metric.unit) {
        found.push(Finding::new(&["unit"], format!("{:?}", metric.unit), message));
    }
    let Conversion { subtract, multiply, divide } = metric.conversion;
    let factor = |number: f64| number.is_finite() && number > 0.0;
    if !(subtract.is_finite() && factor(multiply) && factor(divide)) {
        found.push(Finding::new(&["conversion"], "", "allowed: finite numbers, multiply and divide above zero"));
    }
    if let Some([low, high]) = metric.range
        && !(low.is_finite() && high.is_finite() && low < high)
    {
        found.push(Finding::new(
            &["range"],
            format!("[{low}, {high}]"),
            "allowed: the smaller number first, both finite",
        ));
    }
    if let Some(resolution) = metric.resolution.filter(|&number| !factor(number)) {
        found.push(Finding::new(&["resolution"], resolution, "allowed: a finite number above zero"));
    }
    check_states(metric, found);
    check_times(metric, found);
    check_windows(metric, found);
    check_detector(&metric.detector, &["detector"], found);
    rules::check(metric, found);
}

fn check_states(metric: &Metric, found: &mut Vec<Finding>) {
    let Some(states) = &metric.states else { return };
    if states.is_empty() || states.len() > STATES_MAX {
        found.push(Finding::new(
            &["states"],
            format!("{} of them", states.len()),
            format!("allowed: 1 to {STATES_MAX} states"),
        ));
    }
    let mut codes = BTreeMap::new();
    for (name, code) in states {
        if let Err(message) = check_name(name) {
            found.push(Finding::new(&["states", name], code, message));
        }
        if let Some(other) = codes.insert(code, name) {
            found.push(Finding::new(
                &["states", name],
                code,
                format!("is the code of {other:?} too; allowed: a code of its own"),
            ));
        }
    }
    let measured = [
        ("unit", metric.unit != "1"),
        ("sent_in", metric.conversion != unit::SAME),
        ("range", metric.range.is_some()),
        ("resolution", metric.resolution.is_some()),
        ("detector", metric.detector != Detector::None),
    ];
    for (key, _) in measured.into_iter().filter(|(_, present)| *present) {
        found.push(Finding::new(&[key], "", "stands beside states; allowed: for measured metrics only"));
    }
}

fn check_times(metric: &Metric, found: &mut Vec<Finding>) {
    let times = [
        ("every", metric.every_us, 1),
        ("out_of_orderness", Some(metric.out_of_orderness_us), 0),
        ("idle", Some(metric.idle_us), 1),
        ("clock_skew", Some(metric.clock_skew_us), 0),
        ("max_age", Some(metric.max_age_us), 1),
    ];
    for (key, time_us, least) in times {
        if let Some(time_us) = time_us.filter(|time_us| !(least..=DURATION_MAX_US).contains(time_us)) {
            let least = if least == 0 { "" } else { " above zero" };
            found.push(Finding::new(
                &[key],
                duration::format(time_us),
                format!("allowed: a duration{least}, at most 36600d"),
            ));
        }
    }
    if metric.duplicates > DUPLICATES_MAX {
        found.push(Finding::new(
            &["duplicates"],
            metric.duplicates,
            format!("allowed: a whole number from 0 to {DUPLICATES_MAX}"),
        ));
    }
}

fn check_windows(metric: &Metric, found: &mut Vec<Finding>) {
    if metric.windows.len() > WINDOWS_PER_METRIC_MAX {
        let message = format!("allowed: at most {WINDOWS_PER_METRIC_MAX} windows for a metric");
        found.push(Finding::new(&["windows"], format!("{} of them", metric.windows.len()), message));
    }
    let mut kinds = BTreeMap::new();
    for window in &metric.windows {
        let shown = format!("{:?}", window.name);
        match duration::parse_window(&window.name) {
            Err(message) => found.push(Finding::new(&["windows"], &shown, message)),
            Ok(parsed) if parsed != *window => {
                found.push(Finding::new(&["windows"], &shown, "allowed: the length and hop that the name says"));
            }
            Ok(_) => {}
        }
        if let Some(other) = kinds.insert((window.length_us, window.hop_us, window.gap_us), &window.name) {
            let message = format!("is the same window as {other:?}; allowed: each window once");
            found.push(Finding::new(&["windows"], &shown, message));
        }
        let span_us = metric.out_of_orderness_us.saturating_add(metric.clock_skew_us);
        // Sessions are at least their gap apart, so as many as windows of that length can be open.
        let (step_us, length_us) = window.gap_us.map_or((window.hop_us, window.length_us), |gap_us| (gap_us, gap_us));
        if step_us > 0 && span_us / step_us + length_us / step_us > OPEN_WINDOWS_MAX {
            let least = duration::format(span_us / OPEN_WINDOWS_MAX + 1);
            let message = format!(
                "would hold more than {OPEN_WINDOWS_MAX} windows open (out_of_orderness + clock_skew = {}); allowed: windows of at least {least}, \
                 and hops of at least 1/{OPEN_WINDOWS_MAX} of the length",
                duration::format(span_us)
            );
            found.push(Finding::new(&["windows"], &shown, message));
        }
    }
}

pub(super) fn check_detector(detector: &Detector, path: &[&str], found: &mut Vec<Finding>) {
    let Detector::Ewma { half_life_us, learn, store_above } = *detector else { return };
    let mut bad = |key, value: String, allowed: &str| {
        found.push(Finding::new(&[path, &[key]].concat(), value, format!("allowed: {allowed}")));
    };
    if !(1..=DURATION_MAX_US).contains(&half_life_us) {
        bad("half_life", duration::format(half_life_us), "a duration above zero, at most 36600d");
    }
    if !(2..=LEARN_MAX).contains(&learn) {
        bad("learn", learn.to_string(), &format!("a whole number of readings from 2 to {LEARN_MAX}"));
    }
    if !(store_above.is_finite() && store_above >= 0.0) {
        bad("store_above", store_above.to_string(), "a finite number, zero or more");
    }
}
