//! Calls through the real engine: both ABIs, batches, failures and what they cost the others.

#[path = "../common/mod.rs"]
mod common;

mod batches;
mod isolation;
mod keeping;
mod limits;
mod logging;
mod starting;
mod stopping;
