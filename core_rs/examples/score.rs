//! Scores alone, for `bench/test_score.py`: reads columns of readings from a file, then scores them, from empty
//! detectors, once for each line that it is sent. Whoever sends the line reads this process's CPU time before and after.
//!
//! ```text
//! score <compiled dictionary> <columns>
//! ```
//! The second file holds the number of readings and of series, then the columns: series, event times and values; all
//! numbers have 64 bits, little-endian. Each series has the dictionary's first metric.

use alumicatalyst_core::dictionary::Dictionary;
use alumicatalyst_core::score::{Memory, Score};
use std::error::Error;
use std::io::{BufRead, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dictionary, columns] = arguments.as_slice() else {
        return Err("couldn't start: two arguments are needed: dictionary, columns".into());
    };
    let dictionary = Dictionary::from_json(&std::fs::read_to_string(dictionary)?).map_err(|error| error.to_string())?;
    let metric = &dictionary.compiled().metrics[0];
    let data = std::fs::read(columns)?;
    let numbers: Vec<i64> =
        data.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap_or_default())).collect();
    let (readings, series) = (numbers[0] as usize, numbers[1] as usize);
    let number: Vec<u32> = numbers[2..2 + readings].iter().map(|number| *number as u32).collect();
    let times = &numbers[2 + readings..2 + 2 * readings];
    let values: Vec<f64> =
        numbers[2 + 2 * readings..].iter().map(|bits| f64::from_bits(bits.cast_unsigned())).collect();

    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        line?;
        let mut memories = vec![(Memory::new(metric), 0_i64); series];
        let (mut scored, mut sum) = (0_u64, 0.0);
        for ((number, time), value) in number.iter().zip(times).zip(&values) {
            let (memory, newest) = &mut memories[*number as usize];
            if let Score::Scored(score) = memory.take(metric, time - *newest, *value) {
                scored += 1;
                sum += score;
            }
            *newest = *time;
        }
        writeln!(out, "{scored} {sum}")?;
        out.flush()?;
    }
    Ok(())
}
