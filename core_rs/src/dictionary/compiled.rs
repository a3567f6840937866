//! The compiled data dictionary: defaults filled in, patterns expanded, durations in microseconds.
//!
//! Its canonical JSON (keys sorted, no white space) is what is hashed and kept in the lake, so a field added here
//! changes every dictionary's digest: give it `skip_serializing_if` when its absence means what it meant before.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that the core needs to know about a plant's telemetry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compiled {
    pub name: String,
    pub version: String,
    pub site: String,
    pub time_zone: String,
    pub payload: Payload,
    pub bounds: Bounds,
    /// What a series that is not listed is taken for, where unknown ones are accepted.
    pub unknown: Option<Metric>,
    /// Distinct metric definitions, in the order of their first series; `series` refers to them by index.
    pub metrics: Vec<Metric>,
    /// One entry per device and metric, sorted by both, so that moving a table about changes no digest.
    pub series: Vec<Series>,
}

/// Where a reading's parts stand in a JSON object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// Candidates, the first one found wins; a leading `@` names an envelope property.
    pub device: Vec<String>,
    pub time: Vec<String>,
    pub time_format: TimeFormat,
    /// `None`: the object is wide, every further member is a metric.
    pub metric: Option<String>,
    /// `None` exactly where `metric` is.
    pub value: Option<String>,
    pub quality: Option<String>,
    pub rename: BTreeMap<String, String>,
    pub ignore: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    Rfc3339,
    EpochS,
    EpochMs,
    EpochUs,
}

/// Bounds that can change an output belong to the dictionary, not to the settings (I2, I6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    pub series: u32,
    pub body_bytes: u32,
    pub readings_per_envelope: u32,
    pub depth: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    pub device: String,
    pub asset: String,
    /// Index into `Compiled::metrics`.
    pub metric: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    pub name: String,
    pub unit: String,
    pub conversion: Conversion,
    /// Inclusive, in the canonical unit.
    pub range: Option<[f64; 2]>,
    pub resolution: Option<f64>,
    pub every_us: Option<i64>,
    /// Status string -> code; `None` for a measured quantity.
    pub states: Option<BTreeMap<String, i32>>,
    pub windows: Vec<Window>,
    pub out_of_orderness_us: i64,
    pub idle_us: i64,
    pub clock_skew_us: i64,
    pub max_age_us: i64,
    pub duplicates: u16,
    pub detector: Detector,
    pub alarms: Vec<Alarm>,
}

/// canonical = (sent - subtract) * multiply / divide, in this order, so that a decimal factor stays exact.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    pub subtract: f64,
    pub multiply: f64,
    pub divide: f64,
}

impl Conversion {
    /// Whether values come in their canonical unit.
    pub fn is_neutral(&self) -> bool {
        self.subtract == 0.0 && self.multiply == 1.0 && self.divide == 1.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// As written: `10s`, `5min/1min`, `session/10min`.
    pub name: String,
    /// Zero for a session, as its hop is: its length is its readings'.
    pub length_us: i64,
    /// Equal to the length for a tumbling window.
    pub hop_us: i64,
    /// The silence that ends a session; `None` for a window of fixed length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_us: Option<i64>,
}

impl Window {
    /// A window of fixed length, starting every `hop_us`.
    pub fn fixed(name: impl Into<String>, length_us: i64, hop_us: i64) -> Self {
        Self { name: name.into(), length_us, hop_us, gap_us: None }
    }

    /// A session of readings less than `gap_us` apart.
    pub fn session(name: impl Into<String>, gap_us: i64) -> Self {
        Self { name: name.into(), length_us: 0, hop_us: 0, gap_us: Some(gap_us) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Detector {
    None,
    Ewma { half_life_us: i64, learn: u32, store_above: f64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    pub rule: String,
    pub condition: Condition,
    pub deadband: f64,
    pub on_us: i64,
    pub off_us: i64,
    pub priority: Priority,
    pub text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Condition {
    Above { limit: f64 },
    Below { limit: f64 },
    RateAbove { limit: f64, per_us: i64 },
    RateBelow { limit: f64, per_us: i64 },
    ScoreAbove { limit: f64 },
    Is { code: i32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    Low,
    Medium,
    High,
    Critical,
}
