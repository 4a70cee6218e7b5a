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
/// Nor are strings that take more bytes together, once something is put before something else: `((x{16}){16}){16}` is short, and what it says is not.
const MAX_STRING_BYTES: usize = 4 << 10;
/// A class with more members than this is not spelled out: the members of the largest class of cases are four.
const MAX_MEMBERS: usize = 16;

/// Checks an expression and takes it as the cheapest shape.
pub(crate) fn parse(pattern: &str, folded: bool, max_bytes: usize) -> Result<Shape, Problem> {
    let hir = ParserBuilder::new()
        .case_insensitive(folded)
        .nest_limit(100)
        .build()
        .parse(pattern)
        .map_err(|error| problem(&error))?;
    // Three bytes of a pattern (`\pL`) can be five kilobytes of ranges.
    if class_bytes(&hir) > max_bytes {
        let message = format!("the classes of the expression take more than {max_bytes} bytes");
        return Err(Problem::new(BuildErrorKind::RegexTooLarge, message));
    }
    Ok(shape(hir, folded))
}

/// Bytes that the classes of an expression take as it was read.
fn class_bytes(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => class.ranges().len() * 8,
        HirKind::Class(Class::Bytes(class)) => class.ranges().len() * 2,
        HirKind::Capture(capture) => class_bytes(&capture.sub),
        HirKind::Repetition(repetition) => class_bytes(&repetition.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(class_bytes).sum(),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => 0,
    }
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

/// Every string of `left` followed by every one of `right`; none where that is too much.
fn cross(left: &[String], right: &[String]) -> Option<Vec<String>> {
    // Beside nothing, what the pattern has as it stands stays what it is, however long.
    let grows = ![left, right]
        .iter()
        .any(|strings| matches!(strings, [only] if only.is_empty()));
    let bytes = |strings: &[String]| strings.iter().map(String::len).sum::<usize>();
    let together = bytes(left) * right.len() + bytes(right) * left.len();
    if left.len() * right.len() > MAX_STRINGS || (grows && together > MAX_STRING_BYTES) {
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

/// Sets of literals such that every topic with a match has at least one literal of each set, where it must stand.
pub(crate) fn guards(hir: &Hir, folded: bool) -> Vec<Vec<Literal>> {
    let items = flatten(hir);
    let at_start = matches!(
        items.first().map(|hir| hir.kind()),
        Some(HirKind::Look(Look::Start))
    );
    let at_end = items.len() > 1
        && matches!(
            items.last().map(|hir| hir.kind()),
            Some(HirKind::Look(Look::End))
        );
    let items = &items[usize::from(at_start)..items.len() - usize::from(at_end)];
    let mut guards = Vec::new();
    let mut from = 0;
    while from < items.len() {
        // The longest run of parts whose strings can be spelled out.
        let mut run: Option<(usize, Vec<String>)> = None;
        let mut so_far = vec![String::new()];
        for (at, item) in items.iter().enumerate().skip(from) {
            let Some(next) =
                required_strings(item, folded).and_then(|strings| cross(&so_far, &strings))
            else {
                break;
            };
            so_far = next;
            run = Some((at + 1, so_far.clone()));
        }
        match run {
            Some((to, strings)) => {
                let place = match (at_start && from == 0, at_end && to == items.len()) {
                    (true, true) => Place::Whole,
                    (true, false) => Place::Start,
                    (false, true) => Place::End,
                    (false, false) => Place::Anywhere,
                };
                if !strings.is_empty() && strings.iter().all(|text| !text.is_empty()) {
                    guards.push(
                        strings
                            .into_iter()
                            .map(|text| Literal::new(place, text))
                            .collect(),
                    );
                }
                from = to;
            }
            None => {
                guards.extend(inner_guards(items[from], folded));
                from += 1;
            }
        }
    }
    guards
}

/// As [`strings`], but for a guard: folded, every text of a part may stand for itself, since its topic is folded too.
fn required_strings(hir: &Hir, folded: bool) -> Option<Vec<String>> {
    match (hir.kind(), folded) {
        (HirKind::Literal(literal), true) => Some(vec![crate::fold::fold_str(
            std::str::from_utf8(&literal.0).ok()?,
        )]),
        // What only looks takes no room, and a guard need not say what it sees.
        (HirKind::Look(look), _) if !matches!(look, Look::Start | Look::End) => {
            Some(vec![String::new()])
        }
        _ => strings(hir, folded),
    }
}

/// The guards of one part that cannot be spelled out.
fn inner_guards(hir: &Hir, folded: bool) -> Vec<Vec<Literal>> {
    let anywhere = |guards: Vec<Vec<Literal>>| {
        let open = |literal: Literal| Literal::new(Place::Anywhere, literal.text);
        guards
            .into_iter()
            .map(move |set| set.into_iter().map(open).collect())
    };
    match hir.kind() {
        HirKind::Capture(capture) => inner_guards(&capture.sub, folded),
        HirKind::Concat(_) => anywhere(guards(hir, folded)).collect(),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            anywhere(guards(&repetition.sub, folded)).collect()
        }
        HirKind::Alternation(parts) => {
            // One set for each branch, together: whichever branch matches, its literal is there.
            let mut all = Vec::new();
            for part in parts {
                let best =
                    anywhere(guards(part, folded)).max_by_key(|set: &Vec<Literal>| shortest(set));
                match best {
                    Some(mut set) => all.append(&mut set),
                    None => return Vec::new(),
                }
            }
            if all.len() > MAX_STRINGS {
                Vec::new()
            } else {
                vec![all]
            }
        }
        _ => Vec::new(),
    }
}

/// The length of the shortest literal of a set: what the set can tell at least.
pub(crate) fn shortest(set: &[Literal]) -> usize {
    set.iter()
        .map(|literal| literal.text.len())
        .min()
        .unwrap_or(0)
}
