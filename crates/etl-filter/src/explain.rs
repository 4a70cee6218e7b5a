//! Why a rule matches a topic, or the first reason why it does not.
//!
//! Written for people: it reads one rule at a time, from its definition, and takes its time. Positions and spans are bytes of the
//! topic as it was given, also where case is disregarded. A byte that is no part of a character is shown as `\xff`.

use std::fmt;
use std::ops::Range;

use crate::fold::fold_char;
use crate::naive::{self, BEYOND};
use crate::rule::{Kind, Node, Rule, RuleId, TopicFilter};

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    rule: RuleId,
    matched: bool,
    because: Vec<Finding>,
}

impl Explanation {
    /// The rule.
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// Whether it matches.
    pub fn matched(&self) -> bool {
        self.matched
    }

    /// The filters that decided: of `any` the first that matched or all that did not, of `all` the first that did not or all. Empty
    /// where no filter decided, because a part of the rule has none: an empty `all` matches every topic, an empty `any` none.
    pub fn because(&self) -> &[Finding] {
        &self.because
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.matched {
            "matches"
        } else {
            "does not match"
        };
        write!(formatter, "rule {} {verdict}", self.rule)?;
        if self.because.is_empty() {
            let always = if self.matched { "every" } else { "no" };
            write!(
                formatter,
                ": a part of it has no filters, and so it matches {always} topic"
            )?;
        }
        for (index, finding) in self.because.iter().enumerate() {
            write!(
                formatter,
                "{}{finding}",
                if index == 0 { ": " } else { "; " }
            )?;
        }
        Ok(())
    }
}

/// What became of one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    index: usize,
    filter: TopicFilter,
    inverted: bool,
    outcome: Outcome,
}

/// What the pattern found, before the filter's negation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The pattern matches these bytes of the topic.
    Matched {
        /// From the first byte to the one after the last.
        span: Range<usize>,
    },
    /// The pattern does not match.
    Differs {
        /// The byte of the topic up to which it did, where that means something.
        at: Option<usize>,
        /// What was wanted there.
        reason: String,
    },
}

impl Finding {
    /// Which of the rule's filters it is, in the order of [`Rule::filters`].
    pub fn filter_index(&self) -> usize {
        self.index
    }

    /// The filter.
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Whether the rule asks for the opposite, because the filter stands inside a [`Rule::not`] (or inside three of them).
    pub fn is_inverted(&self) -> bool {
        self.inverted
    }

    /// What its pattern found, before the negation.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Whether the filter matches, its negation included, and what stands around it in the rule not.
    pub fn matched(&self) -> bool {
        matches!(self.outcome, Outcome::Matched { .. }) != self.filter.is_negated()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inverted {
            write!(formatter, "not ({}): ", self.filter)?;
        } else {
            write!(formatter, "{}: ", self.filter)?;
        }
        match &self.outcome {
            Outcome::Matched { span } => write!(
                formatter,
                "the pattern matches bytes {}..{}",
                span.start, span.end
            ),
            Outcome::Differs {
                at: Some(at),
                reason,
            } => write!(formatter, "at byte {at}, {reason}"),
            Outcome::Differs { at: None, reason } => formatter.write_str(reason),
        }
    }
}

pub(crate) fn explain(id: RuleId, rule: &Rule, topic: &[u8]) -> Explanation {
    let (matched, because) = decide(rule, topic, false, &mut 0);
    Explanation {
        rule: id,
        matched,
        because,
    }
}

/// The value of a rule, and what decided it. `next` counts the filters passed.
fn decide(rule: &Rule, topic: &[u8], inverted: bool, next: &mut usize) -> (bool, Vec<Finding>) {
    match &rule.node {
        Node::Filter(filter) => {
            let finding = Finding {
                index: *next,
                filter: filter.clone(),
                inverted,
                outcome: outcome(filter, topic),
            };
            *next += 1;
            (finding.matched(), vec![finding])
        }
        Node::Not(rule) => {
            let (matched, because) = decide(rule, topic, !inverted, next);
            (!matched, because)
        }
        Node::Any(rules) | Node::All(rules) => {
            let deciding = matches!(rule.node, Node::Any(_));
            let mut all = Vec::new();
            let mut rules = rules.iter();
            while let Some(rule) = rules.next() {
                let (matched, mut because) = decide(rule, topic, inverted, next);
                if matched == deciding {
                    // Those that are not looked at have their places all the same.
                    *next += rules.map(|rule| rule.filters().len()).sum::<usize>();
                    return (deciding, because);
                }
                all.append(&mut because);
            }
            (!deciding, all)
        }
        Node::TooDeep => (false, Vec::new()),
    }
}

fn outcome(filter: &TopicFilter, topic: &[u8]) -> Outcome {
    if filter.kind() == Kind::Regex {
        return regex(filter, topic);
    }
    // Folding keeps the number of symbols, so places can be told in the topic as given.
    let fold = |symbol: &u32| match char::from_u32(*symbol) {
        Some(character) if !filter.is_case_sensitive() => u32::from(fold_char(character)),
        _ => *symbol,
    };
    let (starts, given): (Vec<usize>, Vec<u32>) = naive::symbols(topic).into_iter().unzip();
    let wanted: Vec<u32> = filter.pattern().chars().map(u32::from).collect();
    let pattern: Vec<u32> = wanted.iter().map(fold).collect();
    let text: Vec<u32> = given.iter().map(fold).collect();
    let byte_of = |index: usize| starts.get(index).copied().unwrap_or(topic.len());
    let matched = naive::pattern_matches(filter, topic);
    let whole = 0..topic.len();
    let differs = |at: Option<usize>, reason: String| Outcome::Differs { at, reason };
    match filter.kind() {
        Kind::Exact | Kind::Wildcard | Kind::Mqtt | Kind::Nats if matched => {
            Outcome::Matched { span: whole }
        }
        Kind::Prefix if matched => Outcome::Matched {
            span: 0..byte_of(pattern.len()),
        },
        Kind::Suffix if matched => Outcome::Matched {
            span: byte_of(text.len() - pattern.len())..topic.len(),
        },
        Kind::Contains if matched => {
            let found = (0..=text.len() - pattern.len())
                .find(|at| text[*at..].starts_with(&pattern))
                .unwrap_or(0);
            Outcome::Matched {
                span: byte_of(found)..byte_of(found + pattern.len()),
            }
        }
        Kind::Exact | Kind::Prefix => {
            let same = pattern
                .iter()
                .zip(&text)
                .take_while(|(wanted, found)| wanted == found)
                .count();
            let reason = match (wanted.get(same), given.get(same)) {
                (Some(wanted), Some(found)) => format!(
                    "the pattern has {} and the topic {}",
                    one(*wanted),
                    one(*found)
                ),
                (Some(wanted), None) => format!(
                    "the topic ends, and the pattern goes on with {}",
                    one(*wanted)
                ),
                (None, _) => "the pattern ends, and the topic goes on".to_owned(),
            };
            differs(Some(byte_of(same)), reason)
        }
        Kind::Suffix => differs(
            None,
            format!("the topic does not end with {:?}", filter.pattern()),
        ),
        Kind::Contains => differs(
            None,
            format!("{:?} does not occur in the topic", filter.pattern()),
        ),
        Kind::Wildcard => {
            let (at, reason) = wildcard_reason(&pattern, &text);
            differs(Some(byte_of(at)), reason)
        }
        Kind::Mqtt | Kind::Nats => {
            let (at, reason) = token_reason(filter.kind(), &pattern, &text);
            differs(Some(byte_of(at)), reason)
        }
        Kind::Regex => differs(
            None,
            "the expression matches nowhere in the topic".to_owned(),
        ),
    }
}

/// A symbol, in quotes.
fn one(symbol: u32) -> String {
    match char::from_u32(symbol) {
        Some(character) => format!("{character:?}"),
        None => format!("'\\x{:02x}'", symbol - BEYOND),
    }
}

/// Symbols, in quotes, as the text that they are would be.
fn shown(symbols: &[u32]) -> String {
    let mut quoted = String::from("\"");
    let is_character = |symbol: &u32| *symbol < BEYOND;
    for run in symbols.chunk_by(|left, right| is_character(left) && is_character(right)) {
        match run {
            [byte] if !is_character(byte) => quoted += &format!("\\x{:02x}", byte - BEYOND),
            run => {
                let text: String = run.iter().copied().filter_map(char::from_u32).collect();
                let text = format!("{text:?}");
                quoted += &text[1..text.len() - 1];
            }
        }
    }
    quoted.push('"');
    quoted
}

fn regex(filter: &TopicFilter, topic: &[u8]) -> Outcome {
    let found = naive::expression(filter, topic).and_then(|expression| expression.find(topic));
    match found {
        Some(found) => Outcome::Matched {
            span: found.range(),
        },
        None => Outcome::Differs {
            at: None,
            reason: "the expression matches nowhere in the topic".to_owned(),
        },
    }
}

/// The first piece between stars that has no place in the topic, and the character after which it was looked for.
fn wildcard_reason(pattern: &[u32], text: &[u32]) -> (usize, String) {
    let is = |symbol: u32, character: char| symbol == u32::from(character);
    let fits = |piece: &[u32], at: usize| {
        text.get(at..at + piece.len()).is_some_and(|part| {
            piece
                .iter()
                .zip(part)
                .all(|(wanted, found)| is(*wanted, '?') || wanted == found)
        })
    };
    let pieces: Vec<&[u32]> = pattern.split(|symbol| is(*symbol, '*')).collect();
    let (first, rest) = pieces
        .split_first()
        .map_or((&[][..], &[][..]), |(first, rest)| (*first, rest));
    if !fits(first, 0) {
        return (0, format!("the topic does not start with {}", shown(first)));
    }
    let Some((last, middle)) = rest.split_last() else {
        return (
            first.len(),
            "the pattern ends, and the topic goes on".to_owned(),
        );
    };
    let mut at = first.len();
    for piece in middle {
        match (at..=text.len()).find(|at| fits(piece, *at)) {
            Some(found) => at = found + piece.len(),
            None => return (at, format!("{} does not occur after this", shown(piece))),
        }
    }
    (
        at,
        format!("what is left does not end with {}", shown(last)),
    )
}

/// The first level or token that is not what the pattern wants there, and the character at which it starts.
fn token_reason(kind: Kind, pattern: &[u32], text: &[u32]) -> (usize, String) {
    let (separator, word) = if kind == Kind::Mqtt {
        ('/', "level")
    } else {
        ('.', "token")
    };
    let is = |symbol: &u32, character: char| *symbol == u32::from(character);
    let Some(first) = text.first() else {
        return (0, "the topic is empty".to_owned());
    };
    let starts_with_wildcard = pattern
        .first()
        .is_some_and(|first| is(first, '+') || is(first, '#'));
    if kind == Kind::Mqtt && is(first, '$') && starts_with_wildcard {
        return (
            0,
            "a pattern that starts with a wildcard does not match a topic that starts with `$`"
                .to_owned(),
        );
    }
    let mut at = 0;
    let mut tokens = text.split(|symbol| is(symbol, separator));
    for wanted in pattern.split(|symbol| is(symbol, separator)) {
        let Some(token) = tokens.next() else {
            return (
                text.len(),
                format!(
                    "the topic ends, and the pattern has one more {word}, {}",
                    shown(wanted)
                ),
            );
        };
        if kind == Kind::Nats && token.is_empty() {
            return (
                at,
                "the topic has an empty token, so it is no NATS subject".to_owned(),
            );
        }
        if *wanted == [u32::from('>')] && kind == Kind::Nats {
            break;
        }
        let any = *wanted == [u32::from(if kind == Kind::Mqtt { '+' } else { '*' })];
        if !any && wanted != token {
            return (
                at,
                format!("the {word} is {}, not {}", shown(token), shown(wanted)),
            );
        }
        at += token.len() + 1;
    }
    for token in tokens {
        if kind == Kind::Mqtt || !token.is_empty() {
            return (
                at.min(text.len()),
                format!("the topic has more {word}s than the pattern"),
            );
        }
    }
    (
        text.len(),
        "the topic has an empty token, so it is no NATS subject".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(pattern: &str) -> TopicFilter {
        TopicFilter::new(Kind::Exact, pattern)
    }

    fn why(rule: &Rule, topic: &str) -> (bool, Vec<(usize, bool)>, String) {
        let explanation = explain(RuleId::new(0), rule, topic.as_bytes());
        let places = explanation
            .because()
            .iter()
            .map(|finding| (finding.filter_index(), finding.is_inverted()))
            .collect();
        (explanation.matched(), places, explanation.to_string())
    }

    #[test]
    fn what_stands_under_a_not_says_so() {
        let rule = Rule::not(exact("a"));
        let (matched, places, text) = why(&rule, "a");
        assert_eq!((matched, places), (false, vec![(0, true)]));
        assert_eq!(
            text,
            "rule 0 does not match: not (Exact \"a\"): the pattern matches bytes 0..1"
        );
        let twice = Rule::not(Rule::not(exact("a")));
        assert_eq!(why(&twice, "a").1, [(0, false)]);
        let inside = Rule::not(Rule::any([exact("a"), exact("b").negated()]));
        assert_eq!(why(&inside, "b").1, [(0, true), (1, true)]);
    }

    #[test]
    fn filters_that_were_not_looked_at_keep_their_places() {
        let rule = Rule::all([Rule::any([exact("a"), exact("b")]), Rule::from(exact("c"))]);
        let (matched, places, _) = why(&rule, "a");
        assert_eq!((matched, places), (false, vec![(2, false)]));
    }

    #[test]
    fn what_has_no_filters_says_so() {
        for (rule, text) in [
            (
                Rule::everything(),
                "rule 0 matches: a part of it has no filters, and so it matches every topic",
            ),
            (
                Rule::all([Rule::nothing(), Rule::from(exact("a"))]),
                "rule 0 does not match: a part of it has no filters, and so it matches no topic",
            ),
            (
                Rule::not(Rule::nothing()),
                "rule 0 matches: a part of it has no filters, and so it matches every topic",
            ),
        ] {
            assert_eq!(why(&rule, "a").2, text, "{rule}");
        }
    }

    #[test]
    fn bytes_that_are_no_characters_are_shown_as_such() {
        let reason = |kind, pattern: &str, topic: &[u8]| {
            let rule = Rule::from(TopicFilter::new(kind, pattern));
            let explanation = explain(RuleId::new(0), &rule, topic);
            let [finding] = explanation.because() else {
                panic!("{explanation}")
            };
            finding.to_string()
        };
        assert_eq!(
            reason(Kind::Exact, "éab", b"\xC3\xA9a\xFFb"),
            "Exact \"éab\": at byte 3, the pattern has 'b' and the topic '\\xff'"
        );
        assert_eq!(
            reason(Kind::Nats, "a.b", b"a.\xFF\"\xE2\x84x"),
            "Nats \"a.b\": at byte 2, the token is \"\\xff\\\"\\xe2\\x84x\", not \"b\""
        );
        assert_eq!(
            reason(Kind::Suffix, "é", b"\xFF\xFF\xC3\xA9"),
            "Suffix \"é\": the pattern matches bytes 2..4"
        );
        assert_eq!(
            reason(Kind::Regex, "x+", b"\xFFxx"),
            "Regex \"x+\": the pattern matches bytes 1..3"
        );
    }
}
