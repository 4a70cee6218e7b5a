//! MQTT 5.0 topic filters, section 4.7: levels split by `/`, `+` is exactly one level, `#` is the rest and its parent.
//!
//! A filter that starts with a wildcard matches no topic that starts with `$` (4.7.2). An empty topic is no topic name (4.7.3), so
//! nothing matches it. `$share/…` is a kind of subscription (4.8.2), not a filter: strip it before asking.
//!
//! What a topic is made of is looked at no further: brokers let no name with U+0000 pass, and looking for it would cost every topic. A filter with
//! one is a mistake, and refused.

use super::{Literal, Place, Shape};
use crate::error::Problem;

/// Says at which byte the filter breaks a rule of 4.7.
pub(crate) fn check(pattern: &str) -> Result<(), Problem> {
    if pattern.is_empty() {
        return Err(Problem::invalid(
            0,
            "an MQTT topic filter has at least one character",
        ));
    }
    if let Some(at) = pattern.find('\0') {
        return Err(Problem::invalid(
            at,
            "an MQTT topic filter cannot hold U+0000",
        ));
    }
    let mut start = 0;
    for level in pattern.split('/') {
        let end = start + level.len();
        if let Some(at) = level.find(['+', '#']).filter(|_| level.len() > 1) {
            let wildcard = if level[at..].starts_with('+') {
                '+'
            } else {
                '#'
            };
            return Err(Problem::invalid(
                start + at,
                format!("`{wildcard}` must be a whole level of an MQTT topic filter"),
            ));
        }
        if level == "#" && end != pattern.len() {
            return Err(Problem::invalid(
                start,
                "`#` must be the last level of an MQTT topic filter",
            ));
        }
        start = end + 1;
    }
    Ok(())
}

/// The cheapest shape equal to a filter that passed [`check`].
pub(crate) fn parse(pattern: String) -> Shape {
    let levels = || pattern.split('/');
    if !levels().any(is_wildcard) {
        return Shape::Literals(vec![Literal::new(Place::Whole, pattern)]);
    }
    match pattern.strip_suffix("/#") {
        // The parent is an empty level, which alone would be the empty topic.
        Some("") => Shape::Literals(vec![Literal::new(Place::Start, "/")]),
        // `a/#` is `a`, and whatever starts with `a/`.
        Some(parent) if !parent.split('/').any(is_wildcard) => Shape::Literals(vec![
            Literal::new(Place::Whole, parent),
            Literal::new(Place::Start, &pattern[..pattern.len() - 1]),
        ]),
        _ => Shape::Mqtt(pattern),
    }
}

fn is_wildcard(level: &str) -> bool {
    matches!(level, "+" | "#")
}

/// Literals of a filter with wildcards, each of which every matching topic has.
pub(crate) fn guards(pattern: &str) -> Vec<Literal> {
    let body = pattern.strip_suffix("/#").unwrap_or(pattern);
    let open_end = body.len() != pattern.len();
    let mut guards = Vec::new();
    // Runs of plain levels, with the slashes that must stand beside them.
    let mut start = 0;
    while start <= body.len() {
        let run = plain_run(&body[start..]);
        let end = start + run;
        if run > 0 {
            let from = start.saturating_sub(1);
            let to = if end == body.len() { end } else { end + 1 };
            let place = match (start == 0, end == body.len() && !open_end) {
                (true, true) => Place::Whole,
                (true, false) => Place::Start,
                (false, true) => Place::End,
                (false, false) => Place::Anywhere,
            };
            guards.push(Literal::new(place, &body[from..to]));
            start = end + 1;
        } else {
            start += body[start..]
                .find('/')
                .map_or(body.len() - start, |slash| slash)
                + 1;
        }
    }
    guards
}

/// The length of the levels without wildcard at the start of `text`, up to the slash before the first wildcard.
fn plain_run(text: &str) -> usize {
    let mut len = 0;
    for level in text.split('/') {
        if is_wildcard(level) {
            return len.max(1) - 1;
        }
        len += level.len() + 1;
    }
    len - 1
}

/// Whether `topic` matches.
pub(crate) fn matches(pattern: &[u8], topic: &[u8]) -> bool {
    if topic.is_empty() || (topic[0] == b'$' && matches!(pattern.first(), Some(b'+' | b'#'))) {
        return false;
    }
    let mut levels = topic.split(|byte| *byte == b'/');
    for wanted in pattern.split(|byte| *byte == b'/') {
        if wanted == b"#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == b"+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}
