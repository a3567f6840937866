//! Arrow schemas from the core's own table of columns.

use alumicatalyst_core::schema::{Column, TABLES, Type, columns, stored};
use arrow_pyarrow::ToPyArrow;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;

pub(crate) fn fields(columns: &[Column]) -> Arc<Schema> {
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn field(column: &Column) -> Field {
    let kind = match column.kind {
        Type::Text => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        Type::PlainText => DataType::Utf8,
        Type::Int16 => DataType::Int16,
        Type::Int32 => DataType::Int32,
        Type::Int64 => DataType::Int64,
        Type::Float32 => DataType::Float32,
        Type::Float64 => DataType::Float64,
        Type::Bool => DataType::Boolean,
        Type::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::Date => DataType::Date32,
        Type::Binary => DataType::Binary,
        Type::LargeBinary => DataType::LargeBinary,
        Type::Properties => {
            let entry =
                Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
        }
    };
    Field::new(column.name, kind, column.nullable)
}

/// The schema of a table as the core emits it.
#[pyfunction]
pub(crate) fn schema<'py>(py: Python<'py>, table: &str) -> PyResult<Bound<'py, PyAny>> {
    let columns = columns(table).ok_or_else(|| {
        PyValueError::new_err(format!("couldn't name a table: {table:?}; there are {}", TABLES.join(", ")))
    })?;
    fields(&columns).as_ref().to_pyarrow(py)
}

/// The schema of a table as the lake stores it.
#[pyfunction]
pub(crate) fn stored_schema<'py>(py: Python<'py>, table: &str) -> PyResult<Bound<'py, PyAny>> {
    let columns =
        stored(table).ok_or_else(|| PyValueError::new_err(format!("couldn't name a table of the lake: {table:?}")))?;
    fields(&columns).as_ref().to_pyarrow(py)
}
