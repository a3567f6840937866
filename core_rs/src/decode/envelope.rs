//! One body at a time: its limits, its document, and what becomes of it where it is none.

use super::member::{Candidate, unfit_device};
use super::reason::{Detail, Fault};
use super::scan::{blank, peek};
use super::{Decoded, Decoder, Envelopes, Rejection, Vocabulary, walk};
use crate::time;

/// How far the fast pass may look past a body's or a line's end: the longest load, so that bodies need not be copied
/// apart. What it finds there never counts, because a document is taken only if it ends exactly where its envelope or
/// line does.
pub(super) const MARGIN: usize = 32;

/// Where the columns stood before something that may turn out to be none.
pub(super) struct Before {
    pub rows: usize,
    pub rejected: usize,
    fresh: usize,
    pub item: i32,
}

/// A batch in work, at one of its envelopes.
pub(super) struct Batch<'a> {
    pub decoder: &'a mut Decoder,
    pub vocabulary: &'a Vocabulary,
    pub out: &'a mut Decoded,
    /// All bodies up to this one, or to this one's line at hand, and its margin.
    pub b: &'a [u8],
    /// Where this body starts.
    pub origin: usize,
    pub envelope: u32,
    /// Number of the next reading.
    pub item: i32,
    /// What the envelope's properties give.
    pub device: Candidate<u32>,
    pub time: Candidate<i64>,
    /// Arrays and objects that may be open inside the object at hand.
    pub depth_left: u32,
}

impl<'a> Batch<'a> {
    pub(super) fn new(decoder: &'a mut Decoder, vocabulary: &'a Vocabulary, out: &'a mut Decoded) -> Self {
        Batch {
            decoder,
            vocabulary,
            out,
            b: &[],
            origin: 0,
            envelope: 0,
            item: 0,
            device: Candidate::none(0, Detail::DeviceAbsent),
            time: Candidate::none(0, Detail::TimeAbsent),
            depth_left: 0,
        }
    }

    pub(super) fn read(&mut self, envelopes: &Envelopes<'a>) {
        let bodies = envelopes.bodies;
        let utf8 = valid_span(envelopes);
        let wanted = self.decoder.wanted.len();
        for (envelope, offsets) in envelopes.offsets.windows(2).enumerate() {
            if envelopes.skip.get(envelope) == Some(&true) {
                continue;
            }
            let (start, end) = bounds(bodies, offsets);
            self.envelope = envelope as u32;
            self.origin = start;
            self.item = 0;
            self.b = &bodies[..bodies.len().min(end + MARGIN)];
            let before = self.before();
            let properties = envelopes.properties.get(envelope * wanted..(envelope + 1) * wanted).unwrap_or_default();
            let inside = utf8.is_some_and(|(first, last)| first <= start && end <= last);
            if let Err(detail) = self.body(end, inside, properties, &before) {
                self.back_to(&before);
                self.reject_envelope(detail, &bodies[start..end]);
            }
        }
    }

    #[inline(always)]
    pub(super) fn before(&self) -> Before {
        let Decoded { value, rejected, fresh, .. } = &*self.out;
        Before { rows: value.len(), rejected: rejected.len(), fresh: fresh.len(), item: self.item }
    }

    #[inline(never)]
    pub(super) fn back_to(&mut self, before: &Before) {
        self.out.truncate(before.rows);
        self.out.rejected.truncate(before.rejected);
        self.decoder.ids.forget(&mut self.out.fresh, before.fresh);
        self.item = before.item;
    }

    /// Reads the body that ends at `end`; a failure rejects it whole.
    #[inline(always)]
    fn body(&mut self, end: usize, utf8: bool, properties: &[Option<&str>], before: &Before) -> Result<(), Detail> {
        if end - self.origin > self.decoder.bounds.body_bytes as usize {
            return Err(Detail::TooLarge);
        }
        if !utf8 && std::str::from_utf8(&self.b[self.origin..end]).is_err() {
            return Err(Detail::Encoding);
        }
        if !properties.is_empty() {
            self.properties(properties);
        }
        let (i, c) = blank(self.b, self.origin);
        if i >= end {
            return Err(Detail::Empty);
        }
        let read = self.document(i, c);
        if self.ends(&read, end) { Ok(()) } else { self.lines(read, i, end, properties, before) }
    }

    #[inline(always)]
    pub(super) fn document(&mut self, i: usize, c: u8) -> Result<usize, Detail> {
        match c {
            b'{' => self.object(i, 1),
            b'[' => self.array(i),
            _ => Err(Detail::DocumentType),
        }
    }

    /// Tells whether a document was read that ends exactly where its body or line does. What comes next may start with
    /// white space, which is not for this one to take.
    #[inline(always)]
    pub(super) fn ends(&self, read: &Result<usize, Detail>, end: usize) -> bool {
        read.as_ref().is_ok_and(|next| *next == end || (*next < end && blank(&self.b[..end], *next).0 == end))
    }

    #[inline(always)]
    fn object(&mut self, i: usize, depth: u32) -> Result<usize, Detail> {
        self.depth_left = self.decoder.bounds.depth.checked_sub(depth).ok_or(Detail::TooDeep)?;
        let next = if self.decoder.wide { self.wide(i)? } else { self.narrow(i)? };
        self.count()?;
        Ok(next)
    }

    #[inline(always)]
    fn array(&mut self, start: usize) -> Result<usize, Detail> {
        if self.decoder.bounds.depth == 0 {
            return Err(Detail::TooDeep);
        }
        let (mut i, mut c) = blank(self.b, start + 1);
        if c == b']' {
            return Ok(i + 1);
        }
        loop {
            i = if c == b'{' { self.object(i, 2)? } else { self.element(i)? };
            (i, c) = blank(self.b, i);
            match c {
                b',' => (i, c) = blank(self.b, i + 1),
                b']' => return Ok(i + 1),
                _ => return Err(Detail::Unexpected),
            }
        }
    }

    /// An element of the array that is not an object.
    #[cold]
    fn element(&mut self, start: usize) -> Result<usize, Detail> {
        self.depth_left = self.decoder.bounds.depth - 1;
        let (_, end) = self.other(start)?;
        let rejection = self.rejection(self.item, Fault::new(Detail::ElementType, start), start, end);
        self.out.rejected.push(rejection);
        self.item += 1;
        self.count()?;
        Ok(end)
    }

    #[inline(always)]
    pub(super) fn count(&self) -> Result<(), Detail> {
        if i64::from(self.item) > i64::from(self.decoder.bounds.readings_per_envelope) {
            return Err(Detail::TooMany);
        }
        Ok(())
    }

    /// Where the object that starts at `start` ends, if it has no members.
    #[inline(always)]
    pub(super) fn empty(&self, start: usize) -> Option<usize> {
        if peek(self.b, start + 1) == b'"' {
            return None;
        }
        let (i, c) = blank(self.b, start + 1);
        (c == b'}').then_some(i)
    }

    /// Takes device and time from the envelope's properties, where they are candidates.
    #[inline(never)]
    pub(super) fn properties(&mut self, properties: &[Option<&str>]) {
        self.device = Candidate::none(0, Detail::DeviceAbsent);
        self.time = Candidate::none(0, Detail::TimeAbsent);
        for (rank, at) in &self.decoder.device_properties {
            if let Some(Some(name)) = properties.get(*at) {
                let id = self.decoder.ids.property(self.vocabulary, &mut self.out.fresh, name);
                self.device.offer(*rank, 0, id.map_err(unfit_device));
                break;
            }
        }
        for (rank, at) in &self.decoder.time_properties {
            if let Some(Some(text)) = properties.get(*at) {
                let us = time::parse(text.as_bytes(), self.decoder.time_format);
                self.time.offer(*rank, 0, us.ok_or(Detail::TimeForm));
                break;
            }
        }
    }

    pub(super) fn rejection(&self, item: i32, fault: Fault, start: usize, end: usize) -> Rejection {
        let detail = fault.detail();
        Rejection {
            envelope: self.envelope,
            item,
            reason: detail.reason(),
            // What the properties lack or give is met where the object starts.
            at: (fault.at().max(start) - self.origin) as u32,
            start: (start - self.origin) as u32,
            end: (end - self.origin) as u32,
            device: None,
            metric: None,
            event_time: None,
            detail: detail.text(),
        }
    }

    #[cold]
    pub(super) fn reject_object(
        &mut self,
        worst: Fault,
        start: usize,
        end: usize,
        device: &Candidate<u32>,
        time: &Candidate<i64>,
        metric: Option<u32>,
    ) {
        let rejection = self.rejection(self.item, worst, start, end);
        self.out.rejected.push(Rejection {
            device: (device.fault == Fault::NONE).then_some(device.value),
            metric,
            event_time: (time.fault == Fault::NONE).then_some(time.value),
            ..rejection
        });
    }

    /// Goes over a body that failed once more.
    #[cold]
    fn reject_envelope(&mut self, met: Detail, body: &[u8]) {
        let (detail, at) = match met {
            Detail::TooLarge | Detail::Empty => (met, 0),
            _ => self.explain(met, body),
        };
        let rejection = self.rejection(-1, Fault::new(detail, self.origin + at), self.origin, self.origin + body.len());
        self.out.rejected.push(rejection);
    }

    /// The first of the reasons that apply to a body, or to one of its lines, and its place.
    pub(super) fn explain(&mut self, met: Detail, body: &[u8]) -> (Detail, usize) {
        if let Err(error) = std::str::from_utf8(body) {
            return (Detail::Encoding, error.valid_up_to());
        }
        if self.has_lines(body) {
            debug_assert!(met == Detail::TooMany, "{met:?} in a body of lines");
            return (met, blank(body, 0).0);
        }
        let nesting = &mut self.decoder.nesting;
        if let Err(failure) = walk::document(body, u32::MAX, nesting) {
            return failure;
        }
        if let Err(failure) = walk::document(body, self.decoder.bounds.depth, nesting) {
            return failure;
        }
        debug_assert!(matches!(met, Detail::TooMany | Detail::DocumentType), "{met:?} in a sound document");
        (met, blank(body, 0).0)
    }
}

/// The span of all bodies if it is UTF-8. A document starts and ends with ASCII, so that each one inside is UTF-8 too;
/// bodies that are no documents are looked at one by one.
fn valid_span(envelopes: &Envelopes<'_>) -> Option<(usize, usize)> {
    let first = usize::try_from(*envelopes.offsets.first()?).ok()?;
    let last = usize::try_from(*envelopes.offsets.last()?).ok()?;
    std::str::from_utf8(envelopes.bodies.get(first..last)?).is_ok().then_some((first, last))
}

fn bounds(bodies: &[u8], offsets: &[i64]) -> (usize, usize) {
    let end = usize::try_from(offsets[1]).unwrap_or(usize::MAX);
    match usize::try_from(offsets[0]) {
        Ok(start) if start <= end && end <= bodies.len() => (start, end),
        _ => (0, 0),
    }
}
