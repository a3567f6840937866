//! `[payload]`: where a reading's parts stand in a JSON object.

use super::compiled::{Payload, TimeFormat};
use super::consistent::check_name;
use super::problem::{Finding, LISTED_MAX, Log, did_you_mean};
use super::toml_reader::{Node, Section};
use crate::limits::NAME_BYTES_MAX;
use std::collections::{BTreeMap, BTreeSet};

const KEYS: [&str; 8] = ["device", "time", "metric", "value", "quality", "rename", "ignore", "unknown"];
const FORMATS: [(&str, TimeFormat); 4] = [
    ("rfc3339", TimeFormat::Rfc3339),
    ("epoch_s", TimeFormat::EpochS),
    ("epoch_ms", TimeFormat::EpochMs),
    ("epoch_us", TimeFormat::EpochUs),
];

/// The mapping, and whether devices and metrics that are not listed are accepted.
pub(super) fn read(root: &Section<'_>, log: &mut Log) -> Option<(Payload, bool)> {
    let section = root.need(log, "payload", "a table that names at least device and time")?.table(log)?;
    section.only(log, &KEYS);
    let device = section.need(log, "device", "a member, @ and an envelope property, or a list of them");
    let device = device.and_then(|node| node.texts(log));
    let time = section.need(log, "time", "a table such as {field = \"ts\", format = \"rfc3339\"}");
    let time = time.and_then(|node| node.table(log)).and_then(|section| read_time(&section, log));
    let text = |log: &mut Log, name| section.get(name).and_then(|node| node.text(log)).map(str::to_owned);
    let (metric, value, quality) = (text(log, "metric"), text(log, "value"), text(log, "quality"));
    let rename = section.section(log, "rename").map(|section| read_rename(&section, log));
    let ignore = section.get("ignore").and_then(|node| node.list(log)).unwrap_or_default();
    let unknown = section.get("unknown").and_then(|node| node.word(log, &["reject", "accept"]));
    let (time, time_format) = time?;
    // The order of `ignore` means nothing, so it must not change the digest either.
    let ignore: BTreeSet<&str> = ignore.into_iter().collect();
    let payload = Payload {
        device: owned(device?),
        time: owned(time),
        time_format,
        metric,
        value,
        quality,
        rename: rename.unwrap_or_default(),
        ignore: ignore.into_iter().map(str::to_owned).collect(),
    };
    Some((payload, unknown == Some(1)))
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

fn read_time<'a>(section: &Section<'a>, log: &mut Log) -> Option<(Vec<&'a str>, TimeFormat)> {
    section.only(log, &["field", "format"]);
    let field = section.need(log, "field", "a member, @ and an envelope property, or a list of them");
    let field = field.and_then(|node| node.texts(log));
    let format = match section.get("format") {
        Some(node) => FORMATS[node.word(log, &FORMATS.map(|(word, _)| word))?].1,
        None => TimeFormat::Rfc3339,
    };
    Some((field?, format))
}

fn read_rename(section: &Section<'_>, log: &mut Log) -> BTreeMap<String, String> {
    let renamed = |(from, node): (&str, Node<'_>)| Some((from.to_owned(), node.text(log)?.to_owned()));
    section.members().filter_map(renamed).collect()
}

/// Whether the parts of a mapping agree with each other and with the metrics of the dictionary.
pub(super) fn check(payload: &Payload, metrics: &BTreeSet<&str>, accepts_unknown: bool, found: &mut Vec<Finding>) {
    check_fields(&["payload", "device"], &payload.device, found);
    check_fields(&["payload", "time", "field"], &payload.time, found);
    let single = [("metric", &payload.metric), ("value", &payload.value), ("quality", &payload.quality)];
    for (key, field) in single {
        if let Some(field) = field {
            check_member(&["payload", key], field, found);
        }
    }
    match (&payload.metric, &payload.value) {
        (Some(metric), None) => found.push(half("metric", metric, "value")),
        (None, Some(value)) => found.push(half("value", value, "metric")),
        _ => {}
    }
    check_roles(payload, found);
    check_hidden(payload, metrics, found);
    for name in &payload.ignore {
        if payload.rename.contains_key(name) {
            found.push(Finding::new(
                &["payload", "ignore"],
                format!("{name:?}"),
                "is renamed as well; allowed: one of the two",
            ));
        }
        if payload.metric.is_none() && metrics.contains(name.as_str()) {
            let message = "is a metric of this dictionary; allowed: members that are no metric";
            found.push(Finding::new(&["payload", "ignore"], format!("{name:?}"), message));
        }
    }
    for (from, to) in &payload.rename {
        let known = accepts_unknown || metrics.contains(to.as_str());
        if !known {
            let guessed = found.len() < LISTED_MAX;
            let guess = if guessed { did_you_mean(to, metrics.iter().copied()) } else { String::new() };
            let message = format!("is no metric of this dictionary{guess}; allowed: the name of a metric below");
            found.push(Finding::new(&["payload", "rename", from], format!("{to:?}"), message));
        }
        for name in [from, to] {
            if let Err(message) = check_name(name) {
                found.push(Finding::new(&["payload", "rename", from], format!("{to:?}"), message));
            }
        }
    }
}

/// In a wide object a member with a role is no metric, so a metric of that name would never be seen.
fn check_hidden(payload: &Payload, metrics: &BTreeSet<&str>, found: &mut Vec<Finding>) {
    if payload.metric.is_some() {
        return;
    }
    let renamed: BTreeSet<&String> = payload.rename.values().collect();
    let roles = [("device", &payload.device[..]), ("time", &payload.time[..]), ("quality", payload.quality.as_slice())];
    for (role, fields) in roles {
        for field in fields.iter().filter(|field| metrics.contains(field.as_str()) && !renamed.contains(field)) {
            let message = "is a metric of this dictionary too; allowed: members that are no metric";
            found.push(Finding::new(&["payload", role], format!("{field:?}"), message));
        }
    }
}

/// A member has one role: a wide object's device, time and quality are not metrics.
fn check_roles(payload: &Payload, found: &mut Vec<Finding>) {
    let mut roles: BTreeMap<&str, &str> = BTreeMap::new();
    let lists = [("device", &payload.device[..]), ("time", &payload.time[..])];
    let single = [("metric", &payload.metric), ("value", &payload.value), ("quality", &payload.quality)];
    let single = single.iter().filter_map(|(key, field)| Some((*key, std::slice::from_ref(field.as_ref()?))));
    for (role, fields) in lists.into_iter().chain(single) {
        for field in fields {
            if let Some(other) = roles.insert(field, role) {
                let message = format!("is named by payload.{other} already; allowed: a member or property of its own");
                found.push(Finding::new(&["payload", role], format!("{field:?}"), message));
            }
        }
    }
    let others = payload.ignore.iter().map(|name| ("ignore", name));
    for (key, name) in others.chain(payload.rename.keys().map(|name| ("rename", name))) {
        if let Some(role) = roles.get(name.as_str()) {
            let message = format!("is named by payload.{role} already; allowed: members without a role");
            found.push(Finding::new(&["payload", key], format!("{name:?}"), message));
        }
    }
}

fn half(key: &'static str, value: &str, other: &str) -> Finding {
    let message = format!("stands without payload.{other}; allowed: both, or neither for a wide object");
    Finding::new(&["payload", key], format!("{value:?}"), message)
}

fn check_fields(path: &[&str], fields: &[String], found: &mut Vec<Finding>) {
    const FIELDS_MAX: usize = 16;
    if fields.is_empty() || fields.len() > FIELDS_MAX {
        let message = format!("allowed: 1 to {FIELDS_MAX} members or envelope properties");
        found.push(Finding::new(path, format!("{} of them", fields.len()), message));
    }
    for field in fields {
        if let Err(message) = check_name(field.strip_prefix('@').unwrap_or(field)) {
            found.push(Finding::new(path, format!("{field:?}"), message));
        }
    }
}

fn check_member(path: &[&str], field: &str, found: &mut Vec<Finding>) {
    if field.starts_with('@') || check_name(field).is_err() {
        let message = format!("allowed: a member of the object, 1 to {NAME_BYTES_MAX} bytes, not an envelope property");
        found.push(Finding::new(path, format!("{field:?}"), message));
    }
}
