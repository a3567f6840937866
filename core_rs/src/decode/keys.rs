//! The keys of objects: what each one stands for, and a guess at which comes next.
//!
//! Senders repeat themselves, so that the key which stood at a place of the last object mostly stands there again. Such
//! a guess is confirmed with one masked comparison of 16 bytes. It is a cache and nothing else: a key that was not
//! guessed right is looked up, and both ways give the same role.

use super::reason::Detail;
use super::scan::{Text, blank, string, unescape};
use crate::dictionary::Payload;
use crate::names::{Names, load16};

/// Places of an object whose keys are guessed; a longer object starts over.
const PLACES: usize = 128;
/// Keys kept beyond those of the dictionary. Further ones are read without being kept.
const LEARNED_MAX: usize = 512;
/// Role keys whose repetition one machine word can tell.
const TOLD_MAX: usize = 64;

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Candidate for the device, with its rank.
    Device(u32),
    Time(u32),
    Metric,
    Value,
    Quality,
    /// A metric of a wide object.
    Member,
    Ignored,
}

/// A key as it was found in an object.
pub(super) struct Found {
    pub role: Role,
    /// One bit for each role key, none for others.
    pub bit: u64,
    /// Number of the key; `UNKEPT` if it is not one that is kept.
    pub number: u32,
    /// Index after the colon.
    pub next: usize,
}

pub(super) const UNKEPT: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Key {
    /// The first 16 bytes of the key with its quotes, after the bracket or comma before it, and which of them count: that
    /// first one does not.
    word: u128,
    mask: u128,
    bytes: usize,
    role: Role,
    bit: u64,
}

/// Bytes beside the name: what stands before it and its quotes.
const AROUND: usize = 3;

impl Key {
    fn new(name: &str, role: Role, bit: u64) -> Self {
        let (mut bytes, mut mask) = ([0; 16], [0; 16]);
        for (at, c) in (1..16).zip([b'"'].into_iter().chain(name.bytes()).chain([b'"'])) {
            (bytes[at], mask[at]) = (c, 0xff);
        }
        Key { word: u128::from_le_bytes(bytes), mask: u128::from_le_bytes(mask), bytes: name.len(), role, bit }
    }
}

pub(super) struct Keys {
    /// Every kept key, numbered; the dictionary's come first.
    names: Names,
    kept: Vec<Key>,
    fixed: Vec<(Box<str>, Role)>,
    /// The number of the key that last stood at each place.
    guesses: [u32; PLACES],
    /// The role of a key that the dictionary does not name.
    other: Role,
    /// The key read last, where it is not kept.
    pub unkept: Text,
}

impl Keys {
    pub(super) fn new(payload: &Payload) -> Self {
        let mut fixed: Vec<(Box<str>, Role)> = Vec::new();
        let members = |names: &[String]| -> Vec<(Box<str>, u32)> {
            (0..)
                .zip(names)
                .filter(|(_, name)| !name.starts_with('@'))
                .map(|(rank, name)| (name.as_str().into(), rank))
                .collect()
        };
        fixed.extend(members(&payload.device).into_iter().map(|(name, rank)| (name, Role::Device(rank))));
        fixed.extend(members(&payload.time).into_iter().map(|(name, rank)| (name, Role::Time(rank))));
        for (name, role) in
            [(&payload.metric, Role::Metric), (&payload.value, Role::Value), (&payload.quality, Role::Quality)]
        {
            fixed.extend(name.iter().map(|name| (name.as_str().into(), role)));
        }
        let other = if payload.metric.is_none() { Role::Member } else { Role::Ignored };
        fixed.extend(payload.ignore.iter().map(|name| (name.as_str().into(), Role::Ignored)));
        let mut keys =
            Keys { names: Names::new(), kept: Vec::new(), fixed, guesses: [0; PLACES], other, unkept: Text::default() };
        keys.forget();
        keys
    }

    /// Makes room where senders' keys have filled the table. Numbers of keys change with it.
    pub(super) fn refresh(&mut self) {
        if self.kept.len() >= self.fixed.len() + LEARNED_MAX {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.names = Names::new();
        self.kept.clear();
        for (name, role) in std::mem::take(&mut self.fixed) {
            // A key that the dictionary names twice keeps its first role.
            if self.names.get(&name).is_none() {
                self.keep(&name, role);
            }
            self.fixed.push((name, role));
        }
    }

    fn keep(&mut self, name: &str, role: Role) -> u32 {
        let number = self.names.insert(name);
        let told = (number as usize) < TOLD_MAX && !matches!(role, Role::Member | Role::Ignored);
        self.kept.push(Key::new(name, role, if told { 1 << number } else { 0 }));
        number
    }

    pub(super) fn name(&self, number: u32) -> &str {
        self.names.name(number)
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Reads the key after the bracket or comma at `i`, with its colon; `place` is its number within the object.
    #[inline(always)]
    pub(super) fn read(&mut self, b: &[u8], i: usize, place: usize, unescaped: &mut String) -> Result<Found, Detail> {
        match self.guess(b, i, place) {
            Some(found) => Ok(found),
            None => self.read_spaced(b, i, place, unescaped),
        }
    }

    #[inline(always)]
    fn guess(&self, b: &[u8], i: usize, place: usize) -> Option<Found> {
        let number = self.guesses[place % PLACES];
        let key = self.kept.get(number as usize)?;
        let wrong = (load16(b, i) ^ key.word) & key.mask;
        if wrong != 0 || (key.bytes + AROUND > 16 && !self.rest_is(b, i, number)) {
            return None;
        }
        let (colon, c) = blank(b, i + key.bytes + AROUND);
        (c == b':').then_some(Found { role: key.role, bit: key.bit, number, next: colon + 1 })
    }

    #[inline(never)]
    fn rest_is(&self, b: &[u8], i: usize, number: u32) -> bool {
        let name = self.name(number).as_bytes();
        let rest = b.get(i + 2..).and_then(|b| b.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(b"\""))
    }

    /// As `read`, for a key that does not follow the bracket or comma at once, or was not guessed right.
    #[inline(never)]
    fn read_spaced(&mut self, b: &[u8], i: usize, place: usize, unescaped: &mut String) -> Result<Found, Detail> {
        let (quote, c) = blank(b, i + 1);
        if c != b'"' {
            return Err(Detail::Unexpected);
        }
        if quote > i + 1
            && let Some(found) = self.guess(b, quote - 1, place)
        {
            return Ok(found);
        }
        self.look_up(b, quote + 1, place, unescaped)
    }

    fn look_up(&mut self, b: &[u8], i: usize, place: usize, unescaped: &mut String) -> Result<Found, Detail> {
        let text = string(b, i)?;
        let (colon, c) = blank(b, text.next());
        if c != b':' {
            return Err(Detail::Unexpected);
        }
        let known = if text.escaped {
            unescape(b, &text, unescaped);
            self.names.get(unescaped)
        } else {
            self.names.find(b, i, text.len())
        };
        let number = match known {
            Some(number) => number,
            None if text.escaped || self.kept.len() >= self.fixed.len() + LEARNED_MAX => {
                self.unkept = text;
                return Ok(Found { role: self.other, bit: 0, number: UNKEPT, next: colon + 1 });
            }
            // Only beyond the envelope's end can a key fail to be UTF-8.
            None => self.keep(std::str::from_utf8(&b[i..text.end]).map_err(|_| Detail::Ended)?, self.other),
        };
        self.guesses[place % PLACES] = number;
        let key = &self.kept[number as usize];
        Ok(Found { role: key.role, bit: key.bit, number, next: colon + 1 })
    }
}
