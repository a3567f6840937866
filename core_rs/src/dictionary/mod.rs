//! The data dictionary: what a plant's telemetry means, checked and compiled.
//!
//! ```text
//! TOML -> toml_reader -> payload, defaults, metric, plant -> consistent -> Compiled -> canonical JSON -> SHA-256
//! ```
//!
//! All problems of a text are reported at once. What was compiled is loaded again from its canonical JSON, under the
//! same checks, so a stored dictionary is trusted no more than a written one.

pub mod compiled;

mod canonical;
mod consistent;
mod defaults;
pub(crate) mod duration;
mod metric;
mod pattern;
mod payload;
mod plant;
mod problem;
mod rules;
mod toml_reader;
mod unit;

use compiled::{Compiled, Metric};
use problem::{Log, written};
use std::collections::BTreeSet;
use toml::de::DeTable;
use toml_reader::Section;

pub use compiled::{Alarm, Bounds, Condition, Conversion, Detector, Payload, Priority, Series, TimeFormat, Window};
pub use problem::{Problem, Problems};

/// Larger dictionaries are refused unread.
const TEXT_BYTES_MAX: usize = 16 << 20;

const KEYS: [&str; 11] =
    ["name", "version", "site", "time_zone", "payload", "time", "default", "detector", "bounds", "machine", "override"];

/// A compiled dictionary, with its canonical text and that text's digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Dictionary {
    compiled: Compiled,
    json: String,
    sha256: String,
}

impl Dictionary {
    /// Compiles what a plant engineer wrote.
    pub fn from_toml(text: &str) -> Result<Self, Problems> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Problems::one(
                "",
                "",
                format!("the text has {} bytes; allowed: at most {TEXT_BYTES_MAX}", text.len()),
            ));
        }
        let mut log = Log::new(text);
        let compiled = match DeTable::parse(text) {
            Ok(table) => compile(&Section::root(table.get_ref()), &mut log),
            Err(error) => {
                // Only the first: what follows a broken line is mostly its consequence.
                let at = error.span().map_or(0, |span| span.start);
                log.add(Some(at), "", "", format!("not TOML: {}", error.message()));
                None
            }
        };
        log.into_result(compiled).map(Self::new)
    }

    /// Loads the compiled form, which has to satisfy all that a written dictionary has to.
    pub fn from_json(text: &str) -> Result<Self, Problems> {
        let compiled: Compiled = serde_json::from_str(text)
            .map_err(|error| Problems::one("", "", format!("not a compiled dictionary: {error}")))?;
        let mut log = Log::new("");
        for finding in consistent::check(&compiled) {
            log.add(None, &finding.path.join("."), &finding.value, finding.message);
        }
        log.into_result(Some(compiled)).map(Self::new)
    }

    fn new(compiled: Compiled) -> Self {
        let json = canonical::json(&compiled);
        let sha256 = canonical::sha256_hex(&json);
        Self { compiled, json, sha256 }
    }

    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// Canonical JSON: keys sorted, compact.
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// SHA-256 of the canonical JSON, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Names, without `@`, of the envelope properties that the mapping reads; each once, in order of use.
    pub fn properties(&self) -> Vec<&str> {
        let payload = &self.compiled.payload;
        let mut known = BTreeSet::new();
        let names = payload.device.iter().chain(&payload.time).filter_map(|field| field.strip_prefix('@'));
        names.filter(|name| known.insert(*name)).collect()
    }
}

fn compile(root: &Section<'_>, log: &mut Log) -> Option<Compiled> {
    root.only(log, &KEYS);
    let text = |log: &mut Log, key, allowed| root.need(log, key, allowed)?.text(log).map(str::to_owned);
    let name = text(log, "name", "a name of the plant");
    let version = text(log, "version", "a version of this dictionary, such as \"1\"");
    let site = text(log, "site", "enterprise/site, the head of every asset path");
    let time_zone = match root.get("time_zone") {
        Some(node) => node.text(log).map(str::to_owned),
        None => Some("UTC".to_owned()),
    };
    let payload = payload::read(root, log);
    let defaults = defaults::read(root, log);
    let bounds = defaults::read_bounds(root, log);
    // A bad site is one problem, not one for every asset below it.
    let sound_site = site.as_deref().filter(|site| consistent::check_asset(site).is_ok());
    let plant = plant::read(root, sound_site.unwrap_or("site"), bounds, &defaults, log);
    let (payload, accepts_unknown) = payload?;
    let mut found = Vec::new();
    // Without any metric every name in the payload would look unknown.
    payload::check(&payload, &plant.names, accepts_unknown || plant.names.is_empty(), &mut found);
    let unknown: Option<Metric> = accepts_unknown.then_some(defaults.metric);
    let compiled = Compiled {
        name: name?,
        version: version?,
        site: site?,
        time_zone: time_zone?,
        payload,
        bounds,
        unknown,
        metrics: plant.metrics,
        series: plant.series,
    };
    consistent::head(&compiled, &mut found);
    if found.is_empty() && log.is_empty() {
        // All of it has been looked at where it was read; this holds the two doors to the same rules.
        found = consistent::check(&compiled);
    }
    for finding in found {
        let key = finding.path.iter().map(|key| written(key)).collect::<Vec<_>>().join(".");
        log.add(Some(root.locate(&finding.path)), &key, &finding.value, finding.message);
    }
    Some(compiled)
}
