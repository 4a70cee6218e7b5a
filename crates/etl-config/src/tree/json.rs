//! JSON, by `serde_json`: each level is read as a list of raw pieces of the text, whose addresses are their positions.
//!
//! A level is scanned once for each level around it, which the limit on nesting bounds. Duplicate names, which JSON leaves open,
//! are refused: one of the two would be a setting that nobody obeys.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Entry, MAX_NESTING, Node, SyntaxError, Text, Value};
use crate::source::Span;

pub(crate) fn parse(text: &str) -> Result<Node, Vec<SyntaxError>> {
    if text.trim().is_empty() {
        let hint = "write `{}` for a configuration that has every default";
        return Err(vec![SyntaxError {
            span: 0..0,
            message: "the document is empty".to_owned(),
            hint: Some(hint.to_owned()),
        }]);
    }
    let root: &RawValue = serde_json::from_str(text).map_err(|error| vec![syntax(text, &error)])?;
    let mut errors = Vec::new();
    let node = Reader {
        text,
        errors: &mut errors,
    }
    .node(root, 1);
    if errors.is_empty() {
        Ok(node)
    } else {
        Err(errors)
    }
}

struct Reader<'a> {
    text: &'a str,
    errors: &'a mut Vec<SyntaxError>,
}

impl<'a> Reader<'a> {
    fn node(&mut self, raw: &'a RawValue, depth: usize) -> Node {
        let span = self.span(raw);
        let value = self.value(raw, &span, depth).unwrap_or_else(|error| {
            self.errors.push(error);
            Value::Null
        });
        Node { value, span }
    }

    fn value(
        &mut self,
        raw: &'a RawValue,
        span: &Span,
        depth: usize,
    ) -> Result<Value, SyntaxError> {
        let text = raw.get();
        let wrong = |error: serde_json::Error| {
            let mut inner = syntax(text, &error);
            inner.span = span.start + inner.span.start..span.start + inner.span.end;
            inner
        };
        let nested = matches!(text.as_bytes().first(), Some(b'{' | b'['));
        if nested && depth > MAX_NESTING {
            return Err(SyntaxError::nesting(span.start..span.start + 1));
        }
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let Pairs(pairs) = Pairs::read(text).map_err(wrong)?;
                let mut names = HashSet::new();
                let mut entries = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let key_span = self.span(key);
                    let key: String = serde_json::from_str(key.get()).map_err(wrong)?;
                    let node = self.node(value, depth + 1);
                    if names.insert(key.clone()) {
                        entries.push(Entry {
                            key,
                            key_span,
                            node,
                        });
                    } else {
                        self.errors.push(SyntaxError {
                            span: key_span,
                            message: format!("`{key}` is given twice in one object"),
                            hint: Some("keep one of the two".to_owned()),
                        });
                    }
                }
                Value::Table(entries)
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
                Value::List(
                    items
                        .into_iter()
                        .map(|item| self.node(item, depth + 1))
                        .collect(),
                )
            }
            Some(b'"') => Value::Text(Text {
                text: serde_json::from_str(text).map_err(wrong)?,
                expansions: Vec::new(),
            }),
            Some(b't' | b'f') => Value::Bool(serde_json::from_str(text).map_err(wrong)?),
            Some(b'n') => Value::Null,
            _ => Value::Number(serde_json::from_str(text).map_err(wrong)?),
        })
    }

    fn span(&self, raw: &RawValue) -> Span {
        let start = raw.get().as_ptr().addr() - self.text.as_ptr().addr();
        start..start + raw.get().len()
    }
}

/// The fields of an object, in order, each name and value as it is written.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> Pairs<'a> {
    fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(text);
        reader.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'a> Visitor<'a> for PairsVisitor {
    type Value = Pairs<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Pairs<'a>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

/// What `serde_json` says, without its own line and column, at the byte that they mean.
fn syntax(text: &str, error: &serde_json::Error) -> SyntaxError {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let offset = (line_start + error.column().saturating_sub(1)).min(text.len());
    let message = error.to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    SyntaxError {
        span: offset..(offset + 1).min(text.len()),
        message: message.to_owned(),
        hint: None,
    }
}
