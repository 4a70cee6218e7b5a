//! Whole pipelines on real records, from file to file: what came out, word for word.
//!
//! `UPDATE_GOLDEN=1 cargo test -p etl-tests --test end_to_end` writes the golden files anew.

mod documents;
mod guests;
mod stages;
mod support;
