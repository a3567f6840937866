//! The kernels of the core, each alone, for `bench/counts.py`, which runs this under callgrind: makes its own readings,
//! warms up, then runs one kernel inside [`counted`], the one function whose instructions are collected.
//!
//! ```text
//! counts <kernel>
//! ```
//! Prints how many readings were counted, once it has found the kernel's answer to be right.

use alumicatalyst_core::alarm::{Reading, Rules};
use alumicatalyst_core::check::Catalog;
use alumicatalyst_core::decode::{Decoded, Decoder, Envelopes, Vocabulary};
use alumicatalyst_core::dictionary::Dictionary;
use alumicatalyst_core::dictionary::compiled::Metric;
use alumicatalyst_core::kernel::FixedWindows;
use alumicatalyst_core::output::Cause;
use alumicatalyst_core::partition::{Batch, Partition};
use alumicatalyst_core::score::{Memory, Score};
use std::error::Error;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

const SERIES: i64 = 1_000;
const SECOND: i64 = 1_000_000;
/// 2026-11-21T10:15:30Z
const START: i64 = 1_795_256_130 * SECOND;
const PER_ENVELOPE: i64 = 100;
const OUT_OF_ORDERNESS: i64 = 5 * SECOND;

const DICTIONARY: &str = r#"
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
const WIDE: &str = r#"
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
const WIDE_METRICS: [&str; 8] = ["pressure", "temperature", "vibration", "current", "speed", "force", "oil", "level"];

type Answer = Result<usize, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let kernel = std::env::args().nth(1).unwrap_or_default();
    let readings = match kernel.as_str() {
        "decode-objects" => decode(DICTIONARY, &envelopes(0..40, 1, "", "")),
        "decode-arrays" => decode(DICTIONARY, &envelopes(0..40, PER_ENVELOPE, "[", "]")),
        "decode-lines" => decode(DICTIONARY, &envelopes(0..40, PER_ENVELOPE, "", "\n")),
        "decode-wide" => decode(WIDE, &wide_envelopes(0..5)),
        "windows-tumbling" => windows(10 * SECOND),
        "windows-hopping" => windows(60 * SECOND),
        "score" => score(),
        "alarms-quiet" => alarms(4.3, 4.4, 0),
        "alarms-flood" => alarms(4.3, 8.6, SERIES as usize),
        "operator" => operator(),
        other => Err(format!("couldn't count: no kernel {other:?}; bench/counts.py names them").into()),
    }?;
    println!("{readings}");
    Ok(())
}

/// The toggle: callgrind collects while this runs.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // A call in the last place would become a jump, and the toggle would never see the end.
    black_box(());
}

fn must(right: bool, answer: &str) -> Result<(), Box<dyn Error>> {
    if right { Ok(()) } else { Err(format!("couldn't count: the answer is wrong: {answer}").into()) }
}

/// A second of readings a round, in arrival order: series, event time, thousandths of the value.
fn rows(seconds: Range<i64>) -> impl Iterator<Item = (u32, i64, i64)> {
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

struct Bodies {
    bodies: Vec<u8>,
    offsets: Vec<i64>,
    enqueued: Vec<i64>,
    readings: usize,
}

impl Bodies {
    fn new() -> Self {
        Self { bodies: Vec::new(), offsets: vec![0], enqueued: Vec::new(), readings: 0 }
    }

    fn end(&mut self, enqueued: i64) {
        self.offsets.push(self.bodies.len() as i64);
        self.enqueued.push(enqueued);
    }
}

/// RFC 3339 of a time within the hour of the start.
fn clock(time: i64) -> String {
    let ms = (time - START) / 1_000 + 15 * 60_000 + 30_000;
    format!("2026-11-21T10:{:02}:{:02}.{:03}Z", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}

fn envelopes(seconds: Range<i64>, per_envelope: i64, open: &str, close: &str) -> Bodies {
    let mut made = Bodies::new();
    let between = if open.is_empty() { "\n" } else { "," };
    for (series, time, value) in rows(seconds) {
        let place = made.readings as i64 % per_envelope;
        made.bodies.extend_from_slice(if place == 0 { open } else { between }.as_bytes());
        let (pot, at, whole, rest) = (series + 1, clock(time), value / 1_000, value % 1_000);
        let object = format!(
            r#"{{"deviceId":"pot-{pot:04}","metric":"cell_voltage","ts":"{at}","value":{whole}.{rest:03},"q":192,"id":"3f9a61c0"}}"#
        );
        made.bodies.extend_from_slice(object.as_bytes());
        made.readings += 1;
        if place == per_envelope - 1 {
            made.bodies.extend_from_slice(close.as_bytes());
            made.end(time + SECOND / 4);
        }
    }
    made
}

/// An object of eight metrics from every press in every second.
fn wide_envelopes(seconds: Range<i64>) -> Bodies {
    let mut made = Bodies::new();
    for (series, time, value) in rows(seconds) {
        let mut object = format!(r#"{{"deviceId":"press-{:04}","ts":"{}""#, series + 1, clock(time));
        for (number, metric) in (0..).zip(WIDE_METRICS) {
            object.push_str(&format!(r#","{metric}":{}.{:03}"#, value / 100 + number, value % 1_000));
        }
        object.push('}');
        made.bodies.extend_from_slice(object.as_bytes());
        made.readings += WIDE_METRICS.len();
        made.end(time);
    }
    made
}

fn dictionary(text: &str) -> Result<Dictionary, Box<dyn Error>> {
    Dictionary::from_toml(text).map_err(|problems| problems.to_string().into())
}

fn decode(text: &str, made: &Bodies) -> Answer {
    let dictionary = dictionary(text)?;
    let mut vocabulary = Vocabulary::default();
    Catalog::new(dictionary.compiled(), &mut vocabulary);
    let mut decoder = Decoder::new(&dictionary.compiled().payload, &dictionary.compiled().bounds);
    let mut decoded = Decoded::default();
    let batch = Envelopes { bodies: &made.bodies, offsets: &made.offsets, properties: &[], skip: &[] };
    // Keys and names are learned, and memory is there.
    decoder.decode(&batch, &vocabulary, &mut decoded);
    counted(&mut || decoder.decode(&batch, &vocabulary, &mut decoded));
    must(decoded.len() == made.readings && decoded.rejected.is_empty(), "readings")?;
    Ok(decoded.len())
}

fn windows(length: i64) -> Answer {
    let mut stage = FixedWindows::new(length, 10 * SECOND, OUT_OF_ORDERNESS);
    let columns = |seconds: Range<i64>| {
        let mut made = (Vec::new(), Vec::new(), Vec::new());
        for (series, time, value) in rows(seconds) {
            made.0.push(series);
            made.1.push(time);
            made.2.push(value as f64 / 1_000.0);
        }
        made
    };
    let (before, timed) = (columns(0..80), columns(80..120));
    stage.on_readings(&before.0, &before.1, &before.2, |_| ());
    let mut closed = 0;
    counted(&mut || stage.on_readings(&timed.0, &timed.1, &timed.2, |_| closed += 1));
    must(closed == 4 * SERIES as usize, "windows closed in forty seconds")?;
    Ok(timed.0.len())
}

fn only_metric(dictionary: &Dictionary) -> &Metric {
    &dictionary.compiled().metrics[0]
}

fn score() -> Answer {
    let dictionary = dictionary(DICTIONARY)?;
    let metric = only_metric(&dictionary);
    let mut memories = vec![(Memory::new(metric), START); SERIES as usize];
    let mut take = |rows: &[(u32, i64, i64)]| {
        let mut scored = 0;
        for (series, time, value) in rows {
            let (memory, newest) = &mut memories[*series as usize];
            let score = memory.take(metric, time - *newest, *value as f64 / 1_000.0);
            *newest = *time;
            scored += usize::from(matches!(score, Score::Scored(_)));
        }
        scored
    };
    let (before, timed): (Vec<_>, Vec<_>) = (rows(0..40).collect(), rows(40..80).collect());
    take(&before);
    let mut scored = 0;
    counted(&mut || scored = take(&timed));
    must(scored == timed.len(), "scored")?;
    Ok(timed.len())
}

/// Rules in every series: values between `low` and `high`, so that either nothing happens or an alarm is raised.
fn alarms(low: f64, high: f64, raised: usize) -> Answer {
    let dictionary = dictionary(DICTIONARY)?;
    let rules = Rules::new(only_metric(&dictionary));
    let mut states = vec![None; SERIES as usize];
    let readings: Vec<_> = rows(0..40)
        .map(|(series, time, _)| {
            let value = if time < START + 20 * SECOND { low } else { high };
            let cause = Cause { sequence_number: 0, item: 0, enqueued_time: time };
            (series, Reading { time, value, score: Score::Scored(1.0), previous: Some((time - SECOND, low)), cause })
        })
        .collect();
    let mut steps = 0;
    counted(&mut || {
        for (series, reading) in &readings {
            let state = &mut states[*series as usize];
            // As the operator asks: the rules look where a reading or a state is not quiet.
            if state.is_some() || !rules.is_quiet(reading.value, reading.score) {
                rules.look(reading, state, |_| steps += 1);
            }
        }
    });
    must(steps == raised, "alarms raised")?;
    Ok(readings.len())
}

/// All of a partition: decode, checks, order, scores, both windows and alarms, to the rows of an output.
fn operator() -> Answer {
    let mut partition = Partition::new("bench/1/0", Arc::new(dictionary(DICTIONARY)?));
    let mut next = 0;
    let mut feed = |made: &Bodies| {
        let sequence_numbers: Vec<i64> = (next..).take(made.enqueued.len()).collect();
        next += made.enqueued.len() as i64;
        let batch = Batch {
            bodies: &made.bodies,
            offsets: &made.offsets,
            sequence_numbers: &sequence_numbers,
            enqueued_times: &made.enqueued,
            properties: &[],
        };
        partition.on_batch(&batch).map_err(|error| error.to_string())
    };
    let (before, timed) = (envelopes(0..80, PER_ENVELOPE, "[", "]"), envelopes(80..120, PER_ENVELOPE, "[", "]"));
    feed(&before)?;
    let mut output = Err(String::new());
    counted(&mut || output = feed(&timed));
    let output = output?;
    must(output.readings.value.len() == timed.readings && output.rejected.is_empty(), "readings")?;
    must(output.windows.len() == 8 * SERIES as usize, "windows")?;
    Ok(timed.readings)
}
