//! The parts of a reading: device, time, metric, value and quality, as one member of an object gives them.

use super::envelope::Batch;
use super::ids::Unfit;
use super::number::{number, small};
use super::reason::{Detail, Fault};
use super::scan::{peek, string};
use super::text_value;
use super::walk;
use crate::dictionary::TimeFormat;
use crate::time;

/// OPC's "good", which holds where a sender names no quality.
pub(super) const GOOD: i16 = 192;

/// The best candidate met so far for the device or the time; the dictionary ranks them.
#[derive(Clone, Copy)]
pub(super) struct Candidate<T> {
    rank: u32,
    pub value: T,
    pub fault: Fault,
}

impl<T> Candidate<T> {
    pub(super) fn none(nothing: T, absent: Detail) -> Self {
        Candidate { rank: u32::MAX, value: nothing, fault: Fault::new(absent, 0) }
    }

    /// Takes what a candidate gives, unless a better one was found. One that occurs twice is as bad as its worse half.
    #[inline(always)]
    pub(super) fn offer(&mut self, rank: u32, at: usize, given: Result<T, Detail>) {
        if rank > self.rank {
            return;
        }
        let again = if rank == self.rank { self.fault } else { Fault::NONE };
        match given {
            Ok(value) => *self = Candidate { rank, value, fault: again },
            Err(detail) => (self.rank, self.fault) = (rank, again.min(Fault::new(detail, at))),
        }
    }
}

/// What a value is that was not expected where it stands.
pub(super) enum Kind {
    Null,
    /// `NaN`, `Infinity` or a number.
    Number,
    Text,
    Other,
}

pub(super) fn unfit_device(unfit: Unfit) -> Detail {
    match unfit {
        Unfit::Empty => Detail::DeviceEmpty,
        Unfit::Long => Detail::DeviceLong,
    }
}

pub(super) fn unfit_metric(unfit: Unfit) -> Detail {
    match unfit {
        Unfit::Empty => Detail::MetricEmpty,
        Unfit::Long => Detail::MetricLong,
    }
}

impl Batch<'_> {
    #[inline(always)]
    pub(super) fn device_member(
        &mut self,
        device: &mut Candidate<u32>,
        rank: u32,
        i: usize,
        c: u8,
    ) -> Result<usize, Detail> {
        if c == b'"' {
            let text = string(self.b, i + 1)?;
            let id = self.decoder.ids.name(&self.vocabulary.devices, &mut self.out.fresh, self.b, &text);
            device.offer(rank, i, id.map_err(unfit_device));
            return Ok(text.next());
        }
        let (kind, next) = self.other(i)?;
        if !matches!(kind, Kind::Null) {
            device.offer(rank, i, Err(Detail::DeviceType));
        }
        Ok(next)
    }

    #[inline(always)]
    pub(super) fn time_member(
        &mut self,
        time: &mut Candidate<i64>,
        rank: u32,
        i: usize,
        c: u8,
    ) -> Result<usize, Detail> {
        if c == b'"' && self.decoder.time_format == TimeFormat::Rfc3339 {
            let (us, next) = self.decoder.clock.read(self.b, i + 1, &mut self.decoder.unescaped)?;
            time.offer(rank, i, us.ok_or(Detail::TimeForm));
            return Ok(next);
        }
        if c.is_ascii_digit() && self.decoder.time_format != TimeFormat::Rfc3339 {
            let (_, next) = number(self.b, i, c)?;
            let us = time::parse(&self.b[i..next], self.decoder.time_format);
            time.offer(rank, i, us.ok_or(Detail::TimeForm));
            return Ok(next);
        }
        self.time_other(time, rank, i)
    }

    #[cold]
    fn time_other(&mut self, time: &mut Candidate<i64>, rank: u32, i: usize) -> Result<usize, Detail> {
        let (kind, next) = self.other(i)?;
        match kind {
            Kind::Null => {}
            Kind::Number if self.decoder.time_format != TimeFormat::Rfc3339 => {
                let us = time::parse(&self.b[i..next], self.decoder.time_format);
                time.offer(rank, i, us.ok_or(Detail::TimeForm));
            }
            Kind::Number | Kind::Text => time.offer(rank, i, Err(Detail::TimeForm)),
            Kind::Other => time.offer(rank, i, Err(Detail::TimeType)),
        }
        Ok(next)
    }

    /// Reads a value: `None` is null, and a failure concerns the value only.
    #[inline(always)]
    pub(super) fn value(&mut self, i: usize, c: u8) -> Result<(Result<Option<f64>, Detail>, usize), Detail> {
        if c.is_ascii_digit() || c == b'-' {
            let (value, next) = number(self.b, i, c)?;
            return Ok((if value.is_finite() { Ok(Some(value)) } else { Err(Detail::NotFinite) }, next));
        }
        self.value_other(i)
    }

    #[inline(never)]
    fn value_other(&mut self, i: usize) -> Result<(Result<Option<f64>, Detail>, usize), Detail> {
        if peek(self.b, i) == b'"' {
            let text = string(self.b, i + 1)?;
            let id = self.decoder.ids.text(&self.vocabulary.texts, &mut self.out.fresh, self.b, &text);
            return Ok((Ok(Some(text_value(id))), text.next()));
        }
        let (kind, next) = self.other(i)?;
        let value = match kind {
            Kind::Null => Ok(None),
            Kind::Number => Err(Detail::NotFinite),
            Kind::Text | Kind::Other => Err(Detail::ValueType),
        };
        Ok((value, next))
    }

    /// Reads a quality; a number that cannot be one is -1.
    #[inline(always)]
    pub(super) fn quality(&mut self, quality: &mut i16, fault: &mut Fault, i: usize) -> Result<usize, Detail> {
        if let Some((value, next)) = small(self.b, i) {
            *quality = i16::try_from(value).unwrap_or(-1);
            return Ok(next);
        }
        self.quality_other(quality, fault, i)
    }

    #[inline(never)]
    fn quality_other(&mut self, quality: &mut i16, fault: &mut Fault, i: usize) -> Result<usize, Detail> {
        let c = peek(self.b, i);
        if c.is_ascii_digit() || c == b'-' {
            let (value, next) = number(self.b, i, c)?;
            let whole = value as i16;
            *quality = if f64::from(whole) == value && whole >= 0 { whole } else { -1 };
            return Ok(next);
        }
        let (kind, next) = self.other(i)?;
        match kind {
            Kind::Null => {}
            Kind::Number => *quality = -1,
            Kind::Text | Kind::Other => *fault = Fault::new(Detail::QualityType, i).min(*fault),
        }
        Ok(next)
    }

    /// Goes over a value of any kind.
    #[inline(never)]
    pub(super) fn other(&mut self, i: usize) -> Result<(Kind, usize), Detail> {
        let next = walk::value(self.b, i, self.depth_left, &mut self.decoder.nesting).map_err(|(detail, _)| detail)?;
        let kind = match self.b[i] {
            b'n' => Kind::Null,
            b'-' | b'0'..=b'9' | b'N' | b'I' => Kind::Number,
            b'"' => Kind::Text,
            _ => Kind::Other,
        };
        Ok((kind, next))
    }
}
