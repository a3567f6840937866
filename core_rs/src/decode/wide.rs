//! Wide objects: one row of a plant's table, every further member a reading of the metric that its key names.

use super::envelope::{Batch, Before};
use super::ids::fit;
use super::keys::Role;
use super::member::{Candidate, GOOD, unfit_metric};
use super::reason::{Detail, Fault, Reason};
use super::scan::blank;
use super::{FRESH, Rejection};

/// Lower qualities are bad.
const QUALITY_MIN: i16 = 64;

/// What the rows of an object share.
struct Object {
    device: Candidate<u32>,
    time: Candidate<i64>,
    quality: i16,
    start: usize,
    end: usize,
}

impl Batch<'_> {
    /// Reads the object whose bracket is at `start`; gives the index after it.
    #[inline(never)]
    pub(super) fn wide(&mut self, start: usize) -> Result<usize, Detail> {
        let b = self.b;
        let before = self.before();
        let (mut device, mut time) = (self.device, self.time);
        let (mut quality, mut quality_at) = (GOOD, start);
        let mut fault = Fault::NONE;
        let mut seen = 0;
        let mut place = 0;
        let mut members = false;
        self.decoder.marks.begin();
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
                Role::Member => {
                    let known = &self.vocabulary.metrics;
                    let metric = self.decoder.ids.member(known, &mut self.out.fresh, b, &self.decoder.keys, &key);
                    members = true;
                    if self.decoder.marks.again(metric) {
                        fault = fault.min(Fault::new(Detail::Repeated, at));
                    }
                    let (given, next) = self.value(i, c)?;
                    self.member(metric, given, i);
                    next
                }
                Role::Device(rank) => self.device_member(&mut device, rank, i, c)?,
                Role::Time(rank) => self.time_member(&mut time, rank, i, c)?,
                Role::Quality => {
                    quality_at = i;
                    self.quality(&mut quality, &mut fault, i)?
                }
                Role::Metric | Role::Value | Role::Ignored => self.other(i)?.1,
            };
            (i, c) = blank(b, i);
        }
        if c != b'}' {
            return Err(Detail::Unexpected);
        }
        let end = i + 1;
        if quality < QUALITY_MIN {
            fault = fault.min(Fault::new(Detail::QualityRange, quality_at));
        }
        if !members {
            fault = fault.min(Fault::new(Detail::MembersAbsent, start));
        }
        let clean = fault.min(device.fault).min(time.fault) == Fault::NONE;
        if clean && self.out.rejected.len() == before.rejected {
            self.fill(device.value, time.value, quality, start, end);
        } else {
            let object = Object { device, time, quality, start, end };
            self.finish(&before, fault, &object);
        }
        Ok(end)
    }

    /// Takes one member's value as a row, or its failure as a rejection; the object's parts are filled in at its end.
    #[inline(always)]
    fn member(&mut self, metric: u32, given: Result<Option<f64>, Detail>, at: usize) {
        match given {
            Ok(None) => return,
            Ok(Some(value)) if metric < FRESH => {
                self.out.metric.push(metric);
                self.out.value.push(value);
                self.out.item.push(self.item);
            }
            _ => self.member_other(metric, given, at),
        }
        self.item += 1;
    }

    #[inline(never)]
    fn member_other(&mut self, metric: u32, given: Result<Option<f64>, Detail>, at: usize) {
        let name = metric.checked_sub(FRESH).map_or(Ok(""), |index| fit(&self.out.fresh[index as usize]));
        let detail = match (given, name) {
            (Ok(value), Ok(_)) => {
                self.out.metric.push(metric);
                self.out.value.push(value.unwrap_or_default());
                self.out.item.push(self.item);
                return;
            }
            (Err(detail), _) => detail,
            (Ok(_), Err(unfit)) => unfit_metric(unfit),
        };
        self.reject_member(detail, at, name.is_ok().then_some(metric));
    }

    fn reject_member(&mut self, detail: Detail, at: usize, metric: Option<u32>) {
        let rejection = self.rejection(self.item, Fault::new(detail, at), self.origin, self.origin);
        self.out.rejected.push(Rejection { metric, ..rejection });
    }

    /// Gives the rows of this object what they share.
    #[inline(always)]
    fn fill(&mut self, device: u32, time: i64, quality: i16, start: usize, end: usize) {
        let rows = self.out.value.len();
        self.out.device.resize(rows, device);
        self.out.event_time.resize(rows, time);
        self.out.quality.resize(rows, quality);
        self.out.envelope.resize(rows, self.envelope);
        self.out.start.resize(rows, (start - self.origin) as u32);
        self.out.end.resize(rows, (end - self.origin) as u32);
    }

    /// Sorts out an object that has failed, as a whole or in some of its members.
    #[cold]
    fn finish(&mut self, before: &Before, fault: Fault, object: &Object) {
        let Object { device, time, quality, start, end } = *object;
        // A device whose name is too long is unknown, which is judged member by member; all else concerns the object.
        let unknown = device.fault != Fault::NONE && device.fault.detail() == Detail::DeviceLong;
        let worst = fault.min(time.fault).min(if unknown { Fault::NONE } else { device.fault });
        if worst != Fault::NONE {
            self.out.truncate(before.rows);
            self.out.rejected.truncate(before.rejected);
            self.item = before.item;
            self.reject_object(worst, start, end, &device, &time, None);
            self.item += 1;
            return;
        }
        if unknown {
            self.rows_of_unknown(before, device.fault);
        } else {
            self.fill(device.value, time.value, quality, start, end);
        }
        for rejection in &mut self.out.rejected[before.rejected..] {
            rejection.device = (!unknown).then_some(device.value);
            rejection.event_time = Some(time.value);
            rejection.start = (start - self.origin) as u32;
            rejection.end = (end - self.origin) as u32;
            rejection.at = rejection.at.max(rejection.start);
        }
    }

    /// Rejects the object's rows and its members without a fit name alike, because the device is judged first.
    fn rows_of_unknown(&mut self, before: &Before, fault: Fault) {
        for row in before.rows..self.out.value.len() {
            let rejection = self.rejection(self.out.item[row], fault, self.origin, self.origin);
            self.out.rejected.push(Rejection { metric: Some(self.out.metric[row]), ..rejection });
        }
        self.out.truncate(before.rows);
        let at = fault.at().saturating_sub(self.origin) as u32;
        for rejection in &mut self.out.rejected[before.rejected..] {
            if rejection.reason > Reason::UnknownDevice {
                let detail = fault.detail();
                (rejection.reason, rejection.detail, rejection.at) = (detail.reason(), detail.text(), at);
            }
        }
        self.out.rejected[before.rejected..].sort_by_key(|rejection| rejection.item);
    }
}
