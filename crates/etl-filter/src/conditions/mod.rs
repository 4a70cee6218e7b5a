//! Conditions on records: headers, JSON payload fields, size and age.
mod builder;
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
mod test;

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
