//! A rules file as a tree of values that know where they stand, whether it is TOML or JSON.
//!
//! What a value should be is for its reader to say: here only the syntax is looked at, and that no field is given twice.

use std::collections::HashSet;
use std::path::Path;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Tables and lists inside each other, at most: twice what rules may nest, and what is around them.
const MAX_NESTING: usize = 80;

/// A value, and the byte at which it stands.
#[derive(Debug)]
pub struct Node {
    pub at: usize,
    pub value: Value,
}

#[derive(Debug)]
pub enum Value {
    Null,
    Bool(bool),
    /// A number, a date: nothing that a rules file has.
    Other(&'static str),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// One field of a table.
#[derive(Debug)]
pub struct Entry {
    pub key: String,
    pub at: usize,
    pub node: Node,
}

/// What is wrong with the text, and at which byte.
pub type Wrong = (usize, String);

/// How a rules file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Toml,
    Json,
}

impl Format {
    /// By the ending of the file's name, or by how its text begins.
    pub fn of(path: &Path, text: &str) -> Self {
        let is_json = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => true,
            Some("toml") => false,
            // A table of TOML begins with a bracket too, but not one that holds a value.
            _ => text.trim_start().starts_with('{'),
        };
        if is_json { Self::Json } else { Self::Toml }
    }

    /// What it calls a table.
    pub fn table(self) -> &'static str {
        match self {
            Self::Toml => "a table",
            Self::Json => "an object",
        }
    }

    /// What a value is, in a word.
    pub fn describe(self, value: &Value) -> &'static str {
        match value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Other(what) => what,
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => self.table(),
        }
    }

    /// The tree of a text.
    pub fn parse(self, text: &str) -> Result<Node, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let node = match self {
            Self::Toml => toml(text, &mut wrong),
            Self::Json => json(text, &mut wrong),
        };
        if wrong.is_empty() {
            Ok(node)
        } else {
            Err(wrong)
        }
    }
}

fn nested(at: usize, wrong: &mut Vec<Wrong>) -> Value {
    wrong.push((
        at,
        format!("more than {MAX_NESTING} tables and lists inside each other"),
    ));
    Value::Null
}

fn toml(text: &str, wrong: &mut Vec<Wrong>) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text);
    wrong.extend(errors.into_iter().map(|error| {
        let start = error.span().map_or(0, |span| span.start);
        (start, error.message().to_owned())
    }));
    Node {
        at: 0,
        value: toml_table(table.into_inner(), 1, wrong),
    }
}

fn toml_table(table: DeTable<'_>, depth: usize, wrong: &mut Vec<Wrong>) -> Value {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let at = key.span().start;
            Entry {
                node: toml_node(value, at, depth + 1, wrong),
                key: key.into_inner().into_owned(),
                at,
            }
        })
        .collect();
    // The parser sorts by name; people read by line.
    entries.sort_by_key(|entry| entry.at);
    Value::Table(entries)
}

fn toml_node(
    value: Spanned<DeValue<'_>>,
    around: usize,
    depth: usize,
    wrong: &mut Vec<Wrong>,
) -> Node {
    let span = value.span();
    // What only dotted keys or headers make has no place of its own.
    let at = if span.is_empty() { around } else { span.start };
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Integer(_) | DeValue::Float(_) => Value::Other("a number"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(_) | DeValue::Table(_) if depth > MAX_NESTING => nested(at, wrong),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| toml_node(item, at, depth + 1, wrong))
                .collect(),
        ),
        DeValue::Table(table) => toml_table(table, depth, wrong),
    };
    Node { at, value }
}

/// Each level is read as raw pieces of the text, whose addresses are their places.
fn json(text: &str, wrong: &mut Vec<Wrong>) -> Node {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => Json { text, wrong }.node(raw, 1),
        Err(error) => {
            wrong.push(syntax(text, 0, &error));
            Node {
                at: 0,
                value: Value::Null,
            }
        }
    }
}

struct Json<'a> {
    text: &'a str,
    wrong: &'a mut Vec<Wrong>,
}

impl<'a> Json<'a> {
    fn at(&self, raw: &RawValue) -> usize {
        raw.get().as_ptr().addr() - self.text.as_ptr().addr()
    }

    fn node(&mut self, raw: &'a RawValue, depth: usize) -> Node {
        let at = self.at(raw);
        let value = self.value(raw, at, depth).unwrap_or_else(|error| {
            self.wrong.push(syntax(raw.get(), at, &error));
            Value::Null
        });
        Node { at, value }
    }

    fn value(
        &mut self,
        raw: &'a RawValue,
        at: usize,
        depth: usize,
    ) -> Result<Value, serde_json::Error> {
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'{' | b'[') if depth > MAX_NESTING => nested(at, self.wrong),
            Some(b'{') => {
                let pairs = serde_json::Deserializer::from_str(text).deserialize_map(Pairs)?;
                let mut names = HashSet::new();
                let mut entries = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let at = self.at(key);
                    let key: String = serde_json::from_str(key.get())?;
                    let node = self.node(value, depth + 1);
                    if names.insert(key.clone()) {
                        entries.push(Entry { key, at, node });
                    } else {
                        self.wrong.push((at, format!("`{key}` is given twice")));
                    }
                }
                Value::Table(entries)
            }
            Some(b'[') => Value::List(
                serde_json::from_str::<Vec<&RawValue>>(text)?
                    .into_iter()
                    .map(|item| self.node(item, depth + 1))
                    .collect(),
            ),
            Some(b'"') => Value::Text(serde_json::from_str(text)?),
            Some(b't' | b'f') => Value::Bool(serde_json::from_str(text)?),
            Some(b'n') => Value::Null,
            _ => Value::Other("a number"),
        })
    }
}

/// Reads the fields of an object in order, each name and value as it is written.
struct Pairs;

impl<'a> Visitor<'a> for Pairs {
    type Value = Vec<(&'a RawValue, &'a RawValue)>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

/// What `serde_json` says of a part of the text that starts at `at`, without its own line and column, at the byte that they mean.
fn syntax(part: &str, at: usize, error: &serde_json::Error) -> Wrong {
    let lines: usize = part
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let offset = (lines + error.column().saturating_sub(1)).min(part.len());
    let message = error.to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    (at + offset, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_where_they_stand() {
        let texts = [
            (Format::Json, "{\n \"a\": [true, {\"b\": \"c\"}]}"),
            (Format::Toml, "\n a = [true, {b = \"c\"}]"),
        ];
        for (format, text) in texts {
            let node = format.parse(text).expect("it is well-formed");
            let Value::Table(entries) = &node.value else {
                panic!("{node:?}")
            };
            let [a] = &entries[..] else {
                panic!("{entries:?}")
            };
            assert_eq!(
                (a.key.as_str(), a.at),
                ("a", text.find(['a', '"']).unwrap())
            );
            let Value::List(items) = &a.node.value else {
                panic!("{a:?}")
            };
            assert_eq!(a.node.at, text.find('[').unwrap());
            let Value::Table(inner) = &items[1].value else {
                panic!("{items:?}")
            };
            assert_eq!(inner[0].node.at, text.find("\"c\"").unwrap());
        }
    }

    #[test]
    fn nesting_ends_somewhere() {
        let nested = |open: &str, close: &str, depth| {
            format!("{}{}", open.repeat(depth), close.repeat(depth))
        };
        let json = format!("{{\"a\": {}}}", nested("[", "]", 100_000));
        assert!(Format::Json.parse(&json).is_err());
        let toml = format!("a = {}", nested("[", "]", 100_000));
        assert!(Format::Toml.parse(&toml).is_err());
        let json = format!("{{\"a\": {}}}", nested("[", "]", MAX_NESTING - 1));
        assert!(Format::Json.parse(&json).is_ok());
    }

    #[test]
    fn a_name_is_given_once() {
        let twice = Format::Json.parse("{\"a\": 1,\n\"a\": 2}").unwrap_err();
        assert_eq!(twice, [(9, "`a` is given twice".to_owned())]);
        assert!(Format::Toml.parse("a = 1\na = 2").is_err());
    }
}
