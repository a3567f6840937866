//! Bodies with a document on each line (NDJSON): a line that is none costs its own readings, not those of its neighbours.
//!
//! A line is to its body what a body is to its batch: the fast pass may look a margin past its end, and what it finds
//! there never counts, because a document is taken only if it ends exactly where its line does.

use super::envelope::{Batch, Before, MARGIN};
use super::reason::{Detail, Fault};
use super::scan::{blank, line_end};
use super::walk;

impl Batch<'_> {
    /// Goes on with a body that its first document, which starts at `start`, does not end: with its further lines, if it
    /// has such; else the body is none.
    #[inline(never)]
    pub(super) fn lines(
        &mut self,
        first: Result<usize, Detail>,
        start: usize,
        end: usize,
        properties: &[Option<&str>],
        before: &Before,
    ) -> Result<(), Detail> {
        let body = &self.b[..end];
        match first {
            Ok(next) if next < end => {
                let further = blank(body, next).0;
                // The document has a line of its own if that ends between it and what comes next.
                if (next..further).contains(&line_end(body, start)) {
                    return self.each_line(further, end);
                }
                Err(Detail::Trailing)
            }
            Ok(_) => Err(Detail::Trailing),
            // A line that breaks a bound is a document all the same. The body is begun again, and so are its properties:
            // their device may be a name that this batch had not had before.
            Err(_) if self.has_lines(&body[self.origin..]) => {
                self.back_to(before);
                self.properties(properties);
                self.each_line(start, end)
            }
            Err(detail) => Err(detail),
        }
    }

    /// Tells whether a body consists of lines: the first that is not blank is an object or array, whole and alone on it,
    /// and another follows.
    pub(super) fn has_lines(&mut self, body: &[u8]) -> bool {
        let (start, c) = blank(body, 0);
        let end = line_end(body, start);
        matches!(c, b'{' | b'[')
            && blank(body, end).0 < body.len()
            && walk::document(&body[start..end], u32::MAX, &mut self.decoder.nesting).is_ok()
    }

    /// Reads the lines from `i` to the body's end; a failure is the whole body's.
    fn each_line(&mut self, mut i: usize, end: usize) -> Result<(), Detail> {
        let b = self.b;
        loop {
            let (start, c) = blank(b, i);
            if start >= end {
                return Ok(());
            }
            i = line_end(&b[..end], start);
            self.b = &b[..b.len().min(i + MARGIN)];
            let before = self.before();
            let read = self.document(start, c);
            if !self.ends(&read, i) {
                self.reject_line(read.err().unwrap_or(Detail::Trailing), &before, start, i)?;
            }
        }
    }

    /// Makes one item of a line, unless what is wrong with it is the whole body's.
    #[cold]
    fn reject_line(&mut self, met: Detail, before: &Before, start: usize, end: usize) -> Result<(), Detail> {
        self.back_to(before);
        let line = &self.b[start..end];
        let kept = line.iter().rposition(|c| !matches!(c, b' ' | b'\t' | b'\r')).map_or(0, |last| last + 1);
        let (detail, at) = self.explain(met, &line[..kept]);
        if matches!(detail, Detail::Encoding | Detail::TooMany) {
            return Err(detail);
        }
        let rejection = self.rejection(self.item, Fault::new(detail, start + at), start, start + kept);
        self.out.rejected.push(rejection);
        self.item += 1;
        self.count()
    }
}
