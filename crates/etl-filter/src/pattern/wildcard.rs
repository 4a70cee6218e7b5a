//! Wildcard patterns: `*` is any run of characters, `?` is one. There is no escape and nothing is invalid.
//!
//! Each piece between two stars is taken where it fits first: if the pattern matches at all, it matches so. So the cost is at most the topic times the
//! longest piece, and nothing is allocated. In a topic of ASCII characters are bytes, and pieces are compared sixteen bytes at a time.

use super::{Literal, Place, Shape, character_len};

/// The cheapest shape equal to the pattern.
pub(crate) fn parse(pattern: &str) -> Shape {
    let pattern = normalise(pattern);
    if pattern == "*" {
        return Shape::Everything;
    }
    let meta = |text: &str| text.contains(['*', '?']);
    if !meta(&pattern) {
        return literal(Place::Whole, &pattern);
    }
    let inner = pattern
        .strip_prefix('*')
        .and_then(|rest| rest.strip_suffix('*'));
    if let Some(text) = inner.filter(|text| !meta(text)) {
        return literal(Place::Anywhere, text);
    }
    if let Some(text) = pattern.strip_suffix('*').filter(|text| !meta(text)) {
        return literal(Place::Start, text);
    }
    if let Some(text) = pattern.strip_prefix('*').filter(|text| !meta(text)) {
        return literal(Place::End, text);
    }
    Shape::Glob(pattern)
}

fn literal(place: Place, text: &str) -> Shape {
    Shape::Literals(vec![Literal::new(place, text)])
}

/// Equal patterns get equal texts: in a run of wildcards the `?` come first and one `*` is enough.
fn normalise(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut star = false;
    for character in pattern.chars() {
        match character {
            '*' => star = true,
            '?' => out.push('?'),
            _ => {
                if std::mem::take(&mut star) {
                    out.push('*');
                }
                out.push(character);
            }
        }
    }
    if star {
        out.push('*');
    }
    out
}

/// Literals of a pattern, each of which every matching topic has.
pub(crate) fn guards(pattern: &str) -> Vec<Literal> {
    let mut guards = Vec::new();
    let mut start = 0;
    for text in pattern.split(['*', '?']) {
        let end = start + text.len();
        let place = match (start == 0, end == pattern.len()) {
            (true, true) => Place::Whole,
            (true, false) => Place::Start,
            (false, true) => Place::End,
            (false, false) => Place::Anywhere,
        };
        if !text.is_empty() {
            guards.push(Literal::new(place, text));
        }
        start = end + 1;
    }
    guards
}

/// Whether `topic` matches.
pub(crate) fn matches(pattern: &[u8], topic: &[u8]) -> bool {
    if topic.is_ascii() {
        matches_ascii(pattern, topic)
    } else {
        matches_characters(pattern, topic)
    }
}

fn matches_ascii(pattern: &[u8], topic: &[u8]) -> bool {
    let mut pieces = pattern.split(|byte| *byte == b'*');
    let first = pieces.next().unwrap_or(&[]);
    let Some((start, mut rest)) = topic.split_at_checked(first.len()) else {
        return false;
    };
    if !fits(first, start) {
        return false;
    }
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let Some(at) = rest.windows(piece.len()).position(|part| fits(piece, part)) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.split_at_checked(rest.len().wrapping_sub(last.len()))
        .is_some_and(|(_, end)| fits(last, end))
}

/// Whether a text equals a piece of the same length, in which `?` equals everything.
#[inline]
fn fits(piece: &[u8], text: &[u8]) -> bool {
    let differ = |piece: &u8, text: &u8| (piece != text) & (*piece != b'?');
    let (wholes, piece_rest) = piece.as_chunks::<16>();
    let (text_wholes, text_rest) = text.as_chunks::<16>();
    let mut wholes = wholes.iter().zip(text_wholes);
    // Without a way out inside of it, the machine compares a chunk at once.
    let whole_fits = |(piece, text): (&[u8; 16], &[u8; 16])| {
        let all = piece.iter().zip(text);
        !all.fold(false, |any, (piece, text)| any | differ(piece, text))
    };
    let mut rest = piece_rest.iter().zip(text_rest);
    wholes.all(whole_fits) && !rest.any(|(piece, text)| differ(piece, text))
}

/// The classic walk with two pointers: only the last `*` is ever taken back.
fn matches_characters(pattern: &[u8], topic: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Where to go on in the pattern, and from which byte of the topic, if what follows the last `*` fails.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                if at == pattern.len() {
                    return true;
                }
                retry = Some((at, seen));
                continue;
            }
            Some(b'?') if seen < topic.len() => Some(character_len(topic, seen)),
            Some(byte) if topic.get(seen) == Some(byte) && *byte != b'?' => Some(1),
            None if seen == topic.len() => return true,
            _ => None,
        };
        if let Some(len) = step {
            at += 1;
            seen += len;
            continue;
        }
        match &mut retry {
            Some((pattern_at, topic_at)) if *topic_at < topic.len() => {
                *topic_at += character_len(topic, *topic_at);
                (at, seen) = (*pattern_at, *topic_at);
            }
            _ => return false,
        }
    }
}
