//! What an operator and a constant make of a value, whatever the value was read from.

use std::cmp::Ordering;

use memchr::memmem::Finder;
use regex_automata::Input;
use regex_automata::meta::{Cache, Regex};

use super::condition::{ConditionKind, Operator, Value};
use super::error::{Fault, ProblemKind};
use super::number::Decimal;
use super::regex;

/// An operator with its constant, ready to run.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Equals(Value),
    Order(Orders, Value),
    Contains(Box<Finder<'static>>),
    StartsWith(Box<[u8]>),
    EndsWith(Box<[u8]>),
    /// The regular expression, and the place of its cache in the scratch.
    Matches(Box<Regex>, u32),
}

/// Which orderings satisfy an operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders {
    less: bool,
    equal: bool,
    greater: bool,
}

impl Orders {
    fn hold(self, order: Ordering) -> bool {
        match order {
            Ordering::Less => self.less,
            Ordering::Equal => self.equal,
            Ordering::Greater => self.greater,
        }
    }
}

/// A value of a record, as far as conditions tell values apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    Null,
    Bool(bool),
    Number(Decimal<'a>),
    Text(&'a [u8]),
    /// An array or object: no operator says anything about it.
    Container,
    /// Text outside JSON, which is a number or a boolean where the constant is one.
    Untyped(&'a [u8]),
}

/// What came of a test, before `NotEquals` and `negate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// The value and the constant cannot be compared.
    IllTyped,
}

impl Test {
    /// Compiles an operator and its constant, and refuses what could never hold.
    pub fn new(
        kind: &ConditionKind,
        operator: Operator,
        value: &Value,
        regexes: &mut u32,
    ) -> Result<Test, Fault> {
        let measured = matches!(kind, ConditionKind::MessageSize | ConditionKind::MessageAge);
        if measured && !matches!(value, Value::Number(_)) {
            return Err(Fault::new(
                ProblemKind::Value,
                format!(
                    "{} is a number and is compared with one, not with {value}",
                    kind.name()
                ),
            ));
        }
        if matches!(
            (kind, value),
            (ConditionKind::HeaderValue { .. }, Value::Null)
        ) {
            return Err(Fault::new(ProblemKind::Value, "a header is never null"));
        }
        let less = Orders {
            less: true,
            equal: false,
            greater: false,
        };
        let greater = Orders {
            greater: true,
            less: false,
            ..less
        };
        Ok(match operator {
            Operator::Equals | Operator::NotEquals => Test::Equals(value.clone()),
            Operator::LessThan => Test::Order(less, ordered(operator, value)?),
            Operator::LessThanOrEqual => Test::Order(
                Orders {
                    equal: true,
                    ..less
                },
                ordered(operator, value)?,
            ),
            Operator::GreaterThan => Test::Order(greater, ordered(operator, value)?),
            Operator::GreaterThanOrEqual => Test::Order(
                Orders {
                    equal: true,
                    ..greater
                },
                ordered(operator, value)?,
            ),
            Operator::Contains => {
                Test::Contains(Box::new(Finder::new(text(operator, value)?).into_owned()))
            }
            Operator::StartsWith => Test::StartsWith(text(operator, value)?.as_bytes().into()),
            Operator::EndsWith => Test::EndsWith(text(operator, value)?.as_bytes().into()),
            Operator::Matches => {
                let regex = regex::compile(text(operator, value)?)?;
                *regexes += 1;
                Test::Matches(Box::new(regex), *regexes - 1)
            }
        })
    }

    /// Bytes that its regular expression takes.
    pub fn regex_bytes(&self) -> usize {
        match self {
            Test::Matches(regex, _) => regex.memory_usage(),
            _ => 0,
        }
    }

    #[inline]
    pub fn answer(&self, found: Found<'_>, caches: &mut [Option<Box<Cache>>]) -> Answer {
        match self {
            Test::Equals(value) => self.equals(value, found),
            Test::Order(orders, Value::Number(number)) => match decimal(found) {
                Some(decimal) => yes(orders.hold(number.order_of(&decimal))),
                None => Answer::IllTyped,
            },
            Test::Order(orders, Value::String(text)) => {
                with_text(found, |found| orders.hold(found.cmp(text.as_bytes())))
            }
            Test::Order(..) => Answer::IllTyped,
            Test::Contains(finder) => with_text(found, |found| finder.find(found).is_some()),
            Test::StartsWith(prefix) => with_text(found, |found| found.starts_with(prefix)),
            Test::EndsWith(suffix) => with_text(found, |found| found.ends_with(suffix)),
            Test::Matches(regex, cache) => with_text(found, |found| {
                let cache =
                    caches[*cache as usize].get_or_insert_with(|| Box::new(regex.create_cache()));
                regex
                    .search_half_with(cache, &Input::new(found).earliest(true))
                    .is_some()
            }),
        }
    }

    #[inline]
    fn equals(&self, value: &Value, found: Found<'_>) -> Answer {
        match (value, found) {
            (Value::Null, Found::Null) => Answer::Yes,
            (Value::Bool(value), Found::Bool(found)) => yes(*value == found),
            (Value::Bool(value), Found::Untyped(text)) => match text {
                b"true" => yes(*value),
                b"false" => yes(!*value),
                _ => Answer::IllTyped,
            },
            (Value::Number(number), found) => match decimal(found) {
                Some(decimal) => yes(number.order_of(&decimal) == Ordering::Equal),
                None => Answer::IllTyped,
            },
            (Value::String(value), found) => with_text(found, |found| found == value.as_bytes()),
            _ => Answer::IllTyped,
        }
    }
}

fn yes(holds: bool) -> Answer {
    if holds { Answer::Yes } else { Answer::No }
}

fn decimal(found: Found<'_>) -> Option<Decimal<'_>> {
    match found {
        Found::Number(number) => Some(number),
        Found::Untyped(text) => Decimal::parse(text.trim_ascii()),
        _ => None,
    }
}

#[inline]
fn with_text(found: Found<'_>, test: impl FnOnce(&[u8]) -> bool) -> Answer {
    match found {
        Found::Text(text) | Found::Untyped(text) => yes(test(text)),
        _ => Answer::IllTyped,
    }
}

fn ordered(operator: Operator, value: &Value) -> Result<Value, Fault> {
    match value {
        Value::Number(_) | Value::String(_) => Ok(value.clone()),
        _ => Err(Fault::new(
            ProblemKind::Value,
            format!("{operator} compares numbers or strings, not {value}"),
        )),
    }
}

fn text(operator: Operator, value: &Value) -> Result<&str, Fault> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Fault::new(
            ProblemKind::Value,
            format!("{operator} takes a string, not {value}"),
        )),
    }
}
