//! The rows of a data file, from Python: sorted, located and digested, and the leaves that a proof is made of.

use crate::door::run;
use crate::gathered::join;
use crate::joined::Joined;
use crate::schema::fields;
use alumicatalyst_core::error::Error;
use alumicatalyst_core::ledger::{Column as LeafColumn, LEAF_ROWS, Leaves, form, merkle, order, schema_text};
use alumicatalyst_core::parquet;
use alumicatalyst_core::schema::{Column, LOCATORS, columns, order as sorted_by};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, BinaryArray, DictionaryArray, Int32Array, RecordBatch};
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use arrow_schema::{Field, Schema};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Arc;
use std::time::Instant;

/// More takes several times the work for a few hundredths of the size (measured); compaction is the time for that.
const COMPRESSION_LEVEL: i32 = 1;

/// A table as its leaves see it.
struct Shape {
    columns: Vec<Column>,
    schema_text: String,
}

impl Shape {
    fn of(table: &str) -> PyResult<Self> {
        let text = schema_text(table);
        text.zip(columns(table)).map(|(schema_text, columns)| Self { columns, schema_text }).ok_or_else(|| {
            PyValueError::new_err(format!("couldn't digest rows of {table:?}; name a table of the lake"))
        })
    }

    /// The columns in the order of the file.
    fn sorted(&self, table: &str, batches: &[RecordBatch], rows: usize) -> Result<Vec<Joined>, Error> {
        let Some((series, time)) = sorted_by(table) else { return self.join(batches) };
        // What rows are sorted by is read first, and then put in order with the others.
        let mut keys: Vec<Option<Joined>> = Vec::new();
        for column in &self.columns {
            let key = series.contains(&column.name) || column.name == time;
            keys.push(key.then(|| join(column, batches, None)).transpose()?);
        }
        let at = |name: &str| {
            let found = self.columns.iter().position(|column| column.name == name);
            found.and_then(|at| keys[at].as_ref()).expect("the core sorts by columns of the table")
        };
        let ranks: Vec<_> = series.iter().map(|name| at(name).codes().expect("series are named")).collect();
        let places = order::places(&ranks, at(time).times().expect("rows are sorted by a time"), rows);
        let places = places.as_deref();
        let columns = self.columns.iter().zip(keys);
        columns
            .map(|(column, key)| key.map_or_else(|| join(column, batches, places), |key| Ok(key.placed(places))))
            .collect()
    }

    fn join(&self, batches: &[RecordBatch]) -> Result<Vec<Joined>, Error> {
        self.columns.iter().map(|column| join(column, batches, None)).collect()
    }

    fn leaves<T>(
        &self,
        joined: &[Joined],
        rows: usize,
        batch: &[u8; 16],
        work: impl FnOnce(&mut Leaves<'_>) -> T,
    ) -> T {
        let names: Vec<Vec<&str>> = joined.iter().map(Joined::names).collect();
        let columns = self.leaf_columns(joined, &names);
        work(&mut Leaves::new(&self.schema_text, batch, &columns, rows))
    }

    fn leaf_columns<'a>(&self, joined: &'a [Joined], names: &'a [Vec<&'a str>]) -> Vec<LeafColumn<'a>> {
        let columns = joined.iter().zip(names).zip(&self.columns);
        columns.map(|((joined, names), column)| joined.leaf_column(form(column), names)).collect()
    }
}

/// What the leaves of a table hold.
#[pyfunction]
pub(crate) fn leaf_schema(table: &str) -> PyResult<String> {
    Ok(Shape::of(table)?.schema_text)
}

/// The rows of one new data file in their order, with locators, and their root.
#[pyfunction]
pub(crate) fn file_rows<'py>(
    py: Python<'py>,
    table: &str,
    batches: &Bound<'py, PyAny>,
    batch: &[u8],
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyBytes>)> {
    let (file, root) = sorted(py, table, batches, batch, |shape, joined, rows, id| {
        let root = shape.leaves(&joined, rows, id, |leaves| merkle::root(leaves.hashes()));
        (located(&shape.columns, joined, rows, id), root)
    })?;
    Ok((file.to_pyarrow(py)?, PyBytes::new(py, &root)))
}

/// A data file, and what is told of it: its rows, their root, and how long it took to sort and digest them.
type Made<'py> = (Bound<'py, PyBytes>, usize, Bound<'py, PyBytes>, f64);

/// One new data file as Parquet, its rows in their order and with locators.
#[pyfunction]
pub(crate) fn parquet_file<'py>(
    py: Python<'py>,
    table: &str,
    batches: &Bound<'py, PyAny>,
    batch: &[u8],
) -> PyResult<Made<'py>> {
    let started = Instant::now();
    let (file, rows, root, digested) = sorted(py, table, batches, batch, |shape, joined, rows, id| {
        let names: Vec<Vec<&str>> = joined.iter().map(Joined::names).collect();
        let columns = shape.leaf_columns(&joined, &names);
        let root = merkle::root(Leaves::new(&shape.schema_text, id, &columns, rows).hashes());
        let digested = started.elapsed();
        let mut zstd = zstd::bulk::Compressor::new(COMPRESSION_LEVEL).expect("a level that there is");
        let mut compress = |page: &[u8]| zstd.compress(page).expect("memory for a page");
        let columns: Vec<_> = shape.columns.iter().copied().zip(columns).collect();
        (parquet::file(&columns, rows, id, &mut compress), rows, root, digested)
    })?;
    Ok((PyBytes::new(py, &file), rows, PyBytes::new(py, &root), digested.as_secs_f64()))
}

/// Reads batches into the columns of one file, in its order, and does something with them; all without the GIL.
fn sorted<'py, T: Send>(
    py: Python<'py>,
    table: &str,
    batches: &Bound<'py, PyAny>,
    batch: &[u8],
    work: impl FnOnce(&Shape, Vec<Joined>, usize, &[u8; 16]) -> T + Send,
) -> PyResult<T> {
    let (shape, id) = (Shape::of(table)?, uuid(batch)?);
    let batches =
        batches.try_iter()?.map(|batch| RecordBatch::from_pyarrow_bound(&batch?)).collect::<PyResult<Vec<_>>>()?;
    run(py, || {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let joined = shape.sorted(table, &batches, rows)?;
        Ok(work(&shape, joined, rows, &id))
    })
}

/// The hash of every leaf of a file's rows.
#[pyfunction]
pub(crate) fn leaf_hashes<'py>(
    py: Python<'py>,
    table: &str,
    rows: &Bound<'py, PyAny>,
    batch: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let hashes = digested(py, table, rows, batch, |leaves| leaves.hashes().concat())?;
    Ok(PyBytes::new(py, &hashes))
}

/// The root over a file's rows.
#[pyfunction]
pub(crate) fn rows_root<'py>(
    py: Python<'py>,
    table: &str,
    rows: &Bound<'py, PyAny>,
    batch: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let root = digested(py, table, rows, batch, |leaves| merkle::root(leaves.hashes()))?;
    Ok(PyBytes::new(py, &root))
}

/// The bytes of one leaf.
#[pyfunction]
pub(crate) fn row_leaf<'py>(
    py: Python<'py>,
    table: &str,
    rows: &Bound<'py, PyAny>,
    batch: &[u8],
    first: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let count = rows.len()?;
    if !(1..=LEAF_ROWS).contains(&count) || !first.is_multiple_of(LEAF_ROWS as u64) {
        return Err(PyValueError::new_err(format!(
            "couldn't write a leaf: {count} rows from row {first}; give 1 to {LEAF_ROWS} from a multiple of {LEAF_ROWS}"
        )));
    }
    let leaf = digested(py, table, rows, batch, |leaves| leaves.leaf(first))?;
    Ok(PyBytes::new(py, &leaf))
}

fn digested<'py, T: Send>(
    py: Python<'py>,
    table: &str,
    rows: &Bound<'py, PyAny>,
    batch: &[u8],
    work: impl FnOnce(&mut Leaves<'_>) -> T + Send,
) -> PyResult<T> {
    let (shape, id) = (Shape::of(table)?, uuid(batch)?);
    let rows = RecordBatch::from_pyarrow_bound(rows)?;
    run(py, || {
        let (count, joined) = (rows.num_rows(), shape.join(&[rows])?);
        Ok(shape.leaves(&joined, count, &id, work))
    })
}

fn uuid(batch: &[u8]) -> PyResult<[u8; 16]> {
    batch.try_into().map_err(|_| {
        PyValueError::new_err(format!("couldn't name a batch by {} bytes; give the 16 of a UUID", batch.len()))
    })
}

/// The rows as they are written: the batch once, as the dictionary of its column.
fn located(columns: &[Column], joined: Vec<Joined>, rows: usize, batch: &[u8; 16]) -> RecordBatch {
    let batches = Arc::new(BinaryArray::from_vec(vec![batch.as_slice()]));
    let batches = DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![0; rows]), batches);
    let batches: ArrayRef = Arc::new(batches.expect("the only key is that of the only value"));
    let mut all = fields(columns).fields().to_vec();
    all.push(Arc::new(Field::new(LOCATORS[0].name, batches.data_type().clone(), LOCATORS[0].nullable)));
    all.extend(fields(&LOCATORS[1..]).fields().iter().cloned());
    let mut arrays: Vec<ArrayRef> =
        joined.into_iter().zip(&all).map(|(column, field)| column.into_array(field.data_type())).collect();
    arrays.extend([batches, Arc::new((0..rows as i32).collect::<Int32Array>()) as ArrayRef]);
    RecordBatch::try_new(Arc::new(Schema::new(all)), arrays).expect("columns of one length, in their types")
}
