//! RFC 9535 queries: what they are made of, and which of them are a plain walk down from the root.
//!
//! The library crates were tried first. One fails 9 of the 703 cases of the compliance suite, the other fails none but wants
//! a `serde_json::Value`, which loses numbers beyond 64 bits and stops at 128 levels. This one reads the payload where it
//! lies, keeps numbers as they are written, and stops as soon as the condition is decided.

mod evaluate;
mod parse;
mod tape;

pub(super) use evaluate::{Evaluation, Verdict};
pub(super) use parse::parse;
pub(super) use tape::Tape;

use regex_automata::meta::Regex;

use super::Number;

/// A query, relative or absolute: its segments.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub segments: Box<[Segment]>,
}

#[derive(Clone, Debug)]
pub(super) enum Segment {
    Child(Box<[Selector]>),
    Descendant(Box<[Selector]>),
}

#[derive(Clone, Debug)]
pub(super) enum Selector {
    Name(Box<str>),
    Wildcard,
    Index(i64),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Filter(Logical),
}

#[derive(Clone, Debug)]
pub(super) enum Logical {
    Or(Box<[Logical]>),
    And(Box<[Logical]>),
    Not(Box<Logical>),
    Exists(FilterQuery),
    Compare(Comparable, Comparison, Comparable),
    /// `match` and `search`.
    Regex {
        whole: bool,
        text: Comparable,
        pattern: Pattern,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Pattern {
    /// Known when the query is compiled; `None` if it is no regular expression, which RFC 9535 makes false, not wrong.
    Fixed(Option<Box<Regex>>),
    /// To be read from the payload.
    Found(Comparable),
}

#[derive(Clone, Debug)]
pub(super) struct FilterQuery {
    pub absolute: bool,
    pub query: Query,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
pub(super) enum Comparable {
    Null,
    Bool(bool),
    Number(Number),
    String(Box<str>),
    /// A singular query.
    Node(FilterQuery),
    Length(Box<Comparable>),
    Count(FilterQuery),
    Value(FilterQuery),
}

impl Query {
    /// Bytes that the regular expressions of its filters take.
    pub fn regex_bytes(&self) -> usize {
        let selectors = self.segments.iter().flat_map(|segment| {
            let (Segment::Child(selectors) | Segment::Descendant(selectors)) = segment;
            selectors
        });
        selectors
            .map(|selector| match selector {
                Selector::Filter(logical) => logical.regex_bytes(),
                _ => 0,
            })
            .sum()
    }
}

impl Logical {
    fn regex_bytes(&self) -> usize {
        match self {
            Logical::Or(terms) | Logical::And(terms) => terms.iter().map(Self::regex_bytes).sum(),
            Logical::Not(term) => term.regex_bytes(),
            Logical::Exists(query) => query.query.regex_bytes(),
            Logical::Compare(left, _, right) => left.regex_bytes() + right.regex_bytes(),
            Logical::Regex { text, pattern, .. } => {
                let pattern = match pattern {
                    Pattern::Fixed(regex) => regex.as_ref().map_or(0, |regex| regex.memory_usage()),
                    Pattern::Found(comparable) => comparable.regex_bytes(),
                };
                text.regex_bytes() + pattern
            }
        }
    }
}

impl Comparable {
    fn regex_bytes(&self) -> usize {
        match self {
            Comparable::Node(query) | Comparable::Count(query) | Comparable::Value(query) => {
                query.query.regex_bytes()
            }
            Comparable::Length(of) => of.regex_bytes(),
            _ => 0,
        }
    }
}

/// A step of a singular path that the one-pass reader takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    Name(Box<str>),
    Index(u64),
}

impl Query {
    /// The steps of a singular path; `None` where a segment may select several nodes, or counts from the end of an array.
    pub fn steps(&self) -> Option<Box<[Step]>> {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Child(selectors) => match &**selectors {
                    [Selector::Name(name)] => Some(Step::Name(name.clone())),
                    [Selector::Index(index)] => u64::try_from(*index).ok().map(Step::Index),
                    _ => None,
                },
                Segment::Descendant(_) => None,
            })
            .collect()
    }

    /// Whether RFC 9535 calls the query singular: one name or index in each segment.
    pub fn is_singular(&self) -> bool {
        self.segments.iter().all(|segment| match segment {
            Segment::Child(selectors) => {
                matches!(**selectors, [Selector::Name(_) | Selector::Index(_)])
            }
            Segment::Descendant(_) => false,
        })
    }
}
