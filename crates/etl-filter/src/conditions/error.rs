//! Why conditions could not be compiled: every problem at once, each with its place.

use std::fmt;
use std::ops::Range;

use super::GroupId;

/// Conditions that cannot be compiled. Holds every problem that was found, never none.
#[derive(Clone, Debug)]
pub struct BuildError {
    pub(super) problems: Vec<Problem>,
}

impl BuildError {
    /// Every problem, in the order of groups and conditions.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}

/// One condition that cannot be compiled.
#[derive(Clone, Debug)]
pub struct Problem {
    pub(super) group: GroupId,
    pub(super) condition: usize,
    pub(super) fault: Fault,
}

impl Problem {
    /// The group in which the condition is.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The condition's place in its group, from 0.
    #[must_use]
    pub fn condition(&self) -> usize {
        self.condition
    }

    /// What sort of problem it is.
    #[must_use]
    pub fn kind(&self) -> ProblemKind {
        self.fault.kind
    }

    /// What is wrong, in a sentence without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.fault.message
    }

    /// Whether the path is at fault; otherwise it is the constant.
    #[must_use]
    pub fn is_in_path(&self) -> bool {
        self.fault.in_path
    }

    /// The bytes of the path or of the regular expression that are at fault, where that can be said.
    #[must_use]
    pub fn span(&self) -> Option<Range<usize>> {
        self.fault.span.clone()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "group {}, condition {}: {}",
            self.group.index(),
            self.condition,
            self.fault.message
        )?;
        match &self.fault.span {
            Some(span) => write!(f, " (at byte {})", span.start),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// What sort of problem a condition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The path is not an RFC 9535 query.
    Path,
    /// The regular expression does not parse.
    Regex,
    /// The operator takes no constant of this type, or the field can never have it.
    Value,
    /// A pattern or path that is too long, nests too deeply, or compiles to too much.
    TooLarge,
}

/// A problem before it is known where.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub kind: ProblemKind,
    pub message: String,
    pub span: Option<Range<usize>>,
    pub in_path: bool,
}

impl Fault {
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Fault {
            kind,
            message: message.into(),
            span: None,
            in_path: false,
        }
    }

    pub fn at(kind: ProblemKind, message: impl Into<String>, span: Range<usize>) -> Self {
        Fault {
            kind,
            message: message.into(),
            span: Some(span),
            in_path: false,
        }
    }
}
