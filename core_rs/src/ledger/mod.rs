//! What the ledger is made of: digests of rows that survive every rewrite of the files they are in (LEDGER.md).
//!
//! A data file's rows are hashed 64 to a leaf in a canonical form, and the leaves are a Merkle tree of the file's own. Its
//! root goes into the lake's commit, and from there into the log. A reading is then proven by the at most 64 rows of its
//! leaf and a few hashes, whatever compression, types or neighbours a later file gives it.

mod form;
pub mod merkle;
pub mod order;
mod rows;

pub use form::{Form, form, schema_text};
pub use rows::{Column, LEAF_ROWS, Leaves, Nulls, Values};
