//! NATS subjects: tokens split by `.`, `*` is exactly one token, a last `>` is one or more.
//!
//! As in the server, a wildcard character inside a longer token is an ordinary character, and a topic with an empty token
//! (`a..b`, `.a`, `a.`, the empty topic) is no subject, so nothing matches it.
//!
//! What a token is made of is looked at no further, as for MQTT: servers let no subject with white space or U+0000 pass. A pattern with such a
//! character is a mistake, and refused.

use super::{Literal, Place, Shape};
use crate::error::Problem;

/// Says at which byte the pattern is no NATS subject.
pub(crate) fn check(pattern: &str) -> Result<(), Problem> {
    if let Some(at) = pattern.find([' ', '\t', '\r', '\n', '\x0C', '\0']) {
        return Err(Problem::invalid(
            at,
            "a NATS subject cannot hold white space or U+0000",
        ));
    }
    let mut start = 0;
    for token in pattern.split('.') {
        let end = start + token.len();
        if token.is_empty() {
            return Err(Problem::invalid(
                start,
                "a token of a NATS subject cannot be empty",
            ));
        }
        if token == ">" && end != pattern.len() {
            return Err(Problem::invalid(
                start,
                "`>` must be the last token of a NATS subject",
            ));
        }
        start = end + 1;
    }
    Ok(())
}

/// The cheapest shape equal to a subject that passed [`check`].
pub(crate) fn parse(pattern: String) -> Shape {
    if pattern.split('.').any(is_wildcard) {
        Shape::Nats(pattern)
    } else {
        Shape::Literals(vec![Literal::new(Place::Whole, pattern)])
    }
}

fn is_wildcard(token: &str) -> bool {
    matches!(token, "*" | ">")
}

/// Literals of a subject with wildcards, each of which every matching topic has.
pub(crate) fn guards(pattern: &str) -> Vec<Literal> {
    let mut guards = Vec::new();
    let mut start = 0;
    let mut run: Option<usize> = None;
    for token in pattern.split('.') {
        if !is_wildcard(token) {
            run.get_or_insert(start);
        } else if let Some(from) = run.take() {
            guards.push(guard(pattern, from, start));
        }
        start += token.len() + 1;
    }
    if let Some(from) = run {
        guards.push(guard(pattern, from, pattern.len()));
    }
    guards
}

/// The tokens from `from` up to `to`, with the dots beside them.
fn guard(pattern: &str, from: usize, to: usize) -> Literal {
    let place = match (from == 0, to == pattern.len()) {
        (true, true) => Place::Whole,
        (true, false) => Place::Start,
        (false, true) => Place::End,
        (false, false) => Place::Anywhere,
    };
    Literal::new(place, &pattern[from.saturating_sub(1)..to])
}

/// Whether `topic` matches.
pub(crate) fn matches(pattern: &[u8], topic: &[u8]) -> bool {
    let mut tokens = topic.split(|byte| *byte == b'.');
    for wanted in pattern.split(|byte| *byte == b'.') {
        let Some(token) = tokens.next().filter(|token| !token.is_empty()) else {
            return false;
        };
        if wanted == b">" {
            return tokens.all(|token| !token.is_empty());
        }
        if wanted != b"*" && wanted != token {
            return false;
        }
    }
    tokens.next().is_none()
}
