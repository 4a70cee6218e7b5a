//! Record lines: one record as one line of JSON, in files and in pipes.
//!
//! | field | is |
//! |---|---|
//! | `topic` | a string; the only field that must be there |
//! | `key` | a string or null; `key_base64` for a key that is not UTF-8 |
//! | `headers` | an object of strings; see below for what a string cannot say |
//! | `timestamp` | Unix milliseconds; absent: the record has none |
//! | `value` | any JSON: the value is its text, byte for byte; absent: the value is empty |
//! | `value_base64` | the value, where it is not JSON |
//! | `partition`, `offset` | where the record stands in its log; absent: partition 0, the number of the line from 0 |
//!
//! Headers are a list in which names repeat and values are bytes. A name with several values has a list of them, in
//! their order; a value that is not text is `{"base64": …}`:
//!
//! ```json
//! {"source": "web", "etl-path": ["a", "b"], "digest": {"base64": "3q2+7w=="}}
//! ```
//!
//! **The law**: [`decode`] of what [`encode`] wrote gives back the same record, but for two things. Headers of one name
//! stand together, where the first of them stood; their own order is kept. And an offset is a position in the log that
//! the record was read from, but what is written is another log, so it is not written; the partition is, unless it
//! is 0. From this follows which values are written as JSON: those whose text can stand in a line as it is. JSON with
//! a line break or with space around it travels as `value_base64`, unchanged, rather than as `value`, reformatted.
//!
//! Numbers are not looked at: `1e400`, `1.0` and `10000000000000000000001` stay what they are, and so do escapes.
//!
//! A field that is not in the table is an error and not skipped, because what it carried would be lost silently.

mod decode;
mod encode;
mod reader;

pub use decode::{LineError, decode};
pub use encode::encode;
pub use reader::{Line, LineReader};

#[cfg(test)]
mod tests;
