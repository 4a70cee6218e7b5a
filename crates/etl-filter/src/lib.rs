//! Many topic rules, one lookup: which of them match this topic?
//!
//! ```
//! use etl_filter::{Kind, Rule, RuleSet, TopicFilter};
//!
//! let mut builder = RuleSet::builder();
//! let orders = builder.add(TopicFilter::new(Kind::Nats, "orders.*.created"));
//! let quiet = builder.add(Rule::all([
//!     TopicFilter::new(Kind::Prefix, "orders.").case_insensitive(),
//!     TopicFilter::new(Kind::Suffix, ".test").negated(),
//! ]));
//! let rules = builder.build()?;
//!
//! let mut scratch = rules.scratch();
//! assert_eq!(rules.matches("orders.eu.created", &mut scratch), [orders, quiet]);
//! assert_eq!(rules.matches("Orders.test", &mut scratch), []);
//! # Ok::<(), etl_filter::BuildError>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "conditions")]
pub mod conditions;

mod builder;
mod dispatch;
mod engine;
mod error;
mod explain;
mod fold;
mod fold_table;
mod index;
mod limits;
#[doc(hidden)]
pub mod naive;
mod pattern;
mod planner;
mod rest;
mod rule;
mod scratch;
mod set;
mod source;
mod stats;
mod tree;
mod value;

pub use builder::RuleSetBuilder;
pub use error::{BuildError, BuildErrorKind};
pub use explain::{Explanation, Finding, Outcome};
pub use limits::{Limits, MAX_RULES};
pub use rule::{Kind, MAX_DEPTH, Rule, RuleId, TopicFilter, UnknownKind};
pub use scratch::Scratch;
pub use set::RuleSet;
pub use stats::{EngineStats, Stats};
