//! The dictionary, indexed for checking decoded readings: which series exist, what their values may be.

use crate::alarm::Rules;
use crate::decode::{FRESH, Reason, Vocabulary, text_of};
use crate::dictionary::compiled::{Compiled, Metric};
use crate::names::Names;
use hashbrown::HashMap;

/// A metric definition with what the checks look up by number.
#[derive(Debug)]
pub struct Definition {
    pub metric: Metric,
    pub rules: Rules,
    /// Codes of the states by text id of the vocabulary; `None` for a measured quantity.
    states: Option<Vec<(u32, f64)>>,
    converts: bool,
    range: [f64; 2],
}

/// What a reading refers to, once its names are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Index of a series that the dictionary lists.
    Listed(u32),
    /// A series that it does not list but accepts.
    Accepted,
}

/// One dictionary, ready to check against.
pub struct Catalog {
    pub definitions: Vec<Definition>,
    /// The definition of accepted series, by the name of their metric; made when the first of them appears.
    pub accepts: bool,
    /// Per device id of the vocabulary: range of `listed`, sorted by metric id.
    devices: Vec<(u32, u32)>,
    /// (metric id, index of the series in the dictionary)
    listed: Vec<(u32, u32)>,
    /// Definition of each series of the dictionary.
    definition_of: Vec<u32>,
    /// Index in `definitions` of the template for accepted series.
    template: u32,
}

/// A decoded reading on its way through the checks.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub device: u32,
    pub metric: u32,
    pub event_time: i64,
    pub value: f64,
    /// Negative where it was not a quality.
    pub quality: i16,
}

/// OPC's border between bad and uncertain: below it a reading does not count.
const QUALITY_MIN: i16 = 64;

impl Catalog {
    /// Indexes a dictionary and adds its names to the vocabulary.
    pub fn new(compiled: &Compiled, vocabulary: &mut Vocabulary) -> Self {
        let mut definitions: Vec<Definition> =
            compiled.metrics.iter().map(|metric| Definition::new(metric, &mut vocabulary.texts)).collect();
        let template = definitions.len() as u32;
        definitions.extend(compiled.unknown.iter().map(|metric| Definition::new(metric, &mut vocabulary.texts)));
        let mut by_device: HashMap<u32, Vec<(u32, u32)>, foldhash::fast::RandomState> = HashMap::default();
        for (index, series) in compiled.series.iter().enumerate() {
            let device = vocabulary.devices.insert(&series.device);
            let metric = vocabulary.metrics.insert(&compiled.metrics[series.metric as usize].name);
            by_device.entry(device).or_default().push((metric, index as u32));
        }
        let mut devices = vec![(0, 0); vocabulary.devices.len()];
        let mut listed = Vec::with_capacity(compiled.series.len());
        for (device, range) in devices.iter_mut().enumerate() {
            let from = listed.len() as u32;
            if let Some(metrics) = by_device.get_mut(&(device as u32)) {
                metrics.sort_unstable();
                listed.append(metrics);
            }
            *range = (from, listed.len() as u32);
        }
        let definition_of = compiled.series.iter().map(|series| series.metric).collect();
        Self { definitions, accepts: compiled.unknown.is_some(), devices, listed, definition_of, template }
    }

    /// Takes values as they are from now on, because they were converted before; or converts them again.
    pub fn take_canonical(&mut self, canonical: bool) {
        for definition in &mut self.definitions {
            definition.converts = !canonical && !definition.metric.conversion.is_neutral();
        }
    }

    /// The definition that a known series follows.
    pub fn definition(&self, known: Known) -> u32 {
        match known {
            Known::Listed(index) => self.definition_of[index as usize],
            Known::Accepted => self.template,
        }
    }

    /// The series that device and metric name, or why there is none.
    #[inline(always)]
    pub fn find(&self, device: u32, metric: u32) -> Result<Known, Reason> {
        let Some(&(from, to)) = self.devices.get(device as usize) else {
            return if self.accepts { Ok(Known::Accepted) } else { Err(Reason::UnknownDevice) };
        };
        let metrics = &self.listed[from as usize..to as usize];
        let found = if metrics.len() <= 8 {
            metrics.iter().find(|(id, _)| *id == metric).map(|(_, index)| *index)
        } else {
            metrics.binary_search_by_key(&metric, |(id, _)| *id).ok().map(|at| metrics[at].1)
        };
        match found {
            Some(index) => Ok(Known::Listed(index)),
            None if self.accepts => Ok(Known::Accepted),
            None if metrics.is_empty() => Err(Reason::UnknownDevice),
            None => Err(Reason::UnknownMetric),
        }
    }

    /// Checks a reading of a known series and brings its value into the canonical unit.
    #[inline(always)]
    pub fn check(
        &self,
        definition: u32,
        reading: &Candidate,
        partition_time: i64,
    ) -> Result<f64, (Reason, &'static str)> {
        let definition = &self.definitions[definition as usize];
        let mut value = reading.value;
        if definition.states.is_some() || value.is_nan() {
            value = definition.code(value)?;
        } else if definition.converts {
            let by = &definition.metric.conversion;
            value = (value - by.subtract) * by.multiply / by.divide;
            if !value.is_finite() {
                return Err((Reason::NotFinite, "the value overflows in its canonical unit"));
            }
        }
        if reading.quality < QUALITY_MIN {
            let what =
                if reading.quality < 0 { "the quality is no integer from 0 to 32767" } else { "the quality is bad" };
            return Err((Reason::BadQuality, what));
        }
        if value < definition.range[0] || value > definition.range[1] {
            return Err((Reason::OutOfRange, "the value is outside the metric's range"));
        }
        if reading.event_time > partition_time + definition.metric.clock_skew_us {
            return Err((Reason::FutureEventTime, "the event time is further ahead of partition time than clock_skew"));
        }
        if reading.event_time < partition_time - definition.metric.max_age_us {
            return Err((Reason::PastEventTime, "the event time is further behind partition time than max_age"));
        }
        Ok(value)
    }
}

impl Definition {
    fn new(metric: &Metric, texts: &mut Names) -> Self {
        Self {
            states: metric
                .states
                .as_ref()
                .map(|states| states.iter().map(|(text, code)| (texts.insert(text), f64::from(*code))).collect()),
            converts: !metric.conversion.is_neutral(),
            range: metric.range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]),
            rules: Rules::new(metric),
            metric: metric.clone(),
        }
    }

    /// The code of a status; a string where a number is due ends here too, because only now the metric is known.
    #[inline(never)]
    fn code(&self, value: f64) -> Result<f64, (Reason, &'static str)> {
        match (&self.states, text_of(value)) {
            (None, _) => Err((Reason::WrongType, "the value is a string, a number was expected")),
            (Some(_), Some(text)) if text >= FRESH => {
                Err((Reason::UnknownStatus, "the status is none of the metric's states"))
            }
            (Some(states), Some(text)) => {
                let code = states.iter().find(|(known, _)| *known == text);
                code.map(|(_, code)| *code).ok_or((Reason::UnknownStatus, "the status is none of the metric's states"))
            }
            (Some(states), None) => {
                let known = states.iter().any(|(_, code)| *code == value);
                if known {
                    Ok(value)
                } else {
                    Err((Reason::UnknownStatus, "the number is the code of none of the metric's states"))
                }
            }
        }
    }
}
