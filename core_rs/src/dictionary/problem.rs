//! What is wrong with a dictionary: every problem found, each with its line, key, value and what is allowed.

use std::collections::BTreeSet;
use std::fmt;

/// Problems beyond this many are counted, not listed: a person fixes the first ones and checks again.
pub(super) const LISTED_MAX: usize = 200;

/// One thing to change in the dictionary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line of the TOML text, from 1; `None` for the compiled form.
    pub line: Option<u32>,
    /// Dotted path, as one would write it in TOML.
    pub key: String,
    /// The value as written, shortened; empty where a key is missing.
    pub value: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(out, "line {line}: ")?;
        }
        match (self.key.is_empty(), self.value.is_empty()) {
            (true, _) => write!(out, "{}", self.message),
            (false, true) => write!(out, "{}: {}", self.key, self.message),
            (false, false) => write!(out, "{} = {}: {}", self.key, self.value, self.message),
        }
    }
}

/// Everything wrong with one dictionary, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    listed: Vec<Problem>,
    omitted: usize,
}

impl Problems {
    pub(super) fn one(key: &str, value: &str, message: String) -> Self {
        let problem = Problem { line: None, key: key.to_owned(), value: value.to_owned(), message };
        Self { listed: vec![problem], omitted: 0 }
    }

    pub fn as_slice(&self) -> &[Problem] {
        &self.listed
    }

    /// How many more there are than [`Problems::as_slice`] lists.
    pub fn omitted(&self) -> usize {
        self.omitted
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.listed.iter().map(Problem::to_string);
        let more = (self.omitted > 0).then(|| format!("... and {} more", self.omitted));
        write!(out, "{}", lines.chain(more).collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Problems {}

/// Something wrong with a compiled value, before it is known where that was written.
pub(super) struct Finding {
    /// Keys from the owner of the check down to the value.
    pub(super) path: Vec<String>,
    pub(super) value: String,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(path: &[&str], value: impl fmt::Display, message: impl Into<String>) -> Self {
        let path = path.iter().map(|&key| key.to_owned()).collect();
        Self { path, value: shorten(&value.to_string()), message: message.into() }
    }
}

/// Collects problems; the same one reported twice, say by two series that share a metric, is kept once.
pub(super) struct Log {
    line_starts: Vec<usize>,
    problems: BTreeSet<Problem>,
    omitted: usize,
    guesses: usize,
}

impl Log {
    pub(super) fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { line_starts, problems: BTreeSet::new(), omitted: 0, guesses: 0 }
    }

    /// The line, from 1, of a byte of the text.
    pub(super) fn line(&self, at: usize) -> u32 {
        u32::try_from(self.line_starts.partition_point(|&start| start <= at)).unwrap_or(u32::MAX)
    }

    pub(super) fn add(&mut self, at: Option<usize>, key: &str, value: &str, message: impl Into<String>) {
        let line = at.map(|at| self.line(at));
        let problem = Problem { line, key: key.to_owned(), value: shorten(value), message: message.into() };
        if self.problems.len() < LISTED_MAX {
            self.problems.insert(problem);
        } else if !self.problems.contains(&problem) {
            self.omitted += 1;
        }
    }

    /// What may have been meant by a name, as long as anyone would read it.
    pub(super) fn guess<'a>(&mut self, name: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
        self.guesses += 1;
        if self.guesses <= LISTED_MAX { did_you_mean(name, allowed) } else { String::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn into_result<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ if self.problems.is_empty() => Err(Problems::one("", "", "not a dictionary".to_owned())),
            _ => Err(Problems { listed: self.problems.into_iter().collect(), omitted: self.omitted }),
        }
    }
}

/// At most 80 characters of a value.
fn shorten(value: &str) -> String {
    match value.char_indices().nth(77) {
        Some((end, _)) if value.chars().nth(80).is_some() => format!("{}...", &value[..end]),
        _ => value.to_owned(),
    }
}

/// A key as it is written in TOML: bare where that is possible, else quoted.
pub(super) fn written(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

/// `; did you mean "x"?` for the nearest of the names, or nothing.
pub(super) fn did_you_mean<'a>(name: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    // Longer than any name worth guessing at; it also bounds the work.
    const GUESSED_CHARS_MAX: usize = 64;
    const GUESSES_MAX: usize = 10_000;
    let length = name.chars().take(GUESSED_CHARS_MAX + 1).count();
    if length > GUESSED_CHARS_MAX {
        return String::new();
    }
    let nearest = allowed
        .into_iter()
        .take(GUESSES_MAX)
        .filter(|other| other.chars().count().abs_diff(length) <= 2)
        .map(|other| (distance(&name.to_lowercase(), &other.to_lowercase()), other))
        .min();
    match nearest {
        Some((steps, other)) if steps <= (length / 3).clamp(1, 2) => format!("; did you mean {other:?}?"),
        _ => String::new(),
    }
}

/// Optimal string alignment distance (insert, delete, replace, swap neighbours), three rows at a time.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut previous = None;
    for (row, a) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, &b) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(a != b);
            let mut best = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            if column > 0 && previous == Some(b) && right[column - 1] == a {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
        previous = Some(a);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_a_far_one_is_not() {
        assert_eq!(did_you_mean("resolutoin", ["range", "resolution"]), "; did you mean \"resolution\"?");
        assert_eq!(did_you_mean("colour", ["range", "resolution"]), "");
        assert_eq!(did_you_mean("", ["ab"]), "");
    }

    #[test]
    fn a_byte_is_found_on_its_line() {
        let log = Log::new("a\nbb\n\nc");
        assert_eq!([0, 1, 2, 4, 5, 6, 99].map(|at| log.line(at)), [1, 1, 2, 2, 3, 4, 4]);
    }

    #[test]
    fn a_long_value_is_shortened_between_characters() {
        assert_eq!(shorten(&"ø".repeat(80)), "ø".repeat(80));
        assert_eq!(shorten(&"ø".repeat(81)), format!("{}...", "ø".repeat(77)));
    }
}
