//! The exact core of `AlumiCatalyst`. Bytes, times and state are arguments; no I/O, clock, thread or Python is here.
//!
//! ```text
//! envelopes -> decode -> check -> order (watermark per series) -> score -> windows and statistics -> alarms
//!                                                                                    one Output per batch
//! ```
//!
//! [`partition::Partition`] is the only orchestration: it owns the state of one source partition, and what it emits is a
//! function of that partition's log alone (I2), bit for bit the same however the log is cut into batches (I4).

pub mod alarm;
pub mod check;
pub mod decode;
pub mod dictionary;
pub mod error;
pub mod kernel;
pub mod ledger;
pub mod limits;
pub mod names;
pub mod output;
pub mod partition;
pub mod schema;
pub mod score;
pub mod series;
pub mod snapshot;
pub mod stats;
pub mod time;
pub mod window;
