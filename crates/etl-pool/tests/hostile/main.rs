//! Hostile and broken guests, one small source each, all through the same pool: each costs its own record at the most, and the next record
//! is served.

#[path = "../common/mod.rs"]
mod common;

mod attack;
mod bulk;
mod caps;
mod frames;
mod memory;
mod pointers;
mod pools;
mod stack;
mod stopping;
