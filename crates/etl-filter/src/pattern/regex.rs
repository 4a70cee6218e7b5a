//! Regular expressions: parsed by regex-syntax, taken as literals where they say no more than that, else kept as HIR.
//!
//! A search asks only whether there is a match, not where. So what may be empty at an open end can be left out (`.*error.*` is
//! `error`), and an expression with finitely many strings is those strings, at the place that its anchors give.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::{Literal, Place, Shape};
use crate::error::{BuildErrorKind, Problem};
use crate::fold::{fold_char, is_caseless};

/// More strings than this are not spelled out.
const MAX_STRINGS: usize = 16;
/// A class with more members than this is not spelled out: the members of the largest class of cases are four.
const MAX_MEMBERS: usize = 16;

/// Checks an expression and takes it as the cheapest shape.
pub(crate) fn parse(pattern: &str, folded: bool) -> Result<Shape, Problem> {
    let hir = ParserBuilder::new()
        .case_insensitive(folded)
        .nest_limit(100)
        .build()
        .parse(pattern)
        .map_err(|error| problem(&error))?;
    Ok(shape(hir, folded))
}

fn problem(error: &regex_syntax::Error) -> Problem {
    match error {
        regex_syntax::Error::Parse(error) => {
            Problem::invalid(error.span().start.offset, error.kind().to_string())
        }
        regex_syntax::Error::Translate(error) => {
            Problem::invalid(error.span().start.offset, error.kind().to_string())
        }
        _ => Problem::new(BuildErrorKind::InvalidPattern, error.to_string()),
    }
}

fn shape(hir: Hir, folded: bool) -> Shape {
    let items = flatten(&hir);
    let mut items = items.as_slice();
    let at_start = matches!(
        items.first().map(|hir| hir.kind()),
        Some(HirKind::Look(Look::Start))
    );
    if at_start {
        items = &items[1..];
    } else {
        while let Some(rest) = items.split_first().filter(|(first, _)| is_skippable(first)) {
            items = rest.1;
        }
    }
    let at_end = matches!(
        items.last().map(|hir| hir.kind()),
        Some(HirKind::Look(Look::End))
    );
    if at_end {
        items = &items[..items.len() - 1];
    } else {
        while let Some(rest) = items.split_last().filter(|(last, _)| is_skippable(last)) {
            items = rest.1;
        }
    }
    let Some(strings) = strings_of_all(items, folded) else {
        return Shape::Regex(Box::new(hir));
    };
    let place = match (at_start, at_end) {
        (true, true) => Place::Whole,
        (true, false) => Place::Start,
        (false, true) => Place::End,
        (false, false) => Place::Anywhere,
    };
    if place != Place::Whole && strings.iter().any(String::is_empty) {
        return Shape::Everything;
    }
    if strings.is_empty() {
        return Shape::Regex(Box::new(hir));
    }
    Shape::Literals(
        strings
            .into_iter()
            .map(|text| Literal::new(place, text))
            .collect(),
    )
}

/// The parts that follow one another at the top of an expression, groups opened.
fn flatten(hir: &Hir) -> Vec<&Hir> {
    match hir.kind() {
        HirKind::Concat(parts) => parts.iter().flat_map(flatten).collect(),
        HirKind::Capture(capture) => flatten(&capture.sub),
        HirKind::Empty => Vec::new(),
        _ => vec![hir],
    }
}

/// Whether a part can be left out at an open end: it may be empty, and looks at nothing.
fn is_skippable(hir: &Hir) -> bool {
    let properties = hir.properties();
    properties.minimum_len() == Some(0) && properties.look_set().is_empty()
}

/// The strings that `parts`, one after the other, match; none where they are too many or not finite.
fn strings_of_all(parts: &[&Hir], folded: bool) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    for part in parts {
        all = cross(&all, &strings(part, folded)?)?;
    }
    Some(all)
}

/// Every string of `left` followed by every one of `right`.
fn cross(left: &[String], right: &[String]) -> Option<Vec<String>> {
    if left.len() * right.len() > MAX_STRINGS {
        return None;
    }
    let mut all: Vec<String> = left
        .iter()
        .flat_map(|head| right.iter().map(move |tail| format!("{head}{tail}")))
        .collect();
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// The strings that `hir` matches, folded if `folded`; none where they are too many, not finite, or depend on what is around.
fn strings(hir: &Hir, folded: bool) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => {
            // Where case does not matter, a literal with another case can only come from `(?-i:…)`, which regards case.
            let text = std::str::from_utf8(&literal.0).ok()?;
            (!folded || is_caseless(text)).then(|| vec![text.to_owned()])
        }
        HirKind::Class(class) => class_strings(class, folded),
        HirKind::Capture(capture) => strings(&capture.sub, folded),
        HirKind::Concat(parts) => strings_of_all(&parts.iter().collect::<Vec<_>>(), folded),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.append(&mut strings(part, folded)?);
                if all.len() > MAX_STRINGS * 4 {
                    return None;
                }
            }
            all.sort_unstable();
            all.dedup();
            (all.len() <= MAX_STRINGS).then_some(all)
        }
        HirKind::Repetition(repetition) => {
            let max = repetition.max.filter(|max| *max <= 16)?;
            let one = strings(&repetition.sub, folded)?;
            let mut power = vec![String::new()];
            let mut all = Vec::new();
            for count in 0..=max {
                if count >= repetition.min {
                    all.extend(power.iter().cloned());
                }
                if count < max {
                    power = cross(&power, &one)?;
                }
            }
            all.sort_unstable();
            all.dedup();
            (all.len() <= MAX_STRINGS).then_some(all)
        }
        HirKind::Look(_) => None,
    }
}

/// The members of a class, if they are few. Folded, a class must hold every case of its members, or it is no folded text.
fn class_strings(class: &Class, folded: bool) -> Option<Vec<String>> {
    let mut members: Vec<char> = Vec::new();
    let mut add = |start: char, end: char| {
        let few = u32::from(end) - u32::from(start) < MAX_MEMBERS as u32;
        few.then(|| members.extend(start..=end))
            .filter(|()| members.len() <= MAX_MEMBERS * 4)
    };
    match class {
        Class::Unicode(class) => {
            for range in class.iter() {
                add(range.start(), range.end())?;
            }
        }
        Class::Bytes(class) => {
            for range in class.iter() {
                if range.end() > 0x7F {
                    return None;
                }
                add(char::from(range.start()), char::from(range.end()))?;
            }
        }
    }
    if folded && !is_closed(class) {
        return None;
    }
    let mut texts: Vec<String> = members
        .into_iter()
        .map(|member| if folded { fold_char(member) } else { member }.to_string())
        .collect();
    texts.sort_unstable();
    texts.dedup();
    (texts.len() <= MAX_STRINGS).then_some(texts)
}

/// Whether the class holds every case of its members. `(?-i:k)` inside a pattern without regard to case does not.
fn is_closed(class: &Class) -> bool {
    match class {
        Class::Unicode(class) => {
            let mut closed = class.clone();
            closed.try_case_fold_simple().is_ok() && closed == *class
        }
        // Under `(?-u)` folding is by ASCII alone, so `k` lacks the Kelvin sign.
        Class::Bytes(class) => class.iter().all(|range| {
            (range.start()..=range.end())
                .all(|byte| is_caseless(char::from(byte).encode_utf8(&mut [0; 4])))
        }),
    }
}
