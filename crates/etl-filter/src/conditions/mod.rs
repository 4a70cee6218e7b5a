//! Conditions on records: what a header, a field of a JSON payload, the size or the age must be.
//!
//! The conditions of many modules are compiled into one [`ConditionSet`]. A *group* is what one module asks; all of its
//! conditions must hold. Equal conditions of different groups are one predicate, evaluated once a record. Evaluating writes
//! on a [`ConditionScratch`] that the caller owns, so a set can be shared by any number of threads.
//!
//! ```
//! use etl_filter::conditions::{
//!     Condition, ConditionKind, ConditionScratch, ConditionSetBuilder, Operator, RecordView,
//! };
//!
//! struct Reading {
//!     value: Vec<u8>,
//!     timestamp: i64,
//! }
//!
//! impl RecordView for Reading {
//!     fn header(&self, _name: &str) -> Option<&[u8]> {
//!         None
//!     }
//!     fn value(&self) -> &[u8] {
//!         &self.value
//!     }
//!     fn length(&self) -> usize {
//!         self.value.len()
//!     }
//!     fn timestamp(&self) -> Option<i64> {
//!         Some(self.timestamp)
//!     }
//! }
//!
//! let mut builder = ConditionSetBuilder::new();
//! let alarm = builder.add(vec![
//!     Condition::new(ConditionKind::payload("$.sensor.celsius"), Operator::GreaterThan, 90),
//!     Condition::new(ConditionKind::MessageAge, Operator::LessThan, 60_000),
//! ]);
//! let set = builder.build()?;
//!
//! let mut scratch = ConditionScratch::new();
//! let reading = Reading { value: br#"{"sensor": {"celsius": 93.5}}"#.to_vec(), timestamp: 1_000 };
//! scratch.begin_record(5_000);
//! assert!(set.evaluate(alarm, &reading, &mut scratch));
//! # Ok::<(), etl_filter::conditions::BuildError>(())
//! ```
//!
//! # What holds when
//!
//! - Numbers compare as decimals, exactly and at any length: 2^53 and 2^53 + 1 differ, `1` and `1.0` do not. (An exponent beyond
//!   2^60 is taken for that.)
//! - Strings compare by code points. A header that meets a number or a boolean is read as one.
//! - Where nothing is found, where the payload is not JSON, and where a value cannot be compared with the constant, every
//!   operator is false but `NotEquals`, which is true. `negate` inverts after that. It is [counted](ConditionCounts), and
//!   never an error.
//! - A query that selects several nodes holds if any of them satisfies: `$.tags[*] NotEquals "a"` asks for a tag that is
//!   not `a`. To ask that no tag is `a`, negate `Equals`.
//!
//! # What is read of a payload
//!
//! Nothing, unless a condition needs it: within a group, size, age and headers are asked first. Then all singular paths of
//! the group (or of all groups of a [`Selection`]) are read in one pass, which ends with the last of them. So:
//!
//! - The value at a singular path, such as `$.a.b[0]`, is the first one there. Where a name stands twice in an object, the
//!   first member is the only one.
//! - It is found if everything up to its end is well-formed JSON; what follows is not looked at. (A number or literal in a
//!   container ends at a delimiter, so none is taken from a payload that was cut off in it.) What other conditions read
//!   makes no difference.
//! - Any other query (`*`, `..`, slices, filters, several selectors, an index from the end) wants the whole payload to be
//!   one well-formed JSON value. A name selects the first member of that name, `*` and `..` see all. This path may allocate.
//!
//! Well-formed is what `serde_json` accepts, but for two limits that conditions do not have: numbers may be of any size, and
//! nesting of any depth. Reading never recurses.
//!
//! # JSONPath
//!
//! The whole of RFC 9535, filters and functions included; all 703 cases of its compliance suite pass, without exception.
//! Beyond the RFC:
//!
//! - A path has at most 4,096 bytes, 256 segments and 32 levels of brackets.
//! - An evaluation that has taken four million steps is given up, counted, and is as if nothing had been found. A step is a node that is
//!   visited or passed over, a selector or a part of a filter that is tried, or 16 bytes of text that a filter looks at: mostly some tens of
//!   milliseconds, a third of a second at the worst that was found. `$..*..*` on a hostile payload comes to it, and a filter that compares
//!   thousands of values with one another.
//! - An expression of `match` or `search` in the query is refused where `Matches` would refuse it for its size. One that it takes from the payload
//!   has at most 256 bytes and compiles to at most 128 KiB; a larger one matches nothing. What the `regex` crate knows beyond
//!   I-Regexp (`\d`, `(?i)`) is taken too.
//!
//! # Cost
//!
//! Reading is linear in the bytes up to the last wanted value. `Matches` is linear in the text; patterns have at most 4 KiB,
//! compile to at most 1 MiB, and can take at most the steps a character that [`Limits::regex_steps`](crate::Limits::regex_steps) allows topic rules by
//! default: some 3 µs a byte for the heaviest (`a[ab]{300}c` on a random text of `a` and `b`). All expressions of a set take at most 1 GiB, if
//! [`regex_bytes`](ConditionSetBuilder::regex_bytes) does not say otherwise. Once a scratch has grown to its size nothing is
//! allocated, but by queries that are not singular, whose room is given back when a large payload is done with.
mod builder;
mod compare;
mod condition;
mod error;
mod explain;
mod lexer;
mod number;
mod path;
mod reader;
mod record;
mod regex;
mod scratch;
mod set;

pub use builder::ConditionSetBuilder;
pub use condition::{Condition, ConditionKind, Operator, Value};
pub use error::{BuildError, Problem, ProblemKind};
pub use explain::{Evidence, Explained, Explanation};
pub use number::{Number, ParseNumberError};
pub use record::RecordView;
pub use scratch::{ConditionCounts, ConditionScratch};
pub use set::{ConditionSet, GroupId, Selection};

#[cfg(test)]
mod tests;
