//! The Python extension `alumicatalyst._core`: Python objects and Arrow tables on one side, the core on the other.
//! Nothing here looks at the meaning of a value.

mod dictionary;
mod door;
mod envelopes;
mod gathered;
mod joined;
mod kernel;
mod output;
mod partition;
mod rows;
mod schema;
mod stored;
mod tables;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<dictionary::Dictionary>()?;
    module.add_class::<partition::Partition>()?;
    module.add_class::<output::Output>()?;
    module.add_class::<kernel::FixedWindows>()?;
    module.add_function(wrap_pyfunction!(schema::schema, module)?)?;
    module.add_function(wrap_pyfunction!(schema::stored_schema, module)?)?;
    module.add_function(wrap_pyfunction!(rows::file_rows, module)?)?;
    module.add_function(wrap_pyfunction!(rows::leaf_hashes, module)?)?;
    module.add_function(wrap_pyfunction!(rows::leaf_schema, module)?)?;
    module.add_function(wrap_pyfunction!(rows::row_leaf, module)?)?;
    module.add_function(wrap_pyfunction!(rows::rows_root, module)?)?;
    module.add_function(wrap_pyfunction!(partition::state_info, module)?)?;
    Ok(())
}
