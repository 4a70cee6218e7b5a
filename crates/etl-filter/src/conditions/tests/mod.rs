//! Tests that look inside: the path engine against its compliance suite, the readers against `serde_json`.

mod compliance;
