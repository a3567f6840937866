//! Names to ids: of the vocabulary where it holds them, of the batch's fresh names otherwise.

use super::fresh::Fresh;
use super::keys::{Found, Keys, UNKEPT};
use super::scan::{Text, unescape};
use super::{FRESH, Vocabulary};
use crate::limits::NAME_BYTES_MAX;
use crate::names::Names;
use std::collections::BTreeMap;

const UNRESOLVED: u32 = u32::MAX;

/// Why a string is no name of a device or metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    Empty,
    Long,
}

/// Tells whether a string can name something.
pub(super) fn fit(name: &str) -> Result<&str, Unfit> {
    match name.len() {
        0 => Err(Unfit::Empty),
        1..=NAME_BYTES_MAX => Ok(name),
        _ => Err(Unfit::Long),
    }
}

/// What is remembered within a batch, so that a name is looked up as rarely as possible.
pub(super) struct Ids {
    fresh: Fresh,
    /// Names that the dictionary renames, what to, and the id of that.
    renamed: Names,
    rename_to: Vec<Box<str>>,
    of_renamed: Vec<u32>,
    /// Ids of the metrics that the kept keys of wide objects name.
    of_members: Vec<u32>,
    unescaped: String,
}

impl Ids {
    pub(super) fn new(rename: &BTreeMap<String, String>) -> Self {
        let mut renamed = Names::new();
        for from in rename.keys() {
            renamed.insert(from);
        }
        Ids {
            fresh: Fresh::default(),
            of_renamed: vec![UNRESOLVED; renamed.len()],
            renamed,
            rename_to: rename.values().map(|to| to.as_str().into()).collect(),
            of_members: Vec::new(),
            unescaped: String::new(),
        }
    }

    /// Forgets everything of the batch before.
    pub(super) fn begin(&mut self) {
        self.fresh.clear();
        self.of_renamed.fill(UNRESOLVED);
        self.of_members.clear();
    }

    /// Takes back the fresh names after the first `keep`.
    pub(super) fn forget(&mut self, fresh: &mut Vec<Box<str>>, keep: usize) {
        if fresh.len() == keep {
            return;
        }
        self.fresh.forget(fresh, keep);
        for id in self.of_renamed.iter_mut().chain(&mut self.of_members) {
            if *id >= FRESH | keep as u32 {
                *id = UNRESOLVED;
            }
        }
    }

    /// A device or metric, by its name in the payload.
    #[inline(always)]
    pub(super) fn name(
        &mut self,
        names: &Names,
        fresh: &mut Vec<Box<str>>,
        b: &[u8],
        text: &Text,
    ) -> Result<u32, Unfit> {
        if let Some(id) = find_plain(names, b, text) {
            return Ok(id);
        }
        let name = fit(plain(b, text, &mut self.unescaped))?;
        Ok(find_or_add(names, &mut self.fresh, fresh, name))
    }

    /// A metric of a narrow object.
    #[inline(always)]
    pub(super) fn metric(
        &mut self,
        names: &Names,
        fresh: &mut Vec<Box<str>>,
        b: &[u8],
        text: &Text,
    ) -> Result<u32, Unfit> {
        if !self.rename_to.is_empty() {
            let name = plain(b, text, &mut self.unescaped);
            if let Some(from) = self.renamed.get(name) {
                return Ok(self.renamed(names, fresh, from));
            }
        }
        self.name(names, fresh, b, text)
    }

    fn renamed(&mut self, names: &Names, fresh: &mut Vec<Box<str>>, from: u32) -> u32 {
        let id = &mut self.of_renamed[from as usize];
        if *id == UNRESOLVED {
            *id = find_or_add(names, &mut self.fresh, fresh, &self.rename_to[from as usize]);
        }
        *id
    }

    /// A metric of a wide object, by its key. Any string has an id here; whether it fits is asked of fresh ones only.
    #[inline(always)]
    pub(super) fn member(
        &mut self,
        names: &Names,
        fresh: &mut Vec<Box<str>>,
        b: &[u8],
        keys: &Keys,
        key: &Found,
    ) -> u32 {
        match self.of_members.get(key.number as usize) {
            Some(id) if *id != UNRESOLVED => *id,
            _ => self.member_new(names, fresh, b, keys, key),
        }
    }

    #[inline(never)]
    fn member_new(&mut self, names: &Names, fresh: &mut Vec<Box<str>>, b: &[u8], keys: &Keys, key: &Found) -> u32 {
        let name = match key.number {
            UNKEPT => plain(b, &keys.unkept, &mut self.unescaped),
            number => keys.name(number),
        };
        let id = match self.renamed.get(name) {
            Some(from) => find_or_add(names, &mut self.fresh, fresh, &self.rename_to[from as usize]),
            None => find_or_add(names, &mut self.fresh, fresh, name),
        };
        if key.number != UNKEPT {
            if self.of_members.len() <= key.number as usize {
                self.of_members.resize(keys.len(), UNRESOLVED);
            }
            self.of_members[key.number as usize] = id;
        }
        id
    }

    /// A string that stands for a value.
    pub(super) fn text(&mut self, names: &Names, fresh: &mut Vec<Box<str>>, b: &[u8], text: &Text) -> u32 {
        find_plain(names, b, text)
            .unwrap_or_else(|| find_or_add(names, &mut self.fresh, fresh, plain(b, text, &mut self.unescaped)))
    }

    /// The device that an envelope's property names.
    pub(super) fn property(
        &mut self,
        vocabulary: &Vocabulary,
        fresh: &mut Vec<Box<str>>,
        name: &str,
    ) -> Result<u32, Unfit> {
        Ok(find_or_add(&vocabulary.devices, &mut self.fresh, fresh, fit(name)?))
    }
}

/// The id of a known name that stands in the payload as it is.
#[inline(always)]
fn find_plain(names: &Names, b: &[u8], text: &Text) -> Option<u32> {
    if text.escaped { None } else { names.find(b, text.start, text.len()) }
}

/// The string itself. Only what stands beyond the end of its envelope can fail to be UTF-8; that envelope is rejected.
fn plain<'a>(b: &'a [u8], text: &Text, unescaped: &'a mut String) -> &'a str {
    if text.escaped {
        unescape(b, text, unescaped);
        return unescaped;
    }
    std::str::from_utf8(&b[text.start..text.end]).unwrap_or_default()
}

#[inline(never)]
fn find_or_add(names: &Names, fresh: &mut Fresh, stored: &mut Vec<Box<str>>, name: &str) -> u32 {
    names.get(name).unwrap_or_else(|| fresh.id(stored, name))
}
