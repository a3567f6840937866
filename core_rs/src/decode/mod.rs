//! Payload bytes to columns: a batch of envelopes is read in one pass that validates as it goes.
//!
//! The decoder decides what can be told from the payload and the form of the dictionary alone, every [`Reason`] up to
//! `NotFinite` and names that cannot be one; which series exist and what their values may be is checked afterwards. What
//! it gives for an envelope depends on that envelope and the vocabulary only, never on what was decoded before.
//!
//! Reading order: `envelope` (one body), `lines` (a body of several documents), `narrow` or `wide` (one object), `member`
//! (its parts), then the tokens in `scan` and `number`. Failures take the slow road: the fast pass only says that
//! something is wrong, and `walk` goes over the body, or the line, once more to name what and where.

mod clock;
mod envelope;
mod fresh;
mod ids;
mod keys;
mod lines;
mod marks;
mod member;
mod narrow;
mod number;
mod reason;
mod scan;
mod walk;
mod wide;

pub use reason::Reason;

use crate::dictionary::{Bounds, Payload, TimeFormat};
use crate::names::Names;
use clock::Clock;
use envelope::Batch;
use ids::Ids;
use keys::Keys;
use marks::Marks;
use walk::Nesting;

/// The names that are known before a batch is decoded. They do not change meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    pub devices: Names,
    pub metrics: Names,
    /// Status strings of the dictionary.
    pub texts: Names,
}

/// Ids from here on are not of the vocabulary: less this, they are indices into [`Decoded::fresh`].
pub const FRESH: u32 = 1 << 31;

/// A batch of envelopes of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Envelopes<'a> {
    pub bodies: &'a [u8],
    /// Ascending; a body stands between each two of them. An envelope whose offsets are not within `bodies` has no body.
    pub offsets: &'a [i64],
    /// For every envelope the properties that the decoder wants, in its order; may be empty.
    pub properties: &'a [Option<&'a str>],
    /// Envelopes not to be decoded; may be empty.
    pub skip: &'a [bool],
}

/// The readings of a batch, column by column, and what is none, both in the order of their envelopes and items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    pub envelope: Vec<u32>,
    pub item: Vec<i32>,
    pub device: Vec<u32>,
    pub metric: Vec<u32>,
    pub event_time: Vec<i64>,
    /// A string is a NaN that [`text_of`] reads; a number is finite.
    pub value: Vec<f64>,
    /// An integer of 0 to 32767, or -1 for any other number.
    pub quality: Vec<i16>,
    /// The object's bytes, from the start of its envelope.
    pub start: Vec<u32>,
    pub end: Vec<u32>,
    pub fresh: Vec<Box<str>>,
    pub rejected: Vec<Rejection>,
}

/// A reading that is none, or an envelope of which nothing can be told.
///
/// `UnknownMetric` here means that the name is absent, empty or too long; where the device is not known either, that
/// comes first and is for the caller to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    pub envelope: u32,
    /// -1: the envelope as a whole.
    pub item: i32,
    pub reason: Reason,
    /// The byte of the envelope where the reason was met.
    pub at: u32,
    pub start: u32,
    pub end: u32,
    pub device: Option<u32>,
    pub metric: Option<u32>,
    pub event_time: Option<i64>,
    pub detail: &'static str,
}

/// The id of the text that stands for a value, if that is not a number.
#[inline]
pub fn text_of(value: f64) -> Option<u32> {
    value.is_nan().then(|| value.to_bits() as u32)
}

fn text_value(id: u32) -> f64 {
    f64::from_bits(f64::NAN.to_bits() | u64::from(id))
}

impl Decoded {
    pub fn len(&self) -> usize {
        self.value.len()
    }

    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Empties the columns and keeps their memory.
    pub fn clear(&mut self) {
        self.truncate(0);
        self.rejected.clear();
        self.fresh.clear();
    }

    fn truncate(&mut self, rows: usize) {
        self.envelope.truncate(rows);
        self.item.truncate(rows);
        self.device.truncate(rows);
        self.metric.truncate(rows);
        self.event_time.truncate(rows);
        self.value.truncate(rows);
        self.quality.truncate(rows);
        self.start.truncate(rows);
        self.end.truncate(rows);
    }
}

/// Reads envelopes as one dictionary describes them.
pub struct Decoder {
    bounds: Bounds,
    wide: bool,
    time_format: TimeFormat,
    /// Names of the wanted properties; candidates among them are (rank, index).
    wanted: Vec<String>,
    device_properties: Vec<(u32, usize)>,
    time_properties: Vec<(u32, usize)>,
    keys: Keys,
    clock: Clock,
    ids: Ids,
    marks: Marks,
    nesting: Nesting,
    unescaped: String,
}

impl Decoder {
    pub fn new(payload: &Payload, bounds: &Bounds) -> Self {
        let mut wanted = Vec::new();
        Decoder {
            bounds: *bounds,
            wide: payload.metric.is_none(),
            time_format: payload.time_format,
            device_properties: properties(&payload.device, &mut wanted),
            time_properties: properties(&payload.time, &mut wanted),
            wanted,
            keys: Keys::new(payload),
            clock: Clock::default(),
            ids: Ids::new(&payload.rename),
            marks: Marks::default(),
            nesting: Nesting::default(),
            unescaped: String::new(),
        }
    }

    /// Names of the envelope properties that the dictionary's mapping reads, without their `@`.
    pub fn wanted(&self) -> &[String] {
        &self.wanted
    }

    /// Reads a batch; what `decoded` held before is gone.
    pub fn decode(&mut self, envelopes: &Envelopes<'_>, vocabulary: &Vocabulary, decoded: &mut Decoded) {
        decoded.clear();
        self.keys.refresh();
        self.ids.begin();
        Batch::new(self, vocabulary, decoded).read(envelopes);
    }
}

/// The envelope properties among candidates: their rank, and their place among all that are wanted.
fn properties(candidates: &[String], wanted: &mut Vec<String>) -> Vec<(u32, usize)> {
    let mut found = Vec::new();
    for (rank, candidate) in (0..).zip(candidates) {
        if let Some(name) = candidate.strip_prefix('@') {
            let at = wanted.iter().position(|known| known == name).unwrap_or(wanted.len());
            if at == wanted.len() {
                wanted.push(name.to_owned());
            }
            found.push((rank, at));
        }
    }
    found
}
