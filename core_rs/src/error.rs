//! What the core can refuse, one variant for each thing that the caller can do about it.

use crate::dictionary::Problems;
use std::fmt;

#[derive(Debug)]
pub enum Error {
    /// Mend the data dictionary.
    Dictionary(Problems),
    /// Use another state: these bytes are damaged, of another version, or belong elsewhere.
    State(String),
    /// Mend the source: this is not a batch of envelopes.
    Envelopes(String),
    /// Give other rows: these are not those of a table, or have no canonical form.
    Rows(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dictionary(problems) => problems.fmt(f),
            Self::State(what) | Self::Envelopes(what) | Self::Rows(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::Dictionary(problems)
    }
}
