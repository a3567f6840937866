//! A partition's state as bytes: a format tag, a version, the state, and a SHA-256 over all of it.
//!
//! The same state always gives the same bytes, so that states can be compared; numbers are little-endian, and a float is
//! its bits. Whatever the bytes are, reading them ends in a partition or in a clear error (I9).

mod reader;
mod writer;

use crate::dictionary::Dictionary;
use crate::error::Error;
use crate::partition::Partition;
use crate::series::Series;
use crate::window::Pane;
use reader::Reader;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use writer::Writer;

const TAG: &[u8; 8] = b"ALUMISTA";
/// Raised with every change of the format. States of another version are refused: drain before an upgrade.
pub const FORMAT: u16 = 2;
const CHECKSUM_BYTES: usize = 32;

/// What a state says of itself, without loading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub format: u16,
    pub partition: String,
    pub last_sequence: i64,
    pub journal_ordinal: i64,
    pub dictionary_sha256: String,
}

/// Reads the head of a state and verifies its checksum.
pub fn info(state: &[u8]) -> Result<Info, Error> {
    Reader::open(state).map(|(info, _)| info)
}

impl Partition {
    /// The whole state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer { bytes: Vec::with_capacity(256 + self.store.len() * 320) };
        out.bytes.extend_from_slice(TAG);
        out.bytes.extend_from_slice(&FORMAT.to_le_bytes());
        out.text(&self.id);
        out.integer(self.last_sequence);
        out.integer(self.journal_ordinal);
        out.text(self.dictionary.sha256());
        out.integer(i64::from(self.newest_enqueued.is_some()));
        out.integer(self.newest_enqueued.unwrap_or(0));
        out.integer(self.due.len() as i64);
        for due in &self.due {
            out.text(&due.device);
            out.text(&due.metric);
            out.text(&due.window_name);
            out.integer(due.row.end);
            out.pane(&Pane { start: due.row.start, stats: due.row.stats });
        }
        out.integer(self.due_alarms.len() as i64);
        for row in &self.due_alarms {
            out.alarm(row);
        }
        out.integer(self.retired.len() as i64);
        for ((device, metric), windows) in &self.retired {
            out.text(device);
            out.text(metric);
            out.integer(windows.len() as i64);
            for (name, closed_until) in windows {
                out.text(name);
                out.integer(*closed_until);
            }
        }
        out.integer(self.store.len() as i64);
        for index in 0..self.store.len() as u32 {
            let series = self.store.series(index);
            out.text(self.vocabulary.devices.name(series.identity.device));
            out.text(self.vocabulary.metrics.name(series.identity.metric));
            out.series(&series);
        }
        let checksum = Sha256::digest(&out.bytes);
        out.bytes.extend_from_slice(&checksum);
        out.bytes
    }

    /// A partition as it was when `state` was taken.
    pub fn restore(id: &str, dictionary: Arc<Dictionary>, state: &[u8]) -> Result<Self, Error> {
        let (info, mut input) = Reader::open(state)?;
        if info.partition != id {
            return Err(unusable(&format!("it belongs to partition {}, not {id}", info.partition)));
        }
        if info.dictionary_sha256 != dictionary.sha256() {
            return Err(unusable(&format!(
                "it was made under dictionary {}, not {}; see `alumicatalyst dictionary diff`",
                info.dictionary_sha256,
                dictionary.sha256()
            )));
        }
        let mut partition = Self::new(id, dictionary);
        partition.last_sequence = info.last_sequence;
        partition.journal_ordinal = info.journal_ordinal;
        let known = input.integer()? != 0;
        partition.newest_enqueued = Some(input.integer()?).filter(|_| known);
        for _ in 0..input.length(8)? {
            partition.due.push(input.due()?);
        }
        for _ in 0..input.length(8)? {
            partition.due_alarms.push(input.alarm()?);
        }
        for _ in 0..input.length(8)? {
            let series = (input.text()?, input.text()?);
            let windows =
                (0..input.length(8)?).map(|_| Ok((input.text()?, input.integer()?))).collect::<Result<_, Error>>()?;
            partition.retired.insert(series, windows);
        }
        for _ in 0..input.length(8)? {
            let (device, metric) = (input.text()?, input.text()?);
            let Some((known, identity)) = partition.identify(&device, &metric) else {
                return Err(unusable("it holds a series that its dictionary does not define"));
            };
            let definition = &partition.catalog.definitions[identity.definition as usize].metric;
            let mut series = Series::new(identity, definition);
            input.series(&mut series, definition)?;
            if partition.holds(known, identity) {
                return Err(unusable("it holds a series twice"));
            }
            partition.add(known, series);
        }
        if input.rest.is_empty() { Ok(partition) } else { Err(unusable("it goes on after its end")) }
    }
}

fn unusable(why: &str) -> Error {
    Error::State(format!("couldn't load a state: {why}; an older state, or a replay from the start, will do"))
}
