//! The keys of objects: what each one stands for, and a guess at which comes next.
//!
//! Senders repeat themselves, so that the key which stood at a place of the last object mostly stands there again. Such
//! a guess is confirmed with two masked comparisons of 8 bytes. It is a cache and nothing else: a key that was not
//! guessed right is looked up, and both ways give the same role.

use super::reason::Detail;
use super::scan::{Text, string, unescape};
use crate::dictionary::Payload;
use crate::names::{Names, load8};

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
    /// Number of the key, if it is one that is kept.
    pub number: Option<u32>,
    /// Where a key that is not kept stands.
    pub text: Option<Text>,
    /// Index after the closing quote.
    pub next: usize,
}

#[derive(Clone, Copy)]
struct Key {
    /// The first 16 bytes of the key with its closing quote, and which of them count.
    words: [u64; 2],
    masks: [u64; 2],
    bytes: usize,
    role: Role,
    bit: u64,
}

impl Key {
    fn new(name: &str, role: Role, bit: u64) -> Self {
        let (mut bytes, mut mask) = ([0; 16], [0; 16]);
        for (at, c) in name.bytes().chain([b'"']).take(16).enumerate() {
            (bytes[at], mask[at]) = (c, 0xff);
        }
        let words = |b: &[u8]| [load8(b, 0), load8(b, 8)];
        Key { words: words(&bytes), masks: words(&mask), bytes: name.len(), role, bit }
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
        let mut keys = Keys { names: Names::new(), kept: Vec::new(), fixed, guesses: [0; PLACES], other };
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

    /// Reads the key at `i`, after its opening quote; `place` is its number within the object.
    #[inline(always)]
    pub(super) fn read(&mut self, b: &[u8], i: usize, place: usize, unescaped: &mut String) -> Result<Found, Detail> {
        let number = self.guesses[place % PLACES];
        if let Some(key) = self.kept.get(number as usize) {
            let wrong =
                ((load8(b, i) ^ key.words[0]) & key.masks[0]) | ((load8(b, i + 8) ^ key.words[1]) & key.masks[1]);
            if wrong == 0 && (key.bytes < 16 || self.rest_is(b, i, number)) {
                return Ok(Found {
                    role: key.role,
                    bit: key.bit,
                    number: Some(number),
                    text: None,
                    next: i + key.bytes + 1,
                });
            }
        }
        self.look_up(b, i, place, unescaped)
    }

    fn rest_is(&self, b: &[u8], i: usize, number: u32) -> bool {
        let rest = &self.name(number).as_bytes()[16..];
        b.get(i + 16..).and_then(|b| b.strip_prefix(rest)).is_some_and(|b| b.first() == Some(&b'"'))
    }

    #[inline(never)]
    fn look_up(&mut self, b: &[u8], i: usize, place: usize, unescaped: &mut String) -> Result<Found, Detail> {
        let text = string(b, i)?;
        let mut number = if text.escaped {
            unescape(b, &text, unescaped);
            self.names.get(unescaped)
        } else {
            self.names.find(b, i, text.len())
        };
        if number.is_none() && !text.escaped && self.kept.len() < self.fixed.len() + LEARNED_MAX {
            number = std::str::from_utf8(&b[i..text.end]).ok().map(|name| self.keep(name, self.other));
        }
        if let (Some(number), false) = (number, text.escaped) {
            self.guesses[place % PLACES] = number;
        }
        let key = number.and_then(|number| self.kept.get(number as usize));
        let (role, bit) = key.map_or((self.other, 0), |key| (key.role, key.bit));
        Ok(Found { role, bit, number, text: Some(text), next: text.next() })
    }
}
