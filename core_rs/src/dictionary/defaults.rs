//! `[time]`, `[default]`, `[detector]` and `[bounds]`: what holds where a metric does not say otherwise.

use super::compiled::{Bounds, Conversion, Detector, Metric, Window};
use super::consistent::{BOUNDS_DEFAULT, BOUNDS_MAX, LEARN_MAX, check_detector, check_metric};
use super::metric::{Defaults, read_detector, read_duplicates, read_windows};
use super::problem::Log;
use super::toml_reader::Section;

const SECOND_US: i64 = 1_000_000;

/// What a series that is not listed is called; its readings keep the name they came with.
const UNLISTED: &str = "*";

const EWMA: Detector = Detector::Ewma { half_life_us: 600 * SECOND_US, learn: 300, store_above: 3.0 };

fn otherwise() -> Metric {
    Metric {
        name: UNLISTED.to_owned(),
        unit: "custom:unknown".to_owned(),
        conversion: Conversion { subtract: 0.0, multiply: 1.0, divide: 1.0 },
        range: None,
        resolution: None,
        every_us: None,
        states: None,
        windows: vec![Window::fixed("10s", 10 * SECOND_US, 10 * SECOND_US)],
        out_of_orderness_us: 5 * SECOND_US,
        idle_us: 120 * SECOND_US,
        clock_skew_us: 60 * SECOND_US,
        max_age_us: 30 * 86_400 * SECOND_US,
        duplicates: 8,
        detector: Detector::None,
        alarms: Vec::new(),
    }
}

pub(super) fn read(root: &Section<'_>, log: &mut Log) -> Defaults {
    let mut defaults = Defaults { metric: otherwise(), ewma: read_ewma(root, log) };
    if let Some(time) = root.section(log, "time") {
        time.only(log, &["out_of_orderness", "idle", "clock_skew", "max_age", "duplicates"]);
        let metric = &mut defaults.metric;
        let durations = [
            ("out_of_orderness", &mut metric.out_of_orderness_us),
            ("idle", &mut metric.idle_us),
            ("clock_skew", &mut metric.clock_skew_us),
            ("max_age", &mut metric.max_age_us),
        ];
        for (key, duration_us) in durations {
            if let Some(stated_us) = time.get(key).and_then(|node| node.duration_us(log)) {
                *duration_us = stated_us;
            }
        }
        if let Some(stated) = time.get("duplicates").and_then(|node| read_duplicates(&node, log)) {
            metric.duplicates = stated;
        }
    }
    if let Some(default) = root.section(log, "default") {
        default.only(log, &["windows", "detector"]);
        if let Some(windows) = default.get("windows").and_then(|node| read_windows(&node, log)) {
            defaults.metric.windows = windows;
        }
        if let Some(detector) = default.get("detector").and_then(|node| read_detector(&node, &defaults, log)) {
            defaults.metric.detector = detector;
        }
    }
    if check(root, &defaults, log) {
        defaults
    } else {
        // One problem, not one for every metric that would inherit it.
        Defaults { metric: otherwise(), ewma: EWMA }
    }
}

/// Whether the defaults agree among themselves; they have to, even if no metric uses them.
fn check(root: &Section<'_>, defaults: &Defaults, log: &mut Log) -> bool {
    let mut found = Vec::new();
    check_metric(&defaults.metric, &mut found);
    for finding in &mut found {
        let table = if finding.path.first().is_some_and(|key| key == "windows") { "default" } else { "time" };
        finding.path.insert(0, table.to_owned());
    }
    // Reported where it is defined, not where it is used.
    found.retain(|finding| finding.path.get(1).is_none_or(|key| key != "detector"));
    check_detector(&defaults.ewma, &["detector", "ewma"], &mut found);
    let sound = found.is_empty();
    for finding in found {
        log.add(Some(root.locate(&finding.path)), &finding.path.join("."), &finding.value, finding.message);
    }
    sound
}

fn read_ewma(root: &Section<'_>, log: &mut Log) -> Detector {
    let mut ewma = EWMA;
    let detectors = root.section(log, "detector");
    if let Some(detectors) = &detectors {
        detectors.only(log, &["ewma"]);
    }
    let section = detectors.and_then(|detectors| detectors.section(log, "ewma"));
    if let (Some(section), Detector::Ewma { half_life_us, learn, store_above }) = (section, &mut ewma) {
        section.only(log, &["half_life", "learn", "store_above"]);
        if let Some(stated) = section.get("half_life").and_then(|node| node.duration_us(log)) {
            *half_life_us = stated;
        }
        if let Some(stated) = section.get("learn").and_then(|node| node.whole(log, 2..=i64::from(LEARN_MAX))) {
            *learn = stated as u32;
        }
        if let Some(stated) = section.get("store_above").and_then(|node| node.number(log)) {
            *store_above = stated;
        }
    }
    ewma
}

pub(super) fn read_bounds(root: &Section<'_>, log: &mut Log) -> Bounds {
    let mut bounds = BOUNDS_DEFAULT;
    let Some(section) = root.section(log, "bounds") else { return bounds };
    section.only(log, &BOUNDS_MAX.map(|(key, _)| key));
    let slots = [&mut bounds.series, &mut bounds.body_bytes, &mut bounds.readings_per_envelope, &mut bounds.depth];
    for ((key, max), slot) in BOUNDS_MAX.into_iter().zip(slots) {
        if let Some(stated) = section.get(key).and_then(|node| node.whole(log, 1..=i64::from(max))) {
            *slot = stated as u32;
        }
    }
    bounds
}
