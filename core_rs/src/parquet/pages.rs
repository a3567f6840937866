//! One column of a row group: its pages, compressed, and what the footer says of them.

use super::bits::{Number, indexes, plain, run, steps, width_of};
use super::names::Entries;
use super::thrift::Thrift;
use crate::ledger::Nulls;
use std::borrow::Cow;
use std::ops::Range;

/// Pages are compressed one by one: smaller ones make files larger, and the work too (measured).
const PAGE_ROWS: usize = 131_072;
/// Texts may be whole bodies: so many bytes of them fill a page.
const PAGE_BYTES: usize = 1 << 20;

/// So many values of a page's middle are compressed each way that it could be written, to see which is smallest.
const TRIAL: usize = 4_096;
/// A dictionary's entry of a number whose differences are small, compressed.
const STEP_ENTRY_BYTES: f64 = 4.0;

pub(super) const PLAIN: i32 = 0;
pub(super) const RLE: i32 = 3;
const DELTA_BINARY_PACKED: i32 = 5;
const RLE_DICTIONARY: i32 = 8;

const DATA_PAGE: i32 = 0;
const DICTIONARY_PAGE: i32 = 2;

/// Compresses a page.
pub type Compress<'a> = &'a mut dyn FnMut(&[u8]) -> Vec<u8>;

/// How the numbers of a column may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As differences.
    Steps,
    /// As differences, or by a dictionary where there are few.
    StepsOrFew,
    /// As they are, or by a dictionary.
    PlainOrFew,
}

/// The rows of a column that a row group holds.
#[derive(Clone)]
pub(super) struct Rows<'a> {
    pub(super) range: Range<usize>,
    pub(super) nulls: Nulls<'a>,
    pub(super) nullable: bool,
}

impl<'a> Rows<'a> {
    fn pages(&self) -> impl Iterator<Item = Rows<'a>> {
        let (all, each) = (self.range.clone(), self.clone());
        all.clone()
            .step_by(PAGE_ROWS)
            .map(move |from| Rows { range: from..all.end.min(from + PAGE_ROWS), ..each.clone() })
    }

    /// Whether every row has a value, none has, or some do.
    fn valid(&self) -> Valid<'a> {
        match self.nulls {
            Nulls::None => Valid::All,
            Nulls::All => Valid::None,
            Nulls::But(valid) => {
                let valid = &valid[self.range.clone()];
                if valid.contains(&false) { Valid::Some(valid) } else { Valid::All }
            }
        }
    }

    fn is_valid(&self, row: usize) -> bool {
        match self.nulls {
            Nulls::None => true,
            Nulls::All => false,
            Nulls::But(valid) => valid[row],
        }
    }

    pub(super) fn values(&self) -> usize {
        match self.valid() {
            Valid::All => self.range.len(),
            Valid::None => 0,
            Valid::Some(valid) => valid.iter().filter(|valid| **valid).count(),
        }
    }

    /// The values of rows that are not null.
    fn of<'b, T: Copy>(&self, values: &'b [T]) -> Cow<'b, [T]> {
        match self.valid() {
            Valid::All => Cow::Borrowed(&values[self.range.clone()]),
            Valid::None => Cow::Borrowed(&[]),
            Valid::Some(valid) => {
                let values = values[self.range.clone()].iter().zip(valid);
                Cow::Owned(values.filter(|(_, valid)| **valid).map(|(value, _)| *value).collect())
            }
        }
    }

    /// Which rows are null, as pages begin with it.
    fn levels(&self) -> Vec<u8> {
        if !self.nullable {
            return Vec::new();
        }
        let mut runs = Vec::new();
        match self.valid() {
            Valid::Some(valid) => {
                indexes(&valid.iter().map(|valid| u32::from(*valid)).collect::<Vec<_>>(), 1, &mut runs);
            }
            alike => run(u32::from(matches!(alike, Valid::All)), self.range.len(), 1, &mut runs),
        }
        let mut out = (runs.len() as u32).to_le_bytes().to_vec();
        out.append(&mut runs);
        out
    }
}

enum Valid<'a> {
    All,
    None,
    Some(&'a [bool]),
}

/// The pages of a column, and what is said of them.
pub(super) struct Chunk<'a, 'b> {
    compress: &'a mut Compress<'b>,
    data: Vec<u8>,
    dictionary: Vec<u8>,
    pub(super) uncompressed: usize,
    pub(super) encodings: Vec<i32>,
    pub(super) least: Option<Vec<u8>>,
    pub(super) greatest: Option<Vec<u8>>,
}

impl<'a, 'b> Chunk<'a, 'b> {
    pub(super) fn new(compress: &'a mut Compress<'b>) -> Self {
        Self {
            compress,
            data: Vec::new(),
            dictionary: Vec::new(),
            uncompressed: 0,
            encodings: vec![RLE],
            least: None,
            greatest: None,
        }
    }

    /// The bytes of all pages, and how many of them the dictionary takes.
    pub(super) fn into_bytes(self) -> (Vec<u8>, usize) {
        let Self { data, mut dictionary, .. } = self;
        let head = dictionary.len();
        dictionary.extend_from_slice(&data);
        (dictionary, head)
    }

    /// One number, in every row that has any.
    pub(super) fn only_number<T: Number>(&mut self, rows: &Rows<'_>, value: T) {
        let mut bytes = Vec::new();
        plain(&[value], &mut bytes);
        self.only(rows, &bytes, &bytes);
    }

    /// One text, in every row that has any.
    pub(super) fn only_text(&mut self, rows: &Rows<'_>, text: &[u8]) {
        let mut bytes = Vec::new();
        counted(text, &mut bytes);
        self.only(rows, &bytes, text);
    }

    fn only(&mut self, rows: &Rows<'_>, value: &[u8], extreme: &[u8]) {
        let mut body = rows.levels();
        let values = rows.values();
        if values == 0 {
            self.page(rows, PLAIN, &body);
            return;
        }
        self.write_dictionary(1, value);
        body.push(1);
        run(0, values, 1, &mut body);
        self.page(rows, RLE_DICTIONARY, &body);
        self.extremes(|out| out.extend_from_slice(extreme), |out| out.extend_from_slice(extreme));
    }

    pub(super) fn numbers<T: Number>(&mut self, rows: &Rows<'_>, values: &[T], way: Way) {
        let mut entries = Entries::new();
        let mut extremes: Option<(T, T)> = None;
        for page in rows.pages() {
            let values = page.of(values);
            if let Some(first) = values.first() {
                let (mut least, mut greatest) = extremes.unwrap_or((*first, *first));
                for value in values.iter() {
                    least = if *value < least { *value } else { least };
                    greatest = if *value > greatest { *value } else { greatest };
                }
                extremes = Some((least, greatest));
            }
            let few = if way == Way::Steps || values.is_empty() { None } else { self.few(&values, &mut entries, way) };
            let mut body = page.levels();
            let encoding = match few {
                // A page of indexes needs a dictionary.
                _ if values.is_empty() => PLAIN,
                Some(found) => {
                    write_indexes(&found, entries.values.len(), &mut body);
                    RLE_DICTIONARY
                }
                None if way == Way::PlainOrFew => {
                    plain(&values, &mut body);
                    PLAIN
                }
                None => {
                    steps(&values, &mut body);
                    DELTA_BINARY_PACKED
                }
            };
            self.page(&page, encoding, &body);
        }
        if !entries.values.is_empty() {
            let mut body = Vec::new();
            plain(&entries.values, &mut body);
            self.write_dictionary(entries.values.len(), &body);
        }
        if let Some((least, greatest)) = extremes {
            self.extremes(|out| plain(&[least], out), |out| plain(&[greatest], out));
        }
    }

    /// The indexes of a page's values, if by what is tried a dictionary takes less than the other way.
    fn few<T: Number>(&mut self, values: &[T], entries: &mut Entries<T>, way: Way) -> Option<Vec<u32>> {
        let from = (values.len() - values.len().min(TRIAL)) / 2;
        let trial = from..values.len().min(from + TRIAL);
        let mut other = Vec::new();
        let (share_max, entry) = if way == Way::PlainOrFew {
            plain(&values[trial.clone()], &mut other);
            (0.95, None)
        } else {
            steps(&values[trial.clone()], &mut other);
            (0.6, Some(STEP_ENTRY_BYTES))
        };
        let before = entries.values.len();
        let found = entries.indexes(values, share_max)?;
        let mut body = Vec::new();
        write_indexes(&found[trial.clone()], entries.values.len(), &mut body);
        let each = |chunk: &mut Self, bytes: &[u8]| (chunk.compress)(bytes).len() as f64 / trial.len().max(1) as f64;
        let (other, indexed) = (each(self, &other), each(self, &body));
        let new = (entries.values.len() - before) as f64 / values.len().max(1) as f64;
        if indexed + new * entry.unwrap_or(other) <= other {
            return Some(found);
        }
        entries.truncate(before);
        None
    }

    /// Names by their codes; `names` are distinct and in order.
    pub(super) fn coded(&mut self, rows: &Rows<'_>, codes: &[i32], names: &[&str]) {
        let mut places = vec![u32::MAX; names.len()];
        rows.of(codes).iter().for_each(|code| places[*code as usize] = 0);
        let used: Vec<&str> =
            names.iter().zip(&places).filter(|(_, place)| **place == 0).map(|(name, _)| *name).collect();
        let used_places = places.iter_mut().filter(|place| **place == 0);
        used_places.enumerate().for_each(|(at, place)| *place = at as u32);
        if used.is_empty() {
            self.page(rows, PLAIN, &rows.levels());
            return;
        }
        for page in rows.pages() {
            let found: Vec<u32> = page.of(codes).iter().map(|code| places[*code as usize]).collect();
            let mut body = page.levels();
            write_indexes(&found, used.len(), &mut body);
            self.page(&page, RLE_DICTIONARY, &body);
        }
        let mut body = Vec::new();
        for name in &used {
            counted(name.as_bytes(), &mut body);
        }
        self.write_dictionary(used.len(), &body);
        if let (Some(least), Some(greatest)) = (used.first(), used.last()) {
            self.extremes(
                |out| out.extend_from_slice(least.as_bytes()),
                |out| out.extend_from_slice(greatest.as_bytes()),
            );
        }
    }

    /// Texts as they are.
    pub(super) fn texts(&mut self, rows: &Rows<'_>, ends: &[i32], bytes: &[u8]) {
        let text = |row: usize| &bytes[ends[row] as usize..ends[row + 1] as usize];
        let mut from = rows.range.start;
        while from < rows.range.end {
            let start = ends[from] as usize;
            let fits = |row: &usize| row - from < PAGE_ROWS && ends[*row] as usize - start < PAGE_BYTES;
            let to = (from + 1..rows.range.end).find(|row| !fits(row)).unwrap_or(rows.range.end);
            let page = Rows { range: from..to, ..rows.clone() };
            let mut body = page.levels();
            for value in (from..to).filter(|row| rows.is_valid(*row)).map(text) {
                counted(value, &mut body);
                if self.least.as_deref().is_none_or(|least| value < least) {
                    self.least = Some(value.to_vec());
                }
                if self.greatest.as_deref().is_none_or(|greatest| value > greatest) {
                    self.greatest = Some(value.to_vec());
                }
            }
            self.page(&page, PLAIN, &body);
            from = to;
        }
    }

    pub(super) fn bools(&mut self, rows: &Rows<'_>, values: &[bool]) {
        for page in rows.pages() {
            let bits =
                |group: &[bool]| group.iter().enumerate().fold(0, |all, (at, value)| all | u8::from(*value) << at);
            let mut body = page.levels();
            body.extend(page.of(values).chunks(8).map(bits));
            self.page(&page, PLAIN, &body);
        }
    }

    fn extremes(&mut self, least: impl FnOnce(&mut Vec<u8>), greatest: impl FnOnce(&mut Vec<u8>)) {
        least(self.least.insert(Vec::new()));
        greatest(self.greatest.insert(Vec::new()));
    }

    /// A page whose body begins with its levels.
    fn page(&mut self, rows: &Rows<'_>, encoding: i32, body: &[u8]) {
        if !self.encodings.contains(&encoding) {
            self.encodings.push(encoding);
        }
        let mut page = self.written(DATA_PAGE, body, |out| {
            out.structure(5, |out| {
                out.i32(1, rows.range.len() as i32);
                out.i32(2, encoding);
                out.i32(3, RLE);
                out.i32(4, RLE);
            });
        });
        self.data.append(&mut page);
    }

    fn write_dictionary(&mut self, count: usize, values: &[u8]) {
        if !self.encodings.contains(&PLAIN) {
            self.encodings.push(PLAIN);
        }
        self.dictionary = self.written(DICTIONARY_PAGE, values, |out| {
            out.structure(7, |out| {
                out.i32(1, count as i32);
                out.i32(2, PLAIN);
            });
        });
    }

    fn written(&mut self, kind: i32, body: &[u8], about: impl FnOnce(&mut Thrift)) -> Vec<u8> {
        let compressed = (self.compress)(body);
        let mut page = Thrift::of(|out| {
            out.i32(1, kind);
            out.i32(2, body.len() as i32);
            out.i32(3, compressed.len() as i32);
            about(out);
        });
        self.uncompressed += page.len() + body.len();
        page.extend_from_slice(&compressed);
        page
    }
}

fn write_indexes(found: &[u32], count: usize, out: &mut Vec<u8>) {
    let width = width_of(count);
    out.push(width as u8);
    indexes(found, width, out);
}

fn counted(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}
