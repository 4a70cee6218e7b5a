//! From a filter to what it means: the pattern is checked, folded if case does not matter, and taken as the cheapest shape
//! that is equal in effect.
//!
//! One file per dialect that has a syntax (`wildcard`, `mqtt`, `nats`, `regex`); each parses, says at which byte a pattern
//! stops making sense, and lists literals that every matching topic must contain (its *guards*). The other four kinds have no
//! syntax, so nothing can be wrong with them.

pub(crate) mod mqtt;
pub(crate) mod nats;
pub(crate) mod program;
pub(crate) mod regex;
pub(crate) mod wildcard;

use regex_syntax::hir::Hir;

use crate::error::{BuildErrorKind, Problem};
use crate::fold;
use crate::limits::Limits;
use crate::rule::{Kind, TopicFilter};

/// Where in the topic a literal must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// It is the whole topic.
    Whole,
    /// At the start.
    Start,
    /// At the end.
    End,
    /// Anywhere.
    Anywhere,
}

/// A text at a place of the topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Literal {
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl Literal {
    pub(crate) fn new(place: Place, text: impl Into<String>) -> Self {
        Self {
            place,
            text: text.into(),
        }
    }
}

/// What a pattern means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Every topic.
    Everything,
    /// Any one of these literals decides. Never empty.
    Literals(Vec<Literal>),
    /// `*` and `?`, normalised: no `*` beside another, `?` before `*`.
    Glob(String),
    /// Levels with at least one wildcard.
    Mqtt(String),
    /// Tokens with at least one wildcard.
    Nats(String),
    /// Anything else that a regular expression can say. Runs on the topic as it is, folded or not: case is in the expression.
    Regex(Box<Hir>),
}

/// A filter's meaning, without its polarity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Whether its literals and its shape are folded, to be compared with the folded topic.
    pub(crate) folded: bool,
    pub(crate) shape: Shape,
}

impl Pattern {
    /// Reads a filter; says what is wrong with it, if something is.
    pub(crate) fn parse(filter: &TopicFilter, limits: &Limits) -> Result<Self, Problem> {
        let text = filter.pattern();
        let cap = limits.pattern_bytes.min(usize::from(u16::MAX));
        if text.len() > cap {
            let message = format!(
                "the pattern has {} bytes, more than the {cap} allowed",
                text.len()
            );
            return Err(Problem::new(BuildErrorKind::PatternTooLong, message));
        }
        let folded = !filter.is_case_sensitive();
        if filter.kind() == Kind::Regex {
            return Ok(Self {
                folded,
                shape: regex::parse(text, folded, limits.regex_bytes)?,
            });
        }
        // What has no other case is the same pattern with and without regard to it, and needs no folded topic.
        let folded = folded && !fold::is_caseless(text);
        let text = if folded {
            fold::fold_str(text)
        } else {
            text.to_owned()
        };
        let shape = match filter.kind() {
            Kind::Exact => Shape::Literals(vec![Literal::new(Place::Whole, text)]),
            Kind::Prefix | Kind::Suffix | Kind::Contains if text.is_empty() => Shape::Everything,
            Kind::Prefix => Shape::Literals(vec![Literal::new(Place::Start, text)]),
            Kind::Suffix => Shape::Literals(vec![Literal::new(Place::End, text)]),
            Kind::Contains => Shape::Literals(vec![Literal::new(Place::Anywhere, text)]),
            Kind::Wildcard => wildcard::parse(&text),
            // Positions are those of the pattern as written, so these two are checked before folding moves bytes.
            Kind::Mqtt => {
                mqtt::check(filter.pattern())?;
                mqtt::parse(text)
            }
            Kind::Nats => {
                nats::check(filter.pattern())?;
                nats::parse(text)
            }
            Kind::Regex => unreachable!("taken above"),
        };
        Ok(Self { folded, shape })
    }
}

/// The length in bytes of the character at `at`, or 1 where the bytes there are not UTF-8: such a byte counts as a character.
pub(crate) fn character_len(text: &[u8], at: usize) -> usize {
    match text.get(at) {
        None | Some(0..=0x7F) => 1,
        Some(_) => character_at(text, at).map_or(1, char::len_utf8),
    }
}

/// The character that starts at `at`, if the bytes there are UTF-8.
pub(crate) fn character_at(text: &[u8], at: usize) -> Option<char> {
    let len = match *text.get(at)? {
        byte @ 0..=0x7F => return Some(char::from(byte)),
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return None,
    };
    let bytes = text.get(at..at + len)?;
    std::str::from_utf8(bytes).ok()?.chars().next()
}
