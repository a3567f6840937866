//! A partition's state as bytes: a format tag, a version, the state, and a SHA-256 over all of it.
//!
//! The same state always gives the same bytes, so that states can be compared; numbers are little-endian, and a float is
//! its bits. Whatever the bytes are, reading them ends in a partition or in a clear error (I9).

use crate::dictionary::Dictionary;
use crate::error::Error;
use crate::limits::{TIME_MAX_US, TIME_MIN_US};
use crate::output::WindowRow;
use crate::partition::{Due, Partition};
use crate::series::Series;
use crate::stats::Accumulator;
use crate::window::{ClosedBy, Pane, start_of};
use sha2::{Digest, Sha256};
use std::sync::Arc;

const TAG: &[u8; 8] = b"ALUMISTA";
/// Raised with every change of the format; older versions are read for as long as this file knows how.
pub const FORMAT: u16 = 1;
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
            input.series(&mut series)?;
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

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn integer(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn float(&mut self, value: f64) {
        self.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.integer(text.len() as i64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn pane(&mut self, pane: &Pane) {
        let stats = &pane.stats;
        for value in [pane.start, stats.count as i64, stats.first_time, stats.last_time] {
            self.integer(value);
        }
        for value in [
            stats.first,
            stats.last,
            stats.min,
            stats.max,
            stats.mean,
            stats.squares,
            stats.time_mean,
            stats.time_squares,
            stats.products,
        ] {
            self.float(value);
        }
    }

    fn series(&mut self, series: &Series) {
        self.integer(series.watermark);
        self.integer(series.newest);
        self.integer(series.seen);
        self.integer(series.recent.len() as i64);
        for &time in &series.recent {
            self.integer(time);
        }
        for windows in &series.windows {
            self.integer(windows.closed_until);
            let mut panes: Vec<&Pane> = windows.panes().collect();
            // Newest first: where a pane happened to be kept is no part of the state.
            panes.sort_by_key(|pane| std::cmp::Reverse(pane.start));
            self.integer(panes.len() as i64);
            for pane in panes {
                self.pane(pane);
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn open(state: &'a [u8]) -> Result<(Info, Self), Error> {
        let Some(rest) = state.strip_prefix(TAG) else {
            return Err(unusable("these bytes are no state"));
        };
        let Some((version, _)) = rest.split_first_chunk::<2>() else {
            return Err(unusable("it ends early"));
        };
        let format = u16::from_le_bytes(*version);
        if format != FORMAT {
            return Err(unusable(&format!("its format is version {format}, this software reads version {FORMAT}")));
        }
        let Some((content, checksum)) = state.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(unusable("it ends early"));
        };
        if Sha256::digest(content)[..] != checksum[..] {
            return Err(unusable("its checksum is wrong, the bytes are damaged"));
        }
        let mut input = Self { rest: content.get(TAG.len() + 2..).ok_or_else(|| unusable("it ends early"))? };
        let partition = input.text()?;
        let last_sequence = input.integer()?;
        let journal_ordinal = input.integer()?;
        let dictionary_sha256 = input.text()?;
        Ok((Info { format, partition, last_sequence, journal_ordinal, dictionary_sha256 }, input))
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or_else(|| unusable("it ends early"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn word(&mut self) -> Result<[u8; 8], Error> {
        let (word, rest) = self.rest.split_first_chunk().ok_or_else(|| unusable("it ends early"))?;
        self.rest = rest;
        Ok(*word)
    }

    fn integer(&mut self) -> Result<i64, Error> {
        self.word().map(i64::from_le_bytes)
    }

    fn float(&mut self) -> Result<f64, Error> {
        self.word().map(|word| f64::from_bits(u64::from_le_bytes(word)))
    }

    /// A number of elements of at least `bytes_each`: more than the bytes left could hold is damage.
    fn length(&mut self, bytes_each: usize) -> Result<usize, Error> {
        let length = usize::try_from(self.integer()?).map_err(|_| unusable("it has a negative length"))?;
        if length > self.rest.len() / bytes_each { Err(unusable("it ends early")) } else { Ok(length) }
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.length(1)?;
        let bytes = self.bytes(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| unusable("a name in it is not UTF-8"))
    }

    fn pane(&mut self) -> Result<Pane, Error> {
        let start = self.integer()?;
        let count = self.integer()? as u64;
        Ok(Pane {
            start,
            stats: Accumulator {
                count,
                first_time: self.integer()?,
                last_time: self.integer()?,
                first: self.float()?,
                last: self.float()?,
                min: self.float()?,
                max: self.float()?,
                mean: self.float()?,
                squares: self.float()?,
                time_mean: self.float()?,
                time_squares: self.float()?,
                products: self.float()?,
            },
        })
    }

    fn due(&mut self) -> Result<Due, Error> {
        let (device, metric, window_name) = (self.text()?, self.text()?, self.text()?);
        let end = self.integer()?;
        let Pane { start, stats } = self.pane()?;
        let row = WindowRow { device: 0, metric: 0, window_name: 0, start, end, closed_by: ClosedBy::Flush, stats };
        Ok(Due { device, metric, window_name, row })
    }

    fn series(&mut self, series: &mut Series) -> Result<(), Error> {
        series.watermark = self.integer()?;
        series.newest = self.integer()?;
        series.seen = self.integer()?;
        series.recent = (0..self.length(8)?).map(|_| self.integer()).collect::<Result<_, _>>()?;
        for windows in &mut series.windows {
            windows.closed_until = self.integer()?;
            for _ in 0..self.length(8)? {
                let pane = self.pane()?;
                let aligned = (TIME_MIN_US - windows.length..=TIME_MAX_US).contains(&pane.start)
                    && start_of(pane.start, windows.length) == pane.start;
                if !aligned {
                    return Err(unusable("it holds a window that begins where none does"));
                }
                windows.place(pane);
            }
        }
        Ok(())
    }
}
