//! The oracle: one rule at a time, one filter at a time, straight from the definitions, sharing no code with the engine.
//!
//! Slow and plain on purpose. The tests hold every engine to it, and so can a program that doubts a result.

use std::collections::HashMap;

use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use crate::rule::{Kind, Node, Rule, TopicFilter};

/// A naive matcher. It keeps the expressions that it compiled, and nothing else.
#[derive(Debug, Default)]
pub struct Oracle {
    expressions: HashMap<(String, bool), Option<meta::Regex>>,
}

impl Oracle {
    /// Whether `rule` matches `topic`. A filter whose pattern is invalid matches nothing before its negation.
    pub fn matches(&mut self, rule: &Rule, topic: &str) -> bool {
        match &rule.node {
            Node::Filter(filter) => self.filter_matches(filter, topic),
            Node::Any(rules) => rules.iter().any(|rule| self.matches(rule, topic)),
            Node::All(rules) => rules.iter().all(|rule| self.matches(rule, topic)),
            Node::Not(rule) => !self.matches(rule, topic),
            Node::TooDeep => false,
        }
    }

    /// Whether `filter`, its negation included, matches `topic`.
    pub fn filter_matches(&mut self, filter: &TopicFilter, topic: &str) -> bool {
        let matched = if filter.kind() == Kind::Regex {
            let key = (filter.pattern().to_owned(), filter.is_case_sensitive());
            let expression = self
                .expressions
                .entry(key)
                .or_insert_with(|| expression(filter));
            expression
                .as_ref()
                .is_some_and(|expression| expression.is_match(topic))
        } else {
            pattern_matches(filter, topic)
        };
        matched != filter.is_negated()
    }
}

fn expression(filter: &TopicFilter) -> Option<meta::Regex> {
    let syntax = syntax::Config::new().case_insensitive(!filter.is_case_sensitive());
    meta::Regex::builder()
        .syntax(syntax)
        .build(filter.pattern())
        .ok()
}

/// Whether the pattern of `filter`, which is no expression, matches `topic`.
pub(crate) fn pattern_matches(filter: &TopicFilter, topic: &str) -> bool {
    let fold = |character| {
        if filter.is_case_sensitive() {
            character
        } else {
            smallest_of_class(character)
        }
    };
    let characters = |text: &str| -> Vec<char> { text.chars().map(fold).collect() };
    let (pattern, topic) = (characters(filter.pattern()), characters(topic));
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

/// By dynamic programming: `reached[i]` says whether the pattern so far matches the first `i` characters.
fn wildcard(pattern: &[char], topic: &[char]) -> bool {
    let mut reached = vec![false; topic.len() + 1];
    reached[0] = true;
    for wanted in pattern {
        if *wanted == '*' {
            let first = reached
                .iter()
                .position(|reached| *reached)
                .unwrap_or(reached.len());
            reached[first..].fill(true);
        } else {
            for at in (0..topic.len()).rev() {
                reached[at + 1] = reached[at] && (*wanted == '?' || *wanted == topic[at]);
            }
            reached[0] = false;
        }
    }
    reached[topic.len()]
}

/// Section 4.7 of MQTT 5.0, level by level.
fn mqtt(pattern: &[char], topic: &[char]) -> bool {
    fn levels(pattern: &[Vec<char>], topic: &[Vec<char>]) -> bool {
        match (pattern.split_first(), topic.split_first()) {
            (Some((wanted, _)), _) if *wanted == ['#'] => true,
            (Some((wanted, pattern)), Some((level, topic))) => {
                (*wanted == ['+'] || wanted == level) && levels(pattern, topic)
            }
            (None, None) => true,
            _ => false,
        }
    }
    let split = |text: &[char]| {
        text.split(|character| *character == '/')
            .map(<[char]>::to_vec)
            .collect::<Vec<_>>()
    };
    let starts_with_wildcard = matches!(pattern.first(), Some('+' | '#'));
    let Some(first) = topic.first() else {
        return false;
    };
    if starts_with_wildcard && *first == '$' {
        return false;
    }
    levels(&split(pattern), &split(topic))
}

/// The subject rules of NATS, token by token.
fn nats(pattern: &[char], topic: &[char]) -> bool {
    fn tokens(pattern: &[Vec<char>], topic: &[Vec<char>]) -> bool {
        match (pattern.split_first(), topic.split_first()) {
            (Some((wanted, [])), Some(_)) if *wanted == ['>'] => true,
            (Some((wanted, pattern)), Some((token, topic))) => {
                (*wanted == ['*'] || wanted == token) && tokens(pattern, topic)
            }
            (None, None) => true,
            _ => false,
        }
    }
    let split = |text: &[char]| {
        text.split(|character| *character == '.')
            .map(<[char]>::to_vec)
            .collect::<Vec<_>>()
    };
    let topic = split(topic);
    topic.iter().all(|token| !token.is_empty()) && tokens(&split(pattern), &topic)
}
