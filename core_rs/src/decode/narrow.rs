//! Narrow objects: one reading each, its metric named by a member.

use super::envelope::Batch;
use super::keys::Role;
use super::member::{GOOD, Kind, unfit_metric};
use super::reason::{Detail, Fault};
use super::scan::{blank, string};

impl Batch<'_> {
    /// Reads the object whose bracket is at `start`; gives the index after it.
    #[inline(never)]
    pub(super) fn narrow(&mut self, start: usize) -> Result<usize, Detail> {
        let b = self.b;
        let (mut device, mut time) = (self.device, self.time);
        let (mut metric, mut metric_fault) = (0, Fault::new(Detail::MetricAbsent, start));
        let (mut value, mut value_fault) = (0.0, Fault::new(Detail::ValueAbsent, start));
        let mut quality = GOOD;
        let mut fault = Fault::NONE;
        let mut seen = 0;
        let mut place = 0;
        let mut i = start;
        let mut c = b',';
        if let Some(close) = self.empty(start) {
            (i, c) = (close, b'}');
        }
        while c == b',' {
            let at = i + 1;
            let key = self.decoder.keys.read(b, i, place, &mut self.decoder.unescaped)?;
            place += 1;
            (i, c) = blank(b, key.next);
            if seen & key.bit != 0 {
                fault = fault.min(Fault::new(Detail::Repeated, at));
            }
            seen |= key.bit;
            i = match key.role {
                Role::Device(rank) => self.device_member(&mut device, rank, i, c)?,
                Role::Time(rank) => self.time_member(&mut time, rank, i, c)?,
                Role::Metric if c == b'"' => {
                    let text = string(b, i + 1)?;
                    let id = self.decoder.ids.metric(&self.vocabulary.metrics, &mut self.out.fresh, b, &text);
                    match id {
                        Ok(id) => (metric, metric_fault) = (id, Fault::NONE),
                        Err(unfit) => metric_fault = Fault::new(unfit_metric(unfit), i),
                    }
                    text.next()
                }
                Role::Metric => {
                    let (kind, next) = self.other(i)?;
                    if !matches!(kind, Kind::Null) {
                        fault = fault.min(Fault::new(Detail::MetricType, i));
                    }
                    next
                }
                Role::Value => {
                    let (given, next) = self.value(i, c)?;
                    match given {
                        Ok(Some(number)) => (value, value_fault) = (number, Fault::NONE),
                        Ok(None) => {}
                        Err(detail) => {
                            value_fault = Fault::NONE;
                            fault = fault.min(Fault::new(detail, i));
                        }
                    }
                    next
                }
                Role::Quality => self.quality(&mut quality, &mut fault, i)?,
                _ if c == b'"' => string(b, i + 1)?.next(),
                Role::Member | Role::Ignored => self.other(i)?.1,
            };
            (i, c) = blank(b, i);
        }
        if c != b'}' {
            return Err(Detail::Unexpected);
        }
        let end = i + 1;
        let worst = fault.min(device.fault).min(time.fault).min(value_fault).min(metric_fault);
        if worst == Fault::NONE {
            let out = &mut *self.out;
            out.envelope.push(self.envelope);
            out.item.push(self.item);
            out.device.push(device.value);
            out.metric.push(metric);
            out.event_time.push(time.value);
            out.value.push(value);
            out.quality.push(quality);
            out.start.push((start - self.origin) as u32);
            out.end.push((end - self.origin) as u32);
        } else {
            let metric = (metric_fault == Fault::NONE).then_some(metric);
            self.reject_object(worst, start, end, &device, &time, metric);
        }
        self.item += 1;
        Ok(end)
    }
}
