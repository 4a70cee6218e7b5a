//! Every kind of condition, with every operator, negated and not, against what a value that is greater, equal, smaller,
//! of another type or missing must make of it. The table is generated from the lists of kinds and operators, and the
//! functions that know the answers do not compile when one is added.
#![cfg(feature = "conditions")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cmp::Ordering;

use etl_filter::conditions::{
    Condition, ConditionKind, ConditionScratch, ConditionSetBuilder, Operator, RecordView, Value,
};

#[derive(Debug, Default)]
struct Record {
    header: Option<String>,
    value: String,
    timestamp: Option<i64>,
}

impl RecordView for Record {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.header
            .as_deref()
            .filter(|_| name == "h")
            .map(str::as_bytes)
    }
    fn value(&self) -> &[u8] {
        self.value.as_bytes()
    }
    fn length(&self) -> usize {
        self.value.len()
    }
    fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
}

const NOW: i64 = 1_700_000_000_000;

/// A record in which `kind` finds the number or the text, or nothing.
fn record(kind: &ConditionKind, found: Option<&Value>) -> Option<Record> {
    let number = match found {
        Some(Value::Number(number)) => number.to_string().parse::<i64>().ok(),
        _ => None,
    };
    let empty = Record::default();
    Some(match kind {
        ConditionKind::HeaderValue { .. } => Record {
            header: found.map(|found| match found {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            }),
            ..empty
        },
        ConditionKind::PayloadField { .. } => Record {
            value: found.map_or("{}".to_owned(), |found| format!("{{\"f\": {found}}}")),
            ..empty
        },
        ConditionKind::MessageSize => Record {
            value: "x".repeat(number? as usize),
            ..empty
        },
        ConditionKind::MessageAge => match found {
            Some(_) => Record {
                timestamp: Some(NOW - number?),
                ..empty
            },
            None => empty,
        },
    })
}

fn named(kind: &ConditionKind) -> ConditionKind {
    match kind {
        ConditionKind::HeaderValue { .. } => ConditionKind::header("h"),
        ConditionKind::PayloadField { .. } => ConditionKind::payload("$.f"),
        other => other.clone(),
    }
}

/// Whether an operator takes a constant at all; then what it says, from the definitions.
fn expected(operator: Operator, found: Option<&Value>, constant: &Value) -> Option<bool> {
    let order = match (found, constant) {
        (Some(Value::Number(found)), Value::Number(constant)) => Some(found.cmp(constant)),
        (Some(Value::String(found)), Value::String(constant)) => Some(found.cmp(constant)),
        _ => None,
    };
    let texts = match (found, constant) {
        (Some(Value::String(found)), Value::String(constant)) => Some((found, constant)),
        _ => None,
    };
    let ordered = matches!(constant, Value::Number(_) | Value::String(_));
    let textual = matches!(constant, Value::String(_));
    let answer = match operator {
        Operator::Equals => return Some(found == Some(constant)),
        Operator::NotEquals => return Some(found != Some(constant)),
        Operator::GreaterThan => return ordered.then_some(order == Some(Ordering::Greater)),
        Operator::LessThan => return ordered.then_some(order == Some(Ordering::Less)),
        Operator::GreaterThanOrEqual => {
            return ordered.then_some(order.is_some_and(Ordering::is_ge));
        }
        Operator::LessThanOrEqual => return ordered.then_some(order.is_some_and(Ordering::is_le)),
        Operator::Contains | Operator::Matches => {
            texts.is_some_and(|(found, constant)| found.contains(constant.as_str()))
        }
        Operator::StartsWith => {
            texts.is_some_and(|(found, constant)| found.starts_with(constant.as_str()))
        }
        Operator::EndsWith => {
            texts.is_some_and(|(found, constant)| found.ends_with(constant.as_str()))
        }
    };
    textual.then_some(answer)
}

#[test]
fn every_kind_with_every_operator_negated_and_not() {
    let values: Vec<Value> = vec![
        Value::Null,
        true.into(),
        false.into(),
        4.into(),
        5.into(),
        12.into(),
        "5".into(),
        "abc".into(),
        "ab".into(),
        "bc".into(),
        "b".into(),
        "xabcx".into(),
        "".into(),
    ];
    // Miri is a thousand times slower: two numbers and a text.
    let values = if cfg!(miri) {
        vec![4.into(), 5.into(), "5".into()]
    } else {
        values
    };
    let mut rows = 0;
    for kind in &ConditionKind::ALL {
        let header = matches!(kind, ConditionKind::HeaderValue { .. });
        let measured = matches!(kind, ConditionKind::MessageSize | ConditionKind::MessageAge);
        for &operator in Operator::ALL {
            for constant in &values {
                for negate in [false, true] {
                    let mut condition = Condition::new(named(kind), operator, constant.clone());
                    condition.negate = negate;
                    let mut builder = ConditionSetBuilder::new();
                    let group = builder.add(vec![condition.clone()]);
                    let built = builder.build();
                    let fits = expected(operator, None, constant).is_some()
                        && (!measured || matches!(constant, Value::Number(_)))
                        && (!header || *constant != Value::Null);
                    assert_eq!(built.is_ok(), fits, "{condition}");
                    let Ok(set) = built else { continue };
                    for found in values.iter().map(Some).chain([None]) {
                        let Some(record) = record(kind, found) else {
                            continue;
                        };
                        // A header has no type of its own: `5` is text beside a text, a number beside a number.
                        let typed = match (header, found, constant) {
                            (true, Some(found), Value::String(_)) => {
                                Some(Value::String(match found {
                                    Value::String(text) => text.clone(),
                                    other => other.to_string(),
                                }))
                            }
                            (true, Some(Value::String(text)), Value::Number(_)) => {
                                Some(text.parse().map_or(Value::Null, Value::Number))
                            }
                            _ => found.cloned(),
                        };
                        let plain = expected(operator, typed.as_ref(), constant).unwrap();
                        let mut scratch = ConditionScratch::new();
                        scratch.begin_record(NOW);
                        let holds = set.evaluate(group, &record, &mut scratch);
                        assert_eq!(holds, plain != negate, "{condition} on {record:?}");
                        let explanation = set.explain(group, &record, NOW);
                        assert_eq!(explanation.holds(), holds, "{explanation}");
                        rows += 1;
                    }
                }
            }
        }
    }
    assert!(
        rows > if cfg!(miri) { 50 } else { 2000 },
        "only {rows} rows"
    );
}
