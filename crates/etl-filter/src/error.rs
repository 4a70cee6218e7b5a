//! Why a rule set was refused: which rule, which filter in it, which byte of the pattern.

use std::fmt;

use crate::rule::{RuleId, TopicFilter};

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BuildErrorKind {
    /// The pattern does not follow the rules of its kind.
    InvalidPattern,
    /// The pattern is longer than [`Limits::pattern_bytes`](crate::Limits::pattern_bytes).
    PatternTooLong,
    /// The regular expression takes more than [`Limits::regex_bytes`](crate::Limits::regex_bytes), or can take more steps a
    /// character than [`Limits::regex_steps`](crate::Limits::regex_steps).
    RegexTooLarge,
    /// Any, all and not nest deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    NestedTooDeeply,
    /// There are more rules than [`Limits::rules`](crate::Limits::rules); this is the first one too many.
    TooManyRules,
    /// This rule brings what all patterns and compiled forms take over [`Limits::memory_bytes`](crate::Limits::memory_bytes).
    OutOfMemoryBudget,
}

/// A rule set was refused, because of this rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    rule: RuleId,
    filter: Option<(usize, TopicFilter)>,
    problem: Problem,
}

/// What is wrong with one pattern, before it is known where the pattern stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: BuildErrorKind,
    pub(crate) position: Option<usize>,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(kind: BuildErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            position: None,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(position: usize, message: impl Into<String>) -> Self {
        Self {
            kind: BuildErrorKind::InvalidPattern,
            position: Some(position),
            message: message.into(),
        }
    }
}

impl BuildError {
    pub(crate) fn of_rule(rule: RuleId, problem: Problem) -> Self {
        Self {
            rule,
            filter: None,
            problem,
        }
    }

    pub(crate) fn of_filter(
        rule: RuleId,
        index: usize,
        filter: TopicFilter,
        problem: Problem,
    ) -> Self {
        Self {
            rule,
            filter: Some((index, filter)),
            problem,
        }
    }

    /// The error with the id that the rule has among others.
    pub(crate) fn renumbered(mut self, ids: &[u32]) -> Self {
        self.rule = ids
            .get(self.rule.index())
            .map_or(self.rule, |id| RuleId(*id));
        self
    }

    /// What is wrong.
    pub fn kind(&self) -> BuildErrorKind {
        self.problem.kind
    }

    /// The rule that is at fault.
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// Which of the rule's filters is at fault, counted from 0 in the order of [`Rule::filters`](crate::Rule::filters), if one is.
    pub fn filter_index(&self) -> Option<usize> {
        self.filter.as_ref().map(|(index, _)| *index)
    }

    /// The filter that is at fault, if one is.
    pub fn filter(&self) -> Option<&TopicFilter> {
        self.filter.as_ref().map(|(_, filter)| filter)
    }

    /// The byte of the pattern at which it stops making sense, if there is one.
    pub fn position(&self) -> Option<usize> {
        self.problem.position
    }

    /// What is wrong, without the rule, the filter and the position.
    pub fn message(&self) -> &str {
        &self.problem.message
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "rule {}", self.rule)?;
        if let Some((index, filter)) = &self.filter {
            write!(formatter, ", filter {index} ({} ", filter.kind())?;
            // A pattern may be long exactly because that is what is wrong with it.
            match filter.pattern().char_indices().nth(80) {
                None => write!(formatter, "{:?})", filter.pattern())?,
                Some((end, _)) => write!(formatter, "{:?}…)", &filter.pattern()[..end])?,
            }
        }
        if let Some(position) = self.problem.position {
            write!(formatter, ", byte {position}")?;
        }
        write!(formatter, ": {}", self.problem.message)
    }
}

impl std::error::Error for BuildError {}
