//! Cross-crate tests and the benchmark scenarios. Nothing here ships.
//!
//! [`mod@bench`] is the small harness that `benches/scenarios` runs on: it measures a subject and its floor in turns and judges their ratio.

#![forbid(unsafe_code)]

pub mod bench;
