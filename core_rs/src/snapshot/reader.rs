//! The reading half of a state's format: whatever the bytes are, it ends in a value or in a clear error (I9).

use super::{CHECKSUM_BYTES, FORMAT, Info, TAG, unusable};
use crate::alarm::{Active, PRIORITIES, State, Transition};
use crate::dictionary::compiled::{Detector, Metric};
use crate::error::Error;
use crate::limits::{TIME_MAX_US, TIME_MIN_US};
use crate::output::{AlarmRow, Cause, WindowRow};
use crate::partition::Due;
use crate::score::{Ewma, Memory};
use crate::series::{Series, Watch};
use crate::stats::Accumulator;
use crate::window::{ClosedBy, Kind, Pane, start_of};
use sha2::{Digest, Sha256};

pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn open(state: &'a [u8]) -> Result<(Info, Self), Error> {
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

    pub(super) fn integer(&mut self) -> Result<i64, Error> {
        self.word().map(i64::from_le_bytes)
    }

    fn float(&mut self) -> Result<f64, Error> {
        self.word().map(|word| f64::from_bits(u64::from_le_bytes(word)))
    }

    /// A number of elements of at least `bytes_each`: more than the bytes left could hold is damage.
    pub(super) fn length(&mut self, bytes_each: usize) -> Result<usize, Error> {
        let length = usize::try_from(self.integer()?).map_err(|_| unusable("it has a negative length"))?;
        if length > self.rest.len() / bytes_each { Err(unusable("it ends early")) } else { Ok(length) }
    }

    pub(super) fn text(&mut self) -> Result<String, Error> {
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
                score_max: self.float()?,
            },
        })
    }

    pub(super) fn due(&mut self) -> Result<Due, Error> {
        let (device, metric, window_name) = (self.text()?, self.text()?, self.text()?);
        let end = self.integer()?;
        let Pane { start, stats } = self.pane()?;
        let row = WindowRow { device: 0, metric: 0, window_name: 0, start, end, closed_by: ClosedBy::Flush, stats };
        Ok(Due { device, metric, window_name, row })
    }

    /// An alarm that a change of dictionary cleared.
    pub(super) fn alarm(&mut self) -> Result<AlarmRow, Error> {
        let (alarm_id, device, metric) = (self.text()?, self.text()?, self.text()?);
        let (rule, message) = (self.text()?, self.text()?);
        let asset = self.maybe(Self::text)?;
        let (step, priority) = (self.small()?, self.small()?);
        if !(0..PRIORITIES.len() as i32).contains(&priority) {
            return Err(unusable("it holds an alarm without a priority"));
        }
        Ok(AlarmRow {
            cause: Cause { sequence_number: 0, item: -1, enqueued_time: 0 },
            alarm_id,
            step,
            transition: Transition::Cleared,
            device,
            metric,
            asset,
            rule,
            priority,
            onset_time: self.integer()?,
            event_time: self.integer()?,
            value: self.float()?,
            peak: self.float()?,
            threshold: self.maybe(Self::float)?,
            score: None,
            message,
        })
    }

    pub(super) fn series(&mut self, series: &mut Series, metric: &Metric) -> Result<(), Error> {
        series.watermark = self.integer()?;
        series.newest = self.integer()?;
        series.seen = self.integer()?;
        series.recent = (0..self.length(8)?).map(|_| self.integer()).collect::<Result<_, _>>()?;
        for (windows, definition) in series.windows.iter_mut().zip(&metric.windows) {
            let kind = Kind::of(definition);
            windows.closed_until = self.integer()?;
            for _ in 0..self.length(8)? {
                let pane = self.pane()?;
                if !begins_right(kind, &pane) {
                    return Err(unusable("it holds a window that begins where none does"));
                }
                windows.place(kind, pane);
            }
        }
        self.watch(&mut series.watch, metric)
    }

    fn watch(&mut self, watch: &mut Watch, metric: &Metric) -> Result<(), Error> {
        watch.memory = match (self.integer()?, metric.detector) {
            (0, Detector::None) => Memory::None,
            (1, Detector::Ewma { .. }) => {
                let (mean, variance) = (self.float()?, self.float()?);
                let count = u32::try_from(self.integer()?).map_err(|_| unusable("a detector's count is none"))?;
                Memory::Ewma(Ewma { mean, variance, count })
            }
            _ => return Err(unusable("it holds a detector that its dictionary does not define")),
        };
        watch.last = self.float()?;
        let states = (0..self.length(8)?).map(|_| self.state()).collect::<Result<Box<[State]>, _>>()?;
        if !states.is_empty() && states.len() != metric.alarms.len() {
            return Err(unusable("it holds other alarm rules than its dictionary defines"));
        }
        watch.states = (!states.is_empty()).then_some(states);
        Ok(())
    }

    fn state(&mut self) -> Result<State, Error> {
        match self.integer()? {
            0 => Ok(State::Normal),
            1 => Ok(State::Pending { onset: self.time()?, peak: self.float()? }),
            2 => Ok(State::Active(Active {
                raised_by: (self.integer()?, self.small()?),
                step: self.small()?,
                onset: self.time()?,
                peak: self.float()?,
                reported: self.float()?,
                reported_at: self.time()?,
                back_since: self.maybe(Self::time)?,
            })),
            _ => Err(unusable("it holds an alarm in a state that there is not")),
        }
    }

    fn time(&mut self) -> Result<i64, Error> {
        let time = self.integer()?;
        if (TIME_MIN_US..=TIME_MAX_US).contains(&time) {
            Ok(time)
        } else {
            Err(unusable("it holds a time that is none"))
        }
    }

    fn small(&mut self) -> Result<i32, Error> {
        i32::try_from(self.integer()?).map_err(|_| unusable("a number in it is too large"))
    }

    fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<Option<T>, Error> {
        if self.integer()? == 0 { Ok(None) } else { read(self).map(Some) }
    }
}

fn begins_right(kind: Kind, pane: &Pane) -> bool {
    let known = |time: i64| (TIME_MIN_US..=TIME_MAX_US).contains(&time);
    let aligned = match kind {
        Kind::Tumbling { length } | Kind::Hopping { hop: length, .. } => {
            start_of(pane.start, length) == pane.start && pane.start > TIME_MIN_US - length
        }
        Kind::Session { .. } => pane.start == pane.stats.first_time && known(pane.stats.last_time),
    };
    aligned && pane.start <= TIME_MAX_US
}
