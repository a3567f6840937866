//! The rows of a data file, from Python: sorted, located and digested, and the leaves that a proof is made of.

use crate::door::run;
use crate::gathered::join;
use crate::joined::Joined;
use crate::schema::fields;
use alumicatalyst_core::error::Error;
use alumicatalyst_core::ledger::{Column as LeafColumn, LEAF_ROWS, Leaves, form, merkle, order, schema_text};
use alumicatalyst_core::schema::{Column, LOCATORS, columns, order as sorted_by};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, BinaryArray, DictionaryArray, Int32Array, RecordBatch};
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use arrow_schema::{Field, Schema};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Arc;

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
        let columns: Vec<LeafColumn<'_>> = joined
            .iter()
            .zip(&names)
            .zip(&self.columns)
            .map(|((joined, names), column)| joined.leaf_column(form(column), names))
            .collect();
        work(&mut Leaves::new(&self.schema_text, batch, &columns, rows))
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
    let shape = Shape::of(table)?;
    let id = uuid(batch)?;
    let batches =
        batches.try_iter()?.map(|batch| RecordBatch::from_pyarrow_bound(&batch?)).collect::<PyResult<Vec<_>>>()?;
    let (file, root) = run(py, || {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let joined = shape.sorted(table, &batches, rows)?;
        let root = shape.leaves(&joined, rows, &id, |leaves| merkle::root(leaves.hashes()));
        Ok((located(&shape.columns, joined, rows, &id), root))
    })?;
    Ok((file.to_pyarrow(py)?, PyBytes::new(py, &root)))
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
