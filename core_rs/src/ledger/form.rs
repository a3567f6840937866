//! The canonical form that each column of a table has within a leaf, and the schema text that says so.

use crate::schema::{Column, Type, columns, stored};
use sha2::{Digest, Sha256};

/// How a column's values stand in a leaf. Nulls are marked beside them; a null's own value is zero or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Microseconds since 1970 as i64.
    Time,
    /// Microseconds since 1970, each as its difference to the row before.
    TimeSteps,
    /// Every integer as i64.
    Integer,
    /// Every integer, each as its difference to the row before.
    IntegerSteps,
    /// Integers in maximal runs.
    Code,
    /// f64; a negative zero counts as zero.
    Float,
    /// f64 in maximal runs.
    FloatRuns,
    /// One byte.
    Bool,
    /// UTF-8 as it is, in maximal runs.
    Text,
    /// Bytes in maximal runs.
    Bytes,
}

impl Form {
    /// The name in a schema text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "ts_us",
            Self::TimeSteps => "tsd",
            Self::Integer => "i64",
            Self::IntegerSteps => "i64d",
            Self::Code => "code",
            Self::Float => "f64",
            Self::FloatRuns => "f64r",
            Self::Bool => "bool",
            Self::Text => "str",
            Self::Bytes => "bytes",
        }
    }
}

/// Columns that hold the same number nearly everywhere.
const CODES: [&str; 3] = ["quality", "windows_missed", "lateness_us"];

/// The form of a column. Rows are sorted by series and time, so that most of them differ little from the one before.
pub fn form(column: &Column) -> Form {
    match column.kind {
        Type::Int16 | Type::Int32 | Type::Int64 if CODES.contains(&column.name) => Form::Code,
        Type::Int16 | Type::Int32 | Type::Int64 => Form::IntegerSteps,
        Type::Float32 => Form::FloatRuns,
        Type::Float64 => Form::Float,
        Type::Bool => Form::Bool,
        Type::Time | Type::Date => Form::TimeSteps,
        Type::Text | Type::PlainText | Type::Properties => Form::Text,
        Type::Binary | Type::LargeBinary => Form::Bytes,
    }
}

/// What the leaves of a stored table hold, one line for each column; its hash is in every leaf. None for a table that is
/// not stored.
///
/// The date is no part of it, as it follows from the rows, and neither are the locators, which say where a row is.
pub fn schema_text(table: &str) -> Option<String> {
    stored(table)?;
    let mut text = String::from("dtl1/schema\n");
    for column in columns(table)? {
        text.extend([column.name, " ", form(&column).name(), "\n"]);
    }
    Some(text)
}

/// The hash of a schema text.
pub(super) fn schema_id(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}
