//! The kernels of the core, each alone, for `bench/counts.py`, which runs this under callgrind: makes its own readings,
//! warms up, then runs one kernel inside [`counted`], the one function whose instructions are collected.
//!
//! ```text
//! counts <kernel>
//! ```
//! Prints how many readings were counted, once it has found the kernel's answer to be right.

mod digests;
mod made;

use alumicatalyst_core::alarm::{Reading, Rules};
use alumicatalyst_core::check::Catalog;
use alumicatalyst_core::decode::{Decoded, Decoder, Envelopes, Vocabulary};
use alumicatalyst_core::dictionary::Dictionary;
use alumicatalyst_core::dictionary::compiled::Metric;
use alumicatalyst_core::kernel::FixedWindows;
use alumicatalyst_core::output::Cause;
use alumicatalyst_core::partition::{Batch, Partition};
use alumicatalyst_core::score::{Memory, Score};
use made::{
    Bodies, DICTIONARY, OUT_OF_ORDERNESS, PER_ENVELOPE, SECOND, SERIES, START, WIDE, envelopes, rows, wide_envelopes,
};
use std::error::Error;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

/// How many readings were counted.
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
        "row-digests" => digests::digests(),
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

fn dictionary(text: &str) -> Result<Dictionary, Box<dyn Error>> {
    Dictionary::from_toml(text).map_err(|problems| problems.to_string().into())
}

fn decode(text: &str, made: &Bodies) -> Answer {
    let dictionary = dictionary(text)?;
    let mut vocabulary = Vocabulary::default();
    Catalog::new(dictionary.compiled(), &mut vocabulary);
    let mut decoder = Decoder::new(&dictionary.compiled().payload, &dictionary.compiled().bounds);
    let mut decoded = Decoded::default();
    let batch = Envelopes { bodies: &made.bytes, offsets: &made.offsets, properties: &[], skip: &[] };
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
            bodies: &made.bytes,
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
