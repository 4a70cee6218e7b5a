//! The etl program.
fn main() {}
