//! Decoding alone, for `bench/test_decode.py`: reads envelopes from a file, then decodes them once for each line that it
//! is sent. Whoever sends the line reads this process's CPU time before and after.
//!
//! ```text
//! decode <compiled dictionary> <envelopes> <envelopes per batch>
//! ```
//! The second file holds the number of envelopes, their ends, and their bodies; all numbers are 64-bit, little-endian.

use alumicatalyst_core::check::Catalog;
use alumicatalyst_core::decode::{Decoded, Decoder, Envelopes, Vocabulary};
use alumicatalyst_core::dictionary::Dictionary;
use std::error::Error;
use std::io::{BufRead, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dictionary, envelopes, per_batch] = arguments.as_slice() else {
        return Err("couldn't start: three arguments are needed: dictionary, envelopes, envelopes per batch".into());
    };
    let per_batch: usize = per_batch.parse()?;
    let dictionary = Dictionary::from_json(&std::fs::read_to_string(dictionary)?).map_err(|error| error.to_string())?;
    let data = std::fs::read(envelopes)?;
    let mut numbers = data.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap_or_default()));
    let count = numbers.next().unwrap_or_default() as usize;
    let offsets: Vec<i64> = std::iter::once(0).chain(numbers.take(count)).collect();
    let bodies = &data[8 * (count + 1)..];

    let mut vocabulary = Vocabulary::default();
    // The vocabulary of a partition in operation: all names of its dictionary.
    Catalog::new(dictionary.compiled(), &mut vocabulary);
    let mut decoder = Decoder::new(&dictionary.compiled().payload, &dictionary.compiled().bounds);
    let mut decoded = Decoded::default();

    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let (mut rows, mut rejected, mut sum, mut times) = (0, 0, 0.0, 0_i64);
        let check = line? == "check";
        for from in (0..count).step_by(per_batch) {
            let offsets = &offsets[from..=(from + per_batch).min(count)];
            let envelopes = Envelopes { bodies, offsets, properties: &[], skip: &[] };
            decoder.decode(&envelopes, &vocabulary, &mut decoded);
            rows += decoded.len();
            rejected += decoded.rejected.len();
            if check {
                sum += decoded.value.iter().sum::<f64>();
                times = decoded.event_time.iter().fold(times, |sum, time| sum.wrapping_add(*time));
            }
        }
        writeln!(out, "{rows} {rejected} {sum} {times}")?;
        out.flush()?;
    }
    Ok(())
}
