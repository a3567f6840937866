//! Typed reading of a parsed TOML document: every access that fails is a problem with its line, key and value.

use super::duration;
use super::problem::{Log, written};
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) key: String,
    pub(super) at: usize,
    value: &'a DeValue<'a>,
}

/// A table, its dotted key and where it starts.
#[derive(Clone)]
pub(super) struct Section<'a> {
    pub(super) key: String,
    pub(super) at: usize,
    entries: &'a DeTable<'a>,
}

fn joined(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { written(key) } else { format!("{prefix}.{}", written(key)) }
}

impl<'a> Section<'a> {
    pub(super) fn root(entries: &'a DeTable<'a>) -> Self {
        Self { key: String::new(), at: 0, entries }
    }

    fn node(&self, key: &Spanned<DeString<'a>>, value: &'a Spanned<DeValue<'a>>) -> Node<'a> {
        Node { key: joined(&self.key, key.get_ref()), at: key.span().start, value: value.get_ref() }
    }

    /// Own name and value of every member.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        self.entries.iter().map(|(key, value)| (key.get_ref().as_ref(), self.node(key, value)))
    }

    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        self.entries.get_key_value(name).map(|(key, value)| self.node(key, value))
    }

    /// The member, or a problem that names what is missing.
    pub(super) fn need(&self, log: &mut Log, name: &str, allowed: &str) -> Option<Node<'a>> {
        let node = self.get(name);
        if node.is_none() {
            log.add(Some(self.at), &joined(&self.key, name), "", format!("missing; allowed: {allowed}"));
        }
        node
    }

    /// The table of that name, where there is one.
    pub(super) fn section(&self, log: &mut Log, name: &str) -> Option<Section<'a>> {
        self.get(name).and_then(|node| node.table(log))
    }

    /// A problem for every member that is not among the allowed.
    pub(super) fn only(&self, log: &mut Log, allowed: &[&str]) {
        for (name, node) in self.members().filter(|(name, _)| !allowed.contains(name)) {
            node.unknown_key(log, name, allowed);
        }
    }

    /// Position of the longest part of the path that is written.
    pub(super) fn locate(&self, path: &[String]) -> usize {
        let Some(node) = path.first().and_then(|name| self.get(name)) else { return self.at };
        match node.value {
            DeValue::Table(entries) => Section { key: String::new(), at: node.at, entries }.locate(&path[1..]),
            _ => node.at,
        }
    }
}

impl<'a> Node<'a> {
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn problem(&self, log: &mut Log, message: impl Into<String>) {
        log.add(Some(self.at), &self.key, &self.shown(), message);
    }

    pub(super) fn unknown_key(&self, log: &mut Log, name: &str, allowed: &[&str]) {
        let guess = log.guess(name, allowed.iter().copied());
        self.problem(log, format!("unknown key{guess}; allowed: {}", allowed.join(", ")));
    }

    /// The value roughly as written.
    pub(super) fn shown(&self) -> String {
        let mut shown = String::new();
        show(self.value, &mut shown);
        shown
    }

    pub(super) fn table(&self, log: &mut Log) -> Option<Section<'a>> {
        match self.value {
            DeValue::Table(entries) => Some(Section { key: self.key.clone(), at: self.at, entries }),
            _ => self.wrong(log, "a table"),
        }
    }

    /// Tables of an array of tables.
    pub(super) fn tables(&self, log: &mut Log) -> Option<Vec<Section<'a>>> {
        let DeValue::Array(items) = self.value else { return self.wrong(log, "tables, each under [[...]]") };
        let item = |(index, item): (usize, &'a Spanned<DeValue<'a>>)| {
            let node = Node { key: format!("{}[{index}]", self.key), at: item.span().start, value: item.get_ref() };
            node.table(log)
        };
        items.iter().enumerate().map(item).collect()
    }

    pub(super) fn text(&self, log: &mut Log) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.wrong(log, "text in quotes"),
        }
    }

    /// One text or a list of them.
    pub(super) fn texts(&self, log: &mut Log) -> Option<Vec<&'a str>> {
        match self.value {
            DeValue::String(text) => Some(vec![text.as_ref()]),
            _ => self.list(log),
        }
    }

    pub(super) fn list(&self, log: &mut Log) -> Option<Vec<&'a str>> {
        let texts = match self.value {
            DeValue::Array(items) => items.iter().map(|item| item.get_ref().as_str()).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        texts.or_else(|| self.wrong(log, "a list of texts, such as [\"a\", \"b\"]"))
    }

    /// One of the words, by index.
    pub(super) fn word(&self, log: &mut Log, words: &[&str]) -> Option<usize> {
        let found = self.value.as_str().and_then(|text| words.iter().position(|&word| word == text));
        if found.is_none() {
            let guess = self.value.as_str().map_or_else(String::new, |text| log.guess(text, words.iter().copied()));
            self.problem(log, format!("not allowed{guess}; allowed: {}", words.join(", ")));
        }
        found
    }

    /// A finite number.
    pub(super) fn number(&self, log: &mut Log) -> Option<f64> {
        match finite(self.value) {
            Some(number) => Some(number),
            None => self.wrong(log, "a finite number"),
        }
    }

    /// Two finite numbers.
    pub(super) fn pair(&self, log: &mut Log) -> Option<[f64; 2]> {
        let pair = match self.value {
            DeValue::Array(items) => match items.iter().map(Spanned::get_ref).collect::<Vec<_>>()[..] {
                [low, high] => finite(low).zip(finite(high)),
                _ => None,
            },
            _ => None,
        };
        match pair {
            Some((low, high)) => Some([low, high]),
            None => self.wrong(log, "two finite numbers, such as [0, 100]"),
        }
    }

    pub(super) fn whole(&self, log: &mut Log, allowed: RangeInclusive<i64>) -> Option<i64> {
        match whole(self.value).filter(|number| allowed.contains(number)) {
            Some(number) => Some(number),
            None => self.wrong(log, &format!("a whole number from {} to {}", allowed.start(), allowed.end())),
        }
    }

    pub(super) fn duration_us(&self, log: &mut Log) -> Option<i64> {
        let duration_us = self.value.as_str().and_then(duration::parse);
        if duration_us.is_none() {
            self.problem(log, format!("not a duration; {}", duration::ALLOWED));
        }
        duration_us
    }

    fn wrong<T>(&self, log: &mut Log, allowed: &str) -> Option<T> {
        self.problem(log, format!("not allowed; allowed: {allowed}"));
        None
    }
}

fn whole(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn finite(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Integer(_) => whole(value)? as f64,
        DeValue::Float(float) => float.as_str().parse::<f64>().ok()?,
        _ => return None,
    };
    // Adding zero turns -0.0 into 0.0, so that equal dictionaries have equal digests.
    number.is_finite().then_some(number + 0.0)
}

/// Enough of a value to recognise it; what is nested or long is cut, so the work is bounded.
fn show(value: &DeValue<'_>, out: &mut String) {
    match value {
        DeValue::String(text) => {
            let start: String = text.chars().take(100).collect();
            let _ = write!(out, "{start:?}");
        }
        DeValue::Integer(integer) => out.push_str(integer.as_str().get(..100).unwrap_or(integer.as_str())),
        DeValue::Float(float) => out.push_str(float.as_str().get(..100).unwrap_or(float.as_str())),
        DeValue::Boolean(boolean) => out.push_str(if *boolean { "true" } else { "false" }),
        DeValue::Datetime(time) => {
            let _ = write!(out, "{time}");
        }
        DeValue::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().take(8).enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                match item.get_ref() {
                    DeValue::Array(_) => out.push_str("[...]"),
                    item => show(item, out),
                }
            }
            out.push_str(if items.len() > 8 { ", ...]" } else { "]" });
        }
        DeValue::Table(_) => out.push_str("{...}"),
    }
}
