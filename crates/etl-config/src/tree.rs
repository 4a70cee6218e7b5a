//! A document as a tree of values that know where they stand.
//!
//! TOML and JSON both become this tree, so everything after it is written once. Tables keep the order of the file, integers keep
//! every digit that 64 bits hold, and strings know which of their parts came from elsewhere. Secrets are never in them, only
//! beside them.

pub(crate) mod json;
pub(crate) mod toml;

use serde_json::{Map, Number, Value as Json};

use crate::path::Segment;
use crate::secret::Secret;
use crate::source::Span;

/// Tables and lists inside each other, at most.
pub(crate) const MAX_NESTING: usize = 32;

#[derive(Debug)]
pub(crate) struct Node {
    pub value: Value,
    pub span: Span,
}

#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(Text),
    /// A string whose substitution failed, which has been reported. Nothing else is said about it.
    Unresolved,
    /// TOML's dates and times, as they are written.
    DateTime(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// One field of a table.
#[derive(Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Node,
}

#[derive(Debug)]
pub(crate) struct Text {
    pub text: String,
    /// What a substitution put there, in order.
    pub expansions: Vec<Expansion>,
}

/// Bytes of a text that replaced others.
#[derive(Debug)]
pub(crate) struct Expansion {
    /// In the text as it is now.
    pub now: Span,
    /// In the text as it was written.
    pub written: Span,
    /// What was written there.
    pub source: Box<str>,
    /// The secret that belongs there. The text holds what was written instead.
    pub secret: Option<Secret>,
}

/// A document that is not even a tree.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub span: Span,
    pub message: String,
    pub hint: Option<String>,
}

impl SyntaxError {
    pub(crate) fn nesting(span: Span) -> Self {
        Self {
            span,
            message: format!("more than {MAX_NESTING} tables and lists inside each other"),
            hint: Some("flatten it: no field of a configuration needs as many levels".to_owned()),
        }
    }
}

impl Text {
    /// Where a byte of the text as it is now stands in the text as it was written.
    pub(crate) fn written(&self, offset: usize) -> usize {
        let Some(last) = self
            .expansions
            .iter()
            .rev()
            .find(|expansion| expansion.now.start <= offset)
        else {
            return offset;
        };
        if offset < last.now.end {
            last.written.start
        } else {
            offset - last.now.end + last.written.end
        }
    }

    /// Whether a part of it is a secret.
    pub(crate) fn holds_secret(&self) -> bool {
        let mut expansions = self.expansions.iter();
        expansions.any(|expansion| expansion.secret.is_some())
    }

    /// The text as it was written.
    fn as_written(&self) -> String {
        let mut written = String::with_capacity(self.text.len());
        let mut position = 0;
        for expansion in &self.expansions {
            written.push_str(&self.text[position..expansion.now.start]);
            written.push_str(&expansion.source);
            position = expansion.now.end;
        }
        written.push_str(&self.text[position..]);
        written
    }
}

impl Node {
    /// A node of a scalar that no file holds; what is not scalar is an empty table.
    pub(crate) fn scalar(value: Json, span: Span) -> Self {
        let value = match value {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(value),
            Json::Number(number) => Value::Number(number),
            Json::String(text) => Value::Text(Text {
                text,
                expansions: Vec::new(),
            }),
            Json::Array(_) => Value::List(Vec::new()),
            Json::Object(_) => Value::Table(Vec::new()),
        };
        Self { value, span }
    }

    /// What a person calls it.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Unresolved => "a string that could not be filled".to_owned(),
            Value::Bool(value) => format!("the boolean `{value}`"),
            Value::Number(number) if number.is_f64() => format!("the number {number}"),
            Value::Number(number) => format!("the integer {number}"),
            // What came from the environment may be a secret, and is never repeated.
            Value::Text(text) if !text.expansions.is_empty() => {
                "a string from a substitution".to_owned()
            }
            Value::Text(text) if text.text.chars().count() > 40 => "a string".to_owned(),
            Value::Text(text) => format!("the string {:?}", text.text),
            Value::DateTime(_) => "a date-time".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }

    pub(crate) fn to_json(&self) -> Json {
        self.json(&|text| text.text.clone())
    }

    /// As it was written: what a substitution put into a string is not there, but what asked for it.
    pub(crate) fn as_written(&self) -> Json {
        self.json(&Text::as_written)
    }

    fn json(&self, of_text: &dyn Fn(&Text) -> String) -> Json {
        match &self.value {
            Value::Null | Value::Unresolved => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => Json::String(of_text(text)),
            Value::DateTime(text) => Json::String(text.clone()),
            Value::List(items) => {
                Json::Array(items.iter().map(|item| item.json(of_text)).collect())
            }
            Value::Table(entries) => Json::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.json(of_text)))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// Whether a substitution may stand in it.
    pub(crate) fn may_hold_text(&self) -> bool {
        match &self.value {
            Value::Text(text) => text.text.contains("${"),
            Value::List(_) | Value::Table(_) => true,
            _ => false,
        }
    }

    /// The field of this name, where this is a table that has it.
    pub(crate) fn field(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn field_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Table(entries) => {
                let entry = entries.iter_mut().find(|entry| entry.key == key);
                entry.map(|entry| &mut entry.node)
            }
            _ => None,
        }
    }

    /// One step down, where there is something.
    pub(crate) fn step(&self, segment: &Segment) -> Option<&Self> {
        match (segment, &self.value) {
            (Segment::Key(key), _) => self.field(key).map(|entry| &entry.node),
            (Segment::Index(index), Value::List(items)) => items.get(*index),
            (Segment::Index(_), _) => None,
        }
    }
}
