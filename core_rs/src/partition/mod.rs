//! The operator of one source partition: the only orchestration, and the owner of all state (I2).
//!
//! `decode` reads a batch of envelopes into columns; `analyse` then walks them envelope by envelope, in the order that
//! SEMANTICS.md prescribes: partition time, silence, checks, duplicates, score, windows, watermark, alarms.

mod batch;
mod change;
mod emit;
mod stored;
mod walk;

pub use batch::Batch;
pub(crate) use change::Retired;
pub use stored::StoredRows;

use crate::alarm;
use crate::check::{Candidate, Catalog, Known};
use crate::decode::{Decoded, Decoder, Envelopes, FRESH, Reason, Rejection, Vocabulary};
use crate::dictionary::Dictionary;
use crate::error::Error;
use crate::limits::{TIME_MAX_US, TIME_MIN_US};
use crate::output::{AlarmRow, Cause, Count, Output, WindowRow};
use crate::score::store_above;
use crate::series::{Closed, Identity, Series, Store, Verdict};
use hashbrown::HashMap;
use std::sync::Arc;
use walk::Walk;

/// A window that a change of dictionary closed; it comes out with the next envelope.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Due {
    pub(crate) device: String,
    pub(crate) metric: String,
    pub(crate) window_name: String,
    pub(crate) row: WindowRow,
}

/// State and logic of one source partition.
pub struct Partition {
    pub(crate) id: String,
    pub(crate) dictionary: Arc<Dictionary>,
    pub(crate) last_sequence: i64,
    pub(crate) journal_ordinal: i64,
    /// Newest enqueued time so far.
    pub(crate) newest_enqueued: Option<i64>,
    pub(crate) due: Vec<Due>,
    /// Alarms that a change of dictionary cleared, likewise; their cause is still to come.
    pub(crate) due_alarms: Vec<AlarmRow>,
    pub(crate) retired: Retired,
    pub(crate) catalog: Catalog,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) store: Store,
    /// Series number of each series that the dictionary lists; `ABSENT` until it appears.
    live: Vec<u32>,
    /// Series that the dictionary does not list, by device and metric id.
    accepted: HashMap<(u32, u32), u32, foldhash::fast::RandomState>,
    /// Window names by id, as the rows refer to them.
    window_names: Vec<String>,
    /// Ids of the window names of each definition of the catalog.
    window_ids: Vec<Vec<u32>>,
    decoder: Decoder,
    decoded: Decoded,
    skip: Vec<bool>,
    closed: Vec<Closed>,
    steps: Vec<alarm::Step>,
    latest_of: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;
/// Readings whose series are brought into the cache together, and the number of series from which on that pays.
const TOUCH: usize = 16;
const TOUCH_FROM: usize = 4_000;

impl Partition {
    pub fn new(id: impl Into<String>, dictionary: Arc<Dictionary>) -> Self {
        let compiled = dictionary.compiled();
        let mut vocabulary = Vocabulary::default();
        let catalog = Catalog::new(compiled, &mut vocabulary);
        let mut window_names = Vec::new();
        let window_ids = catalog
            .definitions
            .iter()
            .map(|definition| {
                definition.metric.windows.iter().map(|window| intern(&mut window_names, &window.name)).collect()
            })
            .collect();
        Self {
            id: id.into(),
            last_sequence: -1,
            journal_ordinal: -1,
            newest_enqueued: None,
            due: Vec::new(),
            due_alarms: Vec::new(),
            retired: Retired::new(),
            store: Store::default(),
            live: vec![ABSENT; compiled.series.len()],
            accepted: HashMap::default(),
            window_names,
            window_ids,
            decoder: Decoder::new(&compiled.payload, &compiled.bounds),
            decoded: Decoded::default(),
            skip: Vec::new(),
            closed: Vec::new(),
            steps: Vec::new(),
            latest_of: Vec::new(),
            catalog,
            vocabulary,
            dictionary,
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// The last sequence number taken in; -1 before the first.
    pub fn last_sequence(&self) -> i64 {
        self.last_sequence
    }

    /// Ordinal of the last journal row applied; -1 before the first.
    pub fn journal_ordinal(&self) -> i64 {
        self.journal_ordinal
    }

    /// Envelope properties that the dictionary's mapping reads.
    pub fn properties(&self) -> &[String] {
        self.decoder.wanted()
    }

    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub fn window_names(&self) -> &[String] {
        &self.window_names
    }

    pub fn on_batch(&mut self, batch: &Batch<'_>) -> Result<Output, Error> {
        self.decode(batch)?;
        Ok(self.analyse(batch))
    }

    /// First half of `on_batch`: reads the bodies into columns. Changes no state.
    pub fn decode(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        batch.validate(self.decoder.wanted().len())?;
        self.skip.clear();
        let mut last = self.last_sequence;
        for &sequence_number in batch.sequence_numbers {
            self.skip.push(sequence_number <= last);
            last = last.max(sequence_number);
        }
        let envelopes =
            Envelopes { bodies: batch.bodies, offsets: batch.offsets, properties: batch.properties, skip: &self.skip };
        self.decoder.decode(&envelopes, &self.vocabulary, &mut self.decoded);
        Ok(())
    }

    /// Second half of `on_batch`: moves the state over the batch that was decoded last.
    pub fn analyse(&mut self, batch: &Batch<'_>) -> Output {
        let mut decoded = std::mem::take(&mut self.decoded);
        let latest_of = std::mem::take(&mut self.latest_of);
        let mut walk = Walk::new(self.last_sequence, batch.sequence_numbers.len(), decoded.value.len(), latest_of);
        for envelope in 0..batch.sequence_numbers.len() {
            if self.skip[envelope] {
                walk.out.redelivered += 1;
                continue;
            }
            self.envelope(envelope, batch, &mut decoded, &mut walk);
        }
        walk.out.last = self.last_sequence;
        walk.out.partition_time = self.newest_enqueued;
        let (out, latest_of) = walk.finish(&mut decoded);
        self.decoded = decoded;
        self.latest_of = latest_of;
        out
    }

    fn envelope(&mut self, envelope: usize, batch: &Batch<'_>, decoded: &mut Decoded, walk: &mut Walk) {
        let sequence_number = batch.sequence_numbers[envelope];
        let enqueued_time = batch.enqueued_times[envelope].clamp(TIME_MIN_US, TIME_MAX_US);
        let partition_time = self.newest_enqueued.map_or(enqueued_time, |time| time.max(enqueued_time));
        self.newest_enqueued = Some(partition_time);
        self.last_sequence = sequence_number;
        let body = &batch.bodies[batch.offsets[envelope] as usize..batch.offsets[envelope + 1] as usize];
        walk.begin(Count { sequence_number, enqueued_time, body_bytes: body.len() as i64, ..Count::default() });

        let mut cause = Cause { sequence_number, item: -1, enqueued_time };
        self.emit_due(cause, walk);
        let definitions = &self.catalog.definitions;
        let metric_of = |identity: Identity| &definitions[identity.definition as usize].metric;
        self.store.close_silent(partition_time, metric_of, &mut self.closed);
        self.emit_closed(cause, walk);

        let rejected_from = walk.out.rejected.len();
        while let Some(rejection) = decoded.rejected.get(walk.rejection).filter(|r| r.envelope as usize == envelope) {
            let mut row = self.rejected(rejection, cause, body, &decoded.fresh);
            // The decoder can't tell whether the device is listed, and that would have been found first.
            let device = rejection.device.filter(|_| rejection.reason == Reason::UnknownMetric);
            if device.is_some_and(|device| self.catalog.find(device, FRESH) == Err(Reason::UnknownDevice)) {
                row.reason = Reason::UnknownDevice;
            }
            walk.reject(row);
            walk.rejection += 1;
        }
        let decoded_rejections = walk.out.rejected.len() - rejected_from;
        while walk.read < decoded.value.len() && decoded.envelope[walk.read] as usize == envelope {
            if walk.read.is_multiple_of(TOUCH) && self.store.len() >= TOUCH_FROM {
                self.touch(decoded, walk.read);
            }
            cause.item = decoded.item[walk.read];
            if let Err((reason, what)) = self.reading(cause, partition_time, decoded, walk) {
                let at = walk.read;
                let rejection = Rejection {
                    envelope: envelope as u32,
                    item: cause.item,
                    reason,
                    at: decoded.start[at],
                    start: decoded.start[at],
                    end: decoded.end[at],
                    device: Some(decoded.device[at]),
                    metric: Some(decoded.metric[at]),
                    event_time: Some(decoded.event_time[at]),
                    detail: what,
                };
                let row = self.rejected(&rejection, cause, body, &decoded.fresh);
                walk.reject(row);
            }
            walk.read += 1;
        }
        if decoded_rejections > 0 && walk.out.rejected.len() - rejected_from > decoded_rejections {
            walk.out.rejected[rejected_from..].sort_by_key(|row| row.cause.item);
        }
        walk.out.counts.push(&walk.count);
    }

    /// Brings the next readings' series into the cache, all at once.
    #[inline(never)]
    fn touch(&self, decoded: &Decoded, from: usize) {
        let to = decoded.value.len().min(from + TOUCH);
        let ahead = decoded.device[from..to].iter().zip(&decoded.metric[from..to]);
        let word = ahead.fold(0, |word, (device, metric)| match self.catalog.find(*device, *metric) {
            Ok(Known::Listed(index)) => word ^ self.store.touch(self.live[index as usize]),
            _ => word,
        });
        std::hint::black_box(word);
    }

    /// Takes one decoded reading in, or says why not.
    #[inline(always)]
    fn reading(
        &mut self,
        cause: Cause,
        partition_time: i64,
        decoded: &mut Decoded,
        walk: &mut Walk,
    ) -> Result<(), (Reason, &'static str)> {
        let at = walk.read;
        let mut reading = Candidate {
            device: decoded.device[at],
            metric: decoded.metric[at],
            event_time: decoded.event_time[at],
            value: decoded.value[at],
            quality: decoded.quality[at],
        };
        if reading.device >= FRESH || reading.metric >= FRESH {
            self.recall(&mut reading, &decoded.fresh);
        }
        let known = self.catalog.find(reading.device, reading.metric).map_err(|reason| (reason, unlisted(reason)))?;
        let definition = self.catalog.definition(known);
        let value = self.catalog.check(definition, &reading, partition_time)?;
        let series = match known {
            Known::Listed(index) if self.live[index as usize] != ABSENT => self.live[index as usize],
            _ => self.appear(known, definition, &mut reading, &decoded.fresh)?,
        };
        let metric = &self.catalog.definitions[definition as usize].metric;
        let verdict = self.store.take(series, metric, partition_time, reading.event_time, value, &mut self.closed);
        let watermark = self.store.watermark(series);
        reading.value = value;
        walk.accept(cause, decoded, &reading, &verdict, store_above(metric), watermark);
        if !self.closed.is_empty() {
            self.emit_closed(cause, walk);
        }
        if let Some(newest_before) = verdict.in_order_after {
            walk.latest(series);
            self.look(series, known, definition, cause, newest_before, &reading, &verdict, walk);
        }
        Ok(())
    }

    /// Shows a reading in order to the alarm rules of its series.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "all of them are at hand where it is inlined")]
    fn look(
        &mut self,
        series: u32,
        known: Known,
        definition: u32,
        cause: Cause,
        newest_before: i64,
        reading: &Candidate,
        verdict: &Verdict,
        walk: &mut Walk,
    ) {
        let rules = &self.catalog.definitions[definition as usize].rules;
        if rules.is_empty() {
            return;
        }
        let watch = self.store.watch(series);
        let last = std::mem::replace(&mut watch.last, reading.value);
        if watch.states.is_none() && rules.is_quiet(reading.value, verdict.score) {
            return;
        }
        let looked_at = alarm::Reading {
            time: reading.event_time,
            value: reading.value,
            score: verdict.score,
            previous: (!last.is_nan()).then_some((newest_before, last)),
            cause,
        };
        rules.look(&looked_at, &mut watch.states, |step| self.steps.push(step));
        if !self.steps.is_empty() {
            self.emit_steps(known, definition, cause, reading, walk);
        }
    }

    /// Names that were not in the vocabulary when the batch was decoded may be by now.
    #[cold]
    fn recall(&self, reading: &mut Candidate, fresh: &[Box<str>]) {
        let find = |id: u32, names: &crate::names::Names| match id.checked_sub(FRESH) {
            Some(index) => names.get(&fresh[index as usize]).unwrap_or(id),
            None => id,
        };
        reading.device = find(reading.device, &self.vocabulary.devices);
        reading.metric = find(reading.metric, &self.vocabulary.metrics);
    }

    /// The series of a reading that passed every other check, made if the bound allows.
    #[inline(never)]
    fn appear(
        &mut self,
        known: Known,
        definition: u32,
        reading: &mut Candidate,
        fresh: &[Box<str>],
    ) -> Result<u32, (Reason, &'static str)> {
        if known == Known::Accepted
            && let Some(series) = self.accepted.get(&(reading.device, reading.metric))
        {
            return Ok(*series);
        }
        if self.store.len() >= self.dictionary.compiled().bounds.series as usize {
            return Err((Reason::TooManySeries, "the partition holds as many series as bounds.series allows"));
        }
        // Only now, with every check passed, does a new name enter the vocabulary: what is rejected leaves no trace.
        for (id, names) in
            [(&mut reading.device, &mut self.vocabulary.devices), (&mut reading.metric, &mut self.vocabulary.metrics)]
        {
            if let Some(index) = id.checked_sub(FRESH) {
                *id = names.insert(&fresh[index as usize]);
            }
        }
        let identity = Identity { device: reading.device, metric: reading.metric, definition };
        let mut series = Series::new(identity, &self.catalog.definitions[definition as usize].metric);
        self.recall_windows(&mut series);
        Ok(self.add(known, series))
    }

    /// Whether a series has appeared.
    pub(crate) fn holds(&self, known: Known, identity: Identity) -> bool {
        match known {
            Known::Listed(listed) => self.live[listed as usize] != ABSENT,
            Known::Accepted => self.accepted.contains_key(&(identity.device, identity.metric)),
        }
    }

    pub(crate) fn add(&mut self, known: Known, series: Series) -> u32 {
        let identity = series.identity;
        let index = self.store.attach(series, &self.catalog.definitions[identity.definition as usize].metric);
        match known {
            Known::Listed(listed) => self.live[listed as usize] = index,
            Known::Accepted => {
                self.accepted.insert((identity.device, identity.metric), index);
            }
        }
        index
    }

    /// Closes every open window, as the journal's `flush` says. The rows carry `sequence_number`, which must be new.
    pub fn flush(&mut self, sequence_number: i64, ordinal: i64) -> Result<Output, Error> {
        if sequence_number <= self.last_sequence {
            let last = self.last_sequence;
            return Err(Error::Envelopes(format!(
                "couldn't flush partition {}: sequence number {sequence_number} is not after {last}; journal a later one",
                self.id
            )));
        }
        self.journal_ordinal = ordinal;
        let mut walk = Walk::new(self.last_sequence, 1, 0, Vec::new());
        if let Some(enqueued_time) = self.newest_enqueued {
            self.last_sequence = sequence_number;
            walk.begin(Count { sequence_number, enqueued_time, ..Count::default() });
            let cause = Cause { sequence_number, item: -1, enqueued_time };
            self.emit_due(cause, &mut walk);
            let definitions = &self.catalog.definitions;
            let metric_of = |identity: Identity| &definitions[identity.definition as usize].metric;
            self.store.close_all(metric_of, &mut self.closed);
            self.emit_closed(cause, &mut walk);
            walk.out.counts.push(&walk.count);
        }
        walk.out.last = self.last_sequence;
        walk.out.partition_time = self.newest_enqueued;
        Ok(walk.finish(&mut Decoded::default()).0)
    }

    /// The series that two names stand for under this dictionary, entering them into the vocabulary where accepted.
    pub(crate) fn identify(&mut self, device: &str, metric: &str) -> Option<(Known, Identity)> {
        let ids = (
            self.vocabulary.devices.get(device).unwrap_or(FRESH),
            self.vocabulary.metrics.get(metric).unwrap_or(FRESH),
        );
        let known = self.catalog.find(ids.0, ids.1).ok()?;
        let definition = self.catalog.definition(known);
        let device = self.vocabulary.devices.insert(device);
        let metric = self.vocabulary.metrics.insert(metric);
        Some((known, Identity { device, metric, definition }))
    }
}

fn intern(names: &mut Vec<String>, name: &str) -> u32 {
    let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    at as u32
}

fn unlisted(reason: Reason) -> &'static str {
    if reason == Reason::UnknownDevice {
        "the dictionary lists no such device"
    } else {
        "the dictionary lists no such metric of this device"
    }
}
