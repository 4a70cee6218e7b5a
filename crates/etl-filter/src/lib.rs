//! Many topic rules, one lookup: which of them match this topic? And, with the feature `conditions`, which conditions hold for a record.
//!
//! Five minutes:
//!
//! 1. A [`TopicFilter`] is a [`Kind`], a pattern, and whether case matters and the result is inverted. A [`Rule`] is one filter, or
//!    [`any`](Rule::any), [`all`](Rule::all), [`not`](Rule::not) of rules.
//! 2. A [`RuleSetBuilder`] takes rules, gives each a [`RuleId`], checks them ([`check`](RuleSetBuilder::check) reports every problem) and
//!    builds a [`RuleSet`], which is immutable and shared between threads.
//! 3. [`RuleSet::matches`] tells the ids of the rules that match a topic, ascending. It needs a [`Scratch`], one for each thread.
//! 4. [`RuleSet::explain`] tells why, [`RuleSet::stats`] what it costs, [`RuleSet::with_changes`] gives a set with some rules changed.
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
//!
//! let why = rules.explain_rule(quiet, "Orders.test").expect("there is such a rule");
//! assert_eq!(why.to_string(), "rule 1 does not match: not Suffix \".test\": the pattern matches bytes 6..11");
//! # Ok::<(), etl_filter::BuildError>(())
//! ```
//!
//! # Cost
//!
//! A topic costs a few nanoseconds a byte, plus one comparison for each pattern of which it holds a literal, plus one pass for each automaton
//! of expressions that have none; not the number of rules. The README has figures and the worst case.
//!
//! # Inside
//!
//! Rules as written (`source`) are read by `pattern` and brought to slots and trees (`tree`); the `planner` decides which literals
//! find a slot and builds the `index`, the checks and the automata (`rest`) of the `engine`; `dispatch` leads from slots that matched to rules.
//! `naive` is the oracle that the tests hold all of it to.
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

/// What the README shows is compiled and run.
#[cfg(all(doctest, feature = "conditions"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub use builder::RuleSetBuilder;
pub use error::{BuildError, BuildErrorKind};
pub use explain::{Explanation, Finding, Outcome};
pub use limits::{Limits, MAX_RULES};
pub use rule::{Kind, MAX_DEPTH, Rule, RuleId, TopicFilter, UnknownKind};
pub use scratch::Scratch;
pub use set::RuleSet;
pub use stats::{EngineStats, Stats};
