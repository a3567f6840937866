//! A data file's rows as Parquet, from the columns as they were sorted and digested: no more of the format than the
//! lake's tables need, and no encoding that a reader of today cannot take (Spark's has no `BYTE_STREAM_SPLIT`).
//!
//! What is known of a column already saves most of the work: one value for all rows is written once, names are a
//! dictionary as they come. Numbers are written whichever way takes less on a sample of each page.

mod bits;
mod names;
mod pages;
mod thrift;

pub use pages::Compress;

use crate::ledger::{Column as Leaf, Form, Nulls, Values};
use crate::schema::{Column, LOCATORS, Type};
use pages::{Chunk, Rows, Way};
use std::ops::Range;
use thrift::{BINARY, I32, STRUCT, Thrift, number, string};

const MAGIC: &[u8; 4] = b"PAR1";
const ROW_GROUP_ROWS: usize = 1_048_576;
const ZSTD: i32 = 6;
/// Longer texts would swell the footer, and readers skip no files by them.
const STATISTICS_BYTES: usize = 64;

/// A file with those rows and their locators: `columns` are each a column of the table with its rows.
pub fn file(columns: &[(Column, Leaf<'_>)], rows: usize, batch: &[u8; 16], mut compress: Compress<'_>) -> Vec<u8> {
    let numbers: Vec<i32> = (0..rows as i32).collect();
    let located = Leaf {
        form: Form::Bytes,
        values: Values::Bytes { ends: &[0, 16], bytes: batch },
        nulls: Nulls::None,
        constant: true,
    };
    let numbered = Leaf { form: Form::IntegerSteps, values: Values::Int32(&numbers), constant: false, ..located };
    let columns = [columns, &[(LOCATORS[0], located), (LOCATORS[1], numbered)]].concat();
    let mut out = MAGIC.to_vec();
    let groups: Vec<Vec<u8>> = (0..rows)
        .step_by(ROW_GROUP_ROWS)
        .map(|from| group(&columns, from..rows.min(from + ROW_GROUP_ROWS), &mut compress, &mut out))
        .collect();
    let footer = Thrift::of(|footer| {
        footer.i32(1, 2);
        footer.list(2, STRUCT, &schema(&columns));
        footer.i64(3, rows as i64);
        footer.list(4, STRUCT, &groups);
        footer.binary(6, concat!("alumicatalyst version ", env!("CARGO_PKG_VERSION")).as_bytes());
        // Every column's statistics go by the order of its type.
        footer.list(7, STRUCT, &vec![Thrift::of(|order| order.structure(1, |_| ())); columns.len()]);
    });
    out.extend_from_slice(&footer);
    out.extend_from_slice(&(footer.len() as u32).to_le_bytes());
    out.extend_from_slice(MAGIC);
    out
}

fn group(
    columns: &[(Column, Leaf<'_>)],
    range: Range<usize>,
    compress: &mut Compress<'_>,
    out: &mut Vec<u8>,
) -> Vec<u8> {
    let (start, rows) = (out.len(), range.len());
    let mut uncompressed = 0;
    let mut chunks = Vec::new();
    for (column, leaf) in columns {
        let mut chunk = Chunk::new(compress);
        let rows = Rows { range: range.clone(), nulls: leaf.nulls, nullable: column.nullable };
        fill(&mut chunk, column, leaf, &rows);
        uncompressed += chunk.uncompressed;
        chunks.push(described(chunk, column, &rows, out));
    }
    Thrift::of(|group| {
        group.list(1, STRUCT, &chunks);
        group.i64(2, uncompressed as i64);
        group.i64(3, rows as i64);
        group.i64(5, start as i64);
        group.i64(6, (out.len() - start) as i64);
    })
}

fn fill(chunk: &mut Chunk<'_, '_>, column: &Column, leaf: &Leaf<'_>, rows: &Rows<'_>) {
    let way = way(column, leaf.form);
    match leaf.values {
        Values::Int16(values) => {
            let wide: Vec<i32> = values.iter().map(|value| i32::from(*value)).collect();
            numbers(chunk, rows, &wide, way, leaf.constant);
        }
        Values::Int32(values) => numbers(chunk, rows, values, way, leaf.constant),
        Values::Int64(values) => numbers(chunk, rows, values, way, leaf.constant),
        Values::Float32(values) => numbers(chunk, rows, values, way, leaf.constant),
        Values::Float64(values) => numbers(chunk, rows, values, way, leaf.constant),
        Values::Bool(values) => chunk.bools(rows, values),
        Values::Coded { codes, names } if leaf.constant => {
            let name = codes.first().and_then(|code| names.get(*code as usize));
            chunk.only_text(rows, name.map_or(&[], |name| name.as_bytes()));
        }
        Values::Coded { codes, names } => chunk.coded(rows, codes, names),
        Values::Bytes { bytes, .. } if leaf.constant => chunk.only_text(rows, bytes),
        Values::Bytes { ends, bytes } => chunk.texts(rows, ends, bytes),
    }
}

fn numbers<T: bits::Number>(chunk: &mut Chunk<'_, '_>, rows: &Rows<'_>, values: &[T], way: Way, constant: bool) {
    if constant { chunk.only_number(rows, values[0]) } else { chunk.numbers(rows, values, way) }
}

/// Row numbers, and what a batch counts, rise by steps; a time of arrival is that of many readings, and the same times
/// come again in every series, which compression finds where they stand as they are.
fn way(column: &Column, form: Form) -> Way {
    match form {
        Form::IntegerSteps => Way::Steps,
        Form::TimeSteps if column.name != "enqueued_time" => Way::StepsOrFew,
        _ => Way::PlainOrFew,
    }
}

/// Writes the pages of a column behind what is there, and returns its entry in the footer.
fn described(chunk: Chunk<'_, '_>, column: &Column, rows: &Rows<'_>, out: &mut Vec<u8>) -> Vec<u8> {
    let start = out.len();
    let nulls = rows.range.len() - rows.values();
    let (uncompressed, encodings) = (chunk.uncompressed, chunk.encodings.clone());
    let extremes = chunk.least.clone().zip(chunk.greatest.clone());
    let (pages, dictionary) = chunk.into_bytes();
    out.extend_from_slice(&pages);
    Thrift::of(|entry| {
        entry.i64(2, 0);
        entry.structure(3, |about| {
            about.i32(1, physical(column.kind));
            about.list(2, I32, &encodings.iter().copied().map(number).collect::<Vec<_>>());
            about.list(3, BINARY, &[string(column.name)]);
            about.i32(4, ZSTD);
            about.i64(5, rows.range.len() as i64);
            about.i64(6, uncompressed as i64);
            about.i64(7, pages.len() as i64);
            about.i64(9, (start + dictionary) as i64);
            if dictionary > 0 {
                about.i64(11, start as i64);
            }
            if LOCATORS.iter().all(|locator| locator.name != column.name) {
                about.structure(12, |found| {
                    found.i64(3, nulls as i64);
                    if let Some((least, greatest)) = &extremes
                        && least.len().max(greatest.len()) <= STATISTICS_BYTES
                        && column.kind != Type::Binary
                    {
                        found.binary(5, greatest);
                        found.binary(6, least);
                    }
                });
            }
        });
    })
}

/// The types of the columns, after that of a row.
fn schema(columns: &[(Column, Leaf<'_>)]) -> Vec<Vec<u8>> {
    let root = Thrift::of(|element| {
        element.binary(4, b"schema");
        element.i32(5, columns.len() as i32);
    });
    let of = |column: &Column| {
        Thrift::of(|element| {
            element.i32(1, physical(column.kind));
            element.i32(3, i32::from(column.nullable));
            element.binary(4, column.name.as_bytes());
            match column.kind {
                Type::Text | Type::PlainText => {
                    element.i32(6, 0);
                    element.structure(10, |logical| logical.structure(1, |_| ()));
                }
                Type::Time => {
                    element.i32(6, 10);
                    element.structure(10, |logical| {
                        logical.structure(8, |time| {
                            time.bool(1, true);
                            time.structure(2, |unit| unit.structure(2, |_| ()));
                        });
                    });
                }
                Type::Int16 => {
                    element.i32(6, 16);
                    element.structure(10, |logical| {
                        logical.structure(10, |integer| {
                            integer.byte(1, 16);
                            integer.bool(2, true);
                        });
                    });
                }
                _ => (),
            }
        })
    };
    std::iter::once(root).chain(columns.iter().map(|(column, _)| of(column))).collect()
}

fn physical(kind: Type) -> i32 {
    match kind {
        Type::Bool => 0,
        Type::Int16 | Type::Int32 | Type::Date => 1,
        Type::Int64 | Type::Time => 2,
        Type::Float32 => 4,
        Type::Float64 => 5,
        Type::Text | Type::PlainText | Type::Binary | Type::LargeBinary | Type::Properties => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_bodies_are_small_enough_to_be_read_at_once() {
        let body = [7_u8; 3_000];
        let (ends, bytes): (Vec<i32>, Vec<u8>) = ((0..=2_000).map(|row| row * 3_000).collect(), body.repeat(2_000));
        let column = Column { name: "body", kind: Type::Binary, nullable: false };
        let values = Values::Bytes { ends: &ends, bytes: &bytes };
        let leaf = Leaf { form: Form::Bytes, values, nulls: Nulls::None, constant: false };
        let mut pages = Vec::new();
        let mut compress = |page: &[u8]| {
            pages.push(page.len());
            page.to_vec()
        };
        let file = file(&[(column, leaf)], 2_000, &[1; 16], &mut compress);
        assert_eq!((&file[..4], &file[file.len() - 4..]), (&MAGIC[..], &MAGIC[..]));
        assert_eq!(pages.iter().filter(|bytes| **bytes > 1 << 18).count(), 6);
        assert!(pages.iter().all(|bytes| *bytes < (1 << 20) + 3_010), "{pages:?}");
    }
}
