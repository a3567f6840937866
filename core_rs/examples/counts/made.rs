//! The readings that are counted on: the same in every run, as columns and as JSON.

use std::fmt::Write as _;
use std::ops::Range;

pub(crate) const SERIES: i64 = 1_000;
pub(crate) const SECOND: i64 = 1_000_000;
/// 2026-11-21T10:15:30Z
pub(crate) const START: i64 = 1_795_256_130 * SECOND;
pub(crate) const PER_ENVELOPE: i64 = 100;
pub(crate) const OUT_OF_ORDERNESS: i64 = 5 * SECOND;

pub(crate) const DICTIONARY: &str = r#"
name = "counts"
version = "1"
site = "bench/site"
[payload]
device = ["deviceId"]
time = {field = "ts", format = "rfc3339"}
metric = "metric"
value = "value"
quality = "q"
ignore = ["id"]
[time]
out_of_orderness = "5s"
duplicates = 8
[default]
windows = ["10s", "1min/10s"]
detector = "ewma"
[detector.ewma]
learn = 20
[machine.pot]
device = "pot-{0001..1000}"
[machine.pot.cell_voltage]
unit = "V"
range = [0, 100]
alarm.HH = {above = 8, deadband = 0.5, on = "3s", off = "10s", priority = "high"}
alarm.odd = {score_above = 6, deadband = 2, on = "30s", off = "60s", priority = "low"}
"#;
pub(crate) const WIDE: &str = r#"
name = "counts-wide"
version = "1"
site = "bench/site"
[payload]
device = ["deviceId"]
time = {field = "ts", format = "rfc3339"}
[default]
windows = ["10s"]
[machine.press]
device = "press-{0001..1000}"
pressure = {unit = "bar"}
temperature = {unit = "°C"}
vibration = {unit = "mm/s"}
current = {unit = "A"}
speed = {unit = "mm/s"}
force = {unit = "kN"}
oil = {unit = "°C"}
level = {unit = "%"}
"#;
pub(crate) const WIDE_METRICS: [&str; 8] =
    ["pressure", "temperature", "vibration", "current", "speed", "force", "oil", "level"];

/// A second of readings a round, in arrival order: series, event time, thousandths of the value.
pub(crate) fn rows(seconds: Range<i64>) -> impl Iterator<Item = (u32, i64, i64)> {
    // Steele and Vigna's mixer, so that every run has the same jitter and values.
    let mixed = |seed: i64| {
        let mut bits = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits ^ (bits >> 27)
    };
    (seconds.start * SERIES..seconds.end * SERIES).map(move |at| {
        let bits = mixed(at + 1);
        let time = START + at / SERIES * SECOND + (bits % 200 * 1_000) as i64;
        ((at % SERIES) as u32, time, 4_200 + (bits >> 32) as i64 % 400)
    })
}

pub(crate) struct Bodies {
    pub(crate) bytes: Vec<u8>,
    pub(crate) offsets: Vec<i64>,
    pub(crate) enqueued: Vec<i64>,
    pub(crate) readings: usize,
}

impl Bodies {
    fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0], enqueued: Vec::new(), readings: 0 }
    }

    fn end(&mut self, enqueued: i64) {
        self.offsets.push(self.bytes.len() as i64);
        self.enqueued.push(enqueued);
    }
}

/// RFC 3339 of a time within the hour of the start.
fn clock(time: i64) -> String {
    let ms = (time - START) / 1_000 + 15 * 60_000 + 30_000;
    format!("2026-11-21T10:{:02}:{:02}.{:03}Z", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}

pub(crate) fn envelopes(seconds: Range<i64>, per_envelope: i64, open: &str, close: &str) -> Bodies {
    let mut made = Bodies::new();
    let between = if open.is_empty() { "\n" } else { "," };
    for (series, time, value) in rows(seconds) {
        let place = made.readings as i64 % per_envelope;
        made.bytes.extend_from_slice(if place == 0 { open } else { between }.as_bytes());
        let (pot, at, whole, rest) = (series + 1, clock(time), value / 1_000, value % 1_000);
        let object = format!(
            r#"{{"deviceId":"pot-{pot:04}","metric":"cell_voltage","ts":"{at}","value":{whole}.{rest:03},"q":192,"id":"3f9a61c0"}}"#
        );
        made.bytes.extend_from_slice(object.as_bytes());
        made.readings += 1;
        if place == per_envelope - 1 {
            made.bytes.extend_from_slice(close.as_bytes());
            made.end(time + SECOND / 4);
        }
    }
    made
}

/// An object of eight metrics from every press in every second.
pub(crate) fn wide_envelopes(seconds: Range<i64>) -> Bodies {
    let mut made = Bodies::new();
    for (series, time, value) in rows(seconds) {
        let mut object = format!(r#"{{"deviceId":"press-{:04}","ts":"{}""#, series + 1, clock(time));
        for (number, metric) in (0..).zip(WIDE_METRICS) {
            let _ = write!(object, r#","{metric}":{}.{:03}"#, value / 100 + number, value % 1_000);
        }
        object.push('}');
        made.bytes.extend_from_slice(object.as_bytes());
        made.readings += WIDE_METRICS.len();
        made.end(time);
    }
    made
}
