//! TOML 1.1, by the `toml` crate's own spanned tree. It goes on after a mistake, so a file with several shows them all.

use serde_json::Number;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Entry, MAX_NESTING, Node, SyntaxError, Text, Value};
use crate::source::Span;

pub(crate) fn parse(text: &str) -> Result<Node, Vec<SyntaxError>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut errors: Vec<SyntaxError> = errors
        .into_iter()
        .map(|error| SyntaxError {
            span: error.span().unwrap_or(0..0),
            message: error.message().to_owned(),
            hint: None,
        })
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let node = self::table(table.into_inner(), 0..text.len(), 1, &mut errors);
    if errors.is_empty() {
        Ok(node)
    } else {
        Err(errors)
    }
}

fn table(table: DeTable<'_>, span: Span, depth: usize, errors: &mut Vec<SyntaxError>) -> Node {
    if depth > MAX_NESTING {
        errors.push(SyntaxError::nesting(span.clone()));
        return Node {
            value: Value::Null,
            span,
        };
    }
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_span: key.span(),
            node: node(value, &key.span(), depth + 1, errors),
            key: key.into_inner().into_owned(),
        })
        .collect();
    // The crate sorts by name; people read by line.
    entries.sort_by_key(|entry| entry.key_span.start);
    Node {
        value: Value::Table(entries),
        span,
    }
}

fn node(
    value: Spanned<DeValue<'_>>,
    key: &Span,
    depth: usize,
    errors: &mut Vec<SyntaxError>,
) -> Node {
    let span = value.span();
    // A table that only dotted keys or deeper headers make has no place of its own.
    let span = if span.is_empty() { key.clone() } else { span };
    let mut wrong = |message: &str, hint: &str| {
        errors.push(SyntaxError {
            span: span.clone(),
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        });
        Value::Null
    };
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(Text {
            text: text.into_owned(),
            expansions: Vec::new(),
        }),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(value) => Value::DateTime(value.to_string()),
        DeValue::Integer(integer) => {
            let (digits, radix) = (integer.as_str(), integer.radix());
            match (
                i64::from_str_radix(digits, radix),
                u64::from_str_radix(digits, radix),
            ) {
                (Ok(value), _) => Value::Number(value.into()),
                (_, Ok(value)) => Value::Number(value.into()),
                _ => wrong(
                    "an integer of more than 64 bits",
                    "write it as a string if no smaller one will do",
                ),
            }
        }
        DeValue::Float(float) => match float
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(Number::from_f64)
        {
            Some(number) => Value::Number(number),
            None => wrong(
                "a number that is not finite",
                "`inf` and `nan` mean nothing to any field",
            ),
        },
        DeValue::Array(items) if depth > MAX_NESTING => {
            drop(items);
            errors.push(SyntaxError::nesting(span.clone()));
            Value::Null
        }
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| node(item, &span, depth + 1, errors))
                .collect(),
        ),
        DeValue::Table(entries) => return table(entries, span, depth, errors),
    };
    Node { value, span }
}
