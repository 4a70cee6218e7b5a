//! The oracle: one rule at a time, one filter at a time, straight from the definitions, sharing no code with the engine.
//!
//! Slow and plain on purpose. The tests hold every engine to it, and so can a program that doubts a result.
//!
//! It reads topics as a row of symbols: a character is its code point, and a byte that is no part of one is a symbol of its own, beyond
//! all code points.

use std::collections::HashMap;

use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use crate::rule::{Kind, Node, Rule, TopicFilter};

/// A naive matcher. It keeps the expressions that it compiled, and nothing else.
#[derive(Debug, Default)]
pub struct Oracle {
    expressions: HashMap<(String, bool, bool), Option<meta::Regex>>,
}

impl Oracle {
    /// Whether `rule` matches `topic`. A filter whose pattern is invalid matches nothing before its negation.
    pub fn matches(&mut self, rule: &Rule, topic: &str) -> bool {
        self.matches_bytes(rule, topic.as_bytes())
    }

    /// The same for a topic that may not be UTF-8.
    pub fn matches_bytes(&mut self, rule: &Rule, topic: &[u8]) -> bool {
        match &rule.node {
            Node::Filter(filter) => self.filter_matches_bytes(filter, topic),
            Node::Any(rules) => rules.iter().any(|rule| self.matches_bytes(rule, topic)),
            Node::All(rules) => rules.iter().all(|rule| self.matches_bytes(rule, topic)),
            Node::Not(rule) => !self.matches_bytes(rule, topic),
            Node::TooDeep => false,
        }
    }

    /// Whether `filter`, its negation included, matches `topic`.
    pub fn filter_matches(&mut self, filter: &TopicFilter, topic: &str) -> bool {
        self.filter_matches_bytes(filter, topic.as_bytes())
    }

    /// The same for a topic that may not be UTF-8.
    pub fn filter_matches_bytes(&mut self, filter: &TopicFilter, topic: &[u8]) -> bool {
        let matched = if filter.kind() == Kind::Regex {
            let key = (
                filter.pattern().to_owned(),
                filter.is_case_sensitive(),
                std::str::from_utf8(topic).is_ok(),
            );
            let expression = self
                .expressions
                .entry(key)
                .or_insert_with(|| expression(filter, topic));
            expression
                .as_ref()
                .is_some_and(|expression| expression.is_match(topic))
        } else {
            pattern_matches(filter, topic)
        };
        matched != filter.is_negated()
    }
}

/// The expression of `filter`, for topics that are UTF-8 if `topic` is.
pub(crate) fn expression(filter: &TopicFilter, topic: &[u8]) -> Option<meta::Regex> {
    let syntax = syntax::Config::new().case_insensitive(!filter.is_case_sensitive());
    // It would take a stray byte for the middle of a character, and find nothing before it, not even the start of the topic.
    let configuration = meta::Config::new().utf8_empty(std::str::from_utf8(topic).is_ok());
    meta::Regex::builder()
        .configure(configuration)
        .syntax(syntax)
        .build(filter.pattern())
        .ok()
}

/// The symbols of a topic, each with the byte at which it starts.
pub(crate) fn symbols(topic: &[u8]) -> Vec<(usize, u32)> {
    let mut symbols = Vec::with_capacity(topic.len());
    let mut start = 0;
    for chunk in topic.utf8_chunks() {
        for (at, character) in chunk.valid().char_indices() {
            symbols.push((start + at, u32::from(character)));
        }
        start += chunk.valid().len();
        for byte in chunk.invalid() {
            symbols.push((start, BEYOND + u32::from(*byte)));
            start += 1;
        }
    }
    symbols
}

/// The first symbol that is no code point, and that of the byte 0.
pub(crate) const BEYOND: u32 = char::MAX as u32 + 1;

/// Whether the pattern of `filter`, which is no expression, matches `topic`.
pub(crate) fn pattern_matches(filter: &TopicFilter, topic: &[u8]) -> bool {
    let fold = |symbol: u32| match char::from_u32(symbol) {
        Some(character) if !filter.is_case_sensitive() => u32::from(smallest_of_class(character)),
        _ => symbol,
    };
    let symbols = |text| -> Vec<u32> {
        symbols(text)
            .into_iter()
            .map(|(_, symbol)| fold(symbol))
            .collect()
    };
    let (pattern, topic) = (symbols(filter.pattern().as_bytes()), symbols(topic));
    match filter.kind() {
        Kind::Exact => topic == pattern,
        Kind::Prefix => topic.starts_with(&pattern),
        Kind::Suffix => topic.ends_with(&pattern),
        Kind::Contains => {
            pattern.is_empty() || topic.windows(pattern.len()).any(|window| window == pattern)
        }
        Kind::Wildcard => wildcard(&pattern, &topic),
        Kind::Mqtt => mqtt(&pattern, &topic),
        Kind::Nats => nats(&pattern, &topic),
        Kind::Regex => false,
    }
}

/// The least character equal to `character` without regard to case, by the table of regex-syntax.
fn smallest_of_class(character: char) -> char {
    if character.is_ascii() {
        // The table is slow; for ASCII the definition is short: upper case is the least of every class.
        return character.to_ascii_uppercase();
    }
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(character, character)]);
    match class.try_case_fold_simple() {
        Ok(()) => class
            .iter()
            .map(ClassUnicodeRange::start)
            .min()
            .unwrap_or(character),
        Err(_) => character,
    }
}

const STAR: u32 = '*' as u32;
const ONE: u32 = '?' as u32;
const PLUS: u32 = '+' as u32;
const HASH: u32 = '#' as u32;
const SLASH: u32 = '/' as u32;
const DOLLAR: u32 = '$' as u32;
const DOT: u32 = '.' as u32;
const REST: u32 = '>' as u32;

/// By dynamic programming: `reached[i]` says whether the pattern so far matches the first `i` characters.
fn wildcard(pattern: &[u32], topic: &[u32]) -> bool {
    let mut reached = vec![false; topic.len() + 1];
    reached[0] = true;
    for wanted in pattern {
        if *wanted == STAR {
            let first = reached
                .iter()
                .position(|reached| *reached)
                .unwrap_or(reached.len());
            reached[first..].fill(true);
        } else {
            for at in (0..topic.len()).rev() {
                reached[at + 1] = reached[at] && (*wanted == ONE || *wanted == topic[at]);
            }
            reached[0] = false;
        }
    }
    reached[topic.len()]
}

/// Section 4.7 of MQTT 5.0, level by level.
fn mqtt(pattern: &[u32], topic: &[u32]) -> bool {
    fn levels(pattern: &[Vec<u32>], topic: &[Vec<u32>]) -> bool {
        match (pattern.split_first(), topic.split_first()) {
            (Some((wanted, _)), _) if *wanted == [HASH] => true,
            (Some((wanted, pattern)), Some((level, topic))) => {
                (*wanted == [PLUS] || wanted == level) && levels(pattern, topic)
            }
            (None, None) => true,
            _ => false,
        }
    }
    let split = |text: &[u32]| {
        text.split(|symbol| *symbol == SLASH)
            .map(<[u32]>::to_vec)
            .collect::<Vec<_>>()
    };
    let starts_with_wildcard = matches!(pattern.first(), Some(&(PLUS | HASH)));
    let Some(first) = topic.first() else {
        return false;
    };
    if starts_with_wildcard && *first == DOLLAR {
        return false;
    }
    levels(&split(pattern), &split(topic))
}

/// The subject rules of NATS, token by token.
fn nats(pattern: &[u32], topic: &[u32]) -> bool {
    fn tokens(pattern: &[Vec<u32>], topic: &[Vec<u32>]) -> bool {
        match (pattern.split_first(), topic.split_first()) {
            (Some((wanted, [])), Some(_)) if *wanted == [REST] => true,
            (Some((wanted, pattern)), Some((token, topic))) => {
                (*wanted == [STAR] || wanted == token) && tokens(pattern, topic)
            }
            (None, None) => true,
            _ => false,
        }
    }
    let split = |text: &[u32]| {
        text.split(|symbol| *symbol == DOT)
            .map(<[u32]>::to_vec)
            .collect::<Vec<_>>()
    };
    let topic = split(topic);
    topic.iter().all(|token| !token.is_empty()) && tokens(&split(pattern), &topic)
}
