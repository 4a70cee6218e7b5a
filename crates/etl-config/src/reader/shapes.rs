//! What single values must be. Each shape knows how to read one and how to say it as JSON Schema.
//!
//! Wherever something else than text is wanted, a string that a substitution fills is taken too, so that numbers and switches
//! can come from the environment.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{At, Definitions, Fields, Reading, Shape, nearest};
use crate::custom_config::CustomConfig;
use crate::path::{ConfigPath, Segment};
use crate::source::Span;
use crate::tree::{Node, Text, Value};

/// Of a schema: text with a substitution in it.
const SUBSTITUTION: &str = r"\$\{";

/// The text of a value that a substitution filled.
fn substituted(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(Text { text, expansions }) if !expansions.is_empty() => Some(text.trim()),
        _ => None,
    }
}

// ---- Booleans

pub(crate) struct Boolean;

/// `true` or `false`.
pub(crate) fn boolean() -> Boolean {
    Boolean
}

impl Shape for Boolean {
    type Value = bool;

    fn read(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<bool> {
        let value = match &node.value {
            Value::Bool(value) => Some(*value),
            _ => substituted(node).and_then(|text| text.parse().ok()),
        };
        if value.is_none() {
            reading.mismatch(node, at, "`true` or `false`");
        }
        value
    }

    fn schema(&self, _: &mut Definitions) -> Json {
        json!({ "type": ["boolean", "string"], "pattern": SUBSTITUTION })
    }
}

// ---- Numbers

pub(crate) struct Integer<T> {
    bounds: RangeInclusive<i128>,
    unit: &'static str,
    make: fn(i128) -> T,
}

/// An integer within bounds, made into what the configuration holds.
pub(crate) fn integer<T>(bounds: RangeInclusive<T>) -> Integer<T>
where
    T: Copy + Into<i128> + TryFrom<i128> + Default,
{
    let bounds = (*bounds.start()).into()..=(*bounds.end()).into();
    // The bounds are of the type itself, so what is within them fits.
    Integer {
        bounds,
        unit: "",
        make: |value| T::try_from(value).unwrap_or_default(),
    }
}

/// A time in milliseconds.
pub(crate) fn milliseconds(bounds: RangeInclusive<u32>) -> Integer<Duration> {
    let make = |value| Duration::from_millis(u64::try_from(value).unwrap_or_default());
    Integer {
        bounds: (*bounds.start()).into()..=(*bounds.end()).into(),
        unit: " milliseconds",
        make,
    }
}

/// A time in seconds.
pub(crate) fn seconds(bounds: RangeInclusive<u32>) -> Integer<Duration> {
    let make = |value| Duration::from_secs(u64::try_from(value).unwrap_or_default());
    Integer {
        bounds: (*bounds.start()).into()..=(*bounds.end()).into(),
        unit: " seconds",
        make,
    }
}

impl<T> Integer<T> {
    /// With the unit that problems name.
    pub(crate) fn of(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }
}

impl<T> Shape for Integer<T> {
    type Value = T;

    fn read(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<T> {
        let value = match &node.value {
            // JSON has one kind of number: 5.0 is an integer, as JSON Schema has it too.
            Value::Number(number) => number.as_i128().or_else(|| whole(number.as_f64()?)),
            _ => substituted(node).and_then(|text| text.parse().ok()),
        };
        let Some(value) = value else {
            reading.mismatch(node, at, "an integer");
            return None;
        };
        if !self.bounds.contains(&value) {
            let (least, most) = (self.bounds.start(), self.bounds.end());
            let found = if substituted(node).is_some() {
                "the substituted number".to_owned()
            } else {
                value.to_string()
            };
            let message = format!("{found} is out of bounds");
            reading.error(
                &node.span,
                at.path(),
                message,
                format!("from {least} to {most}{}", self.unit),
            );
            return None;
        }
        Some((self.make)(value))
    }

    fn schema(&self, _: &mut Definitions) -> Json {
        // Bounds hold for numbers and patterns for strings, each where it applies.
        let mut schema = json!({ "type": ["integer", "string"], "pattern": SUBSTITUTION });
        let number = |value: &i128| {
            i64::try_from(*value).map_or_else(
                |_| json!(u64::try_from(*value).unwrap_or(u64::MAX)),
                Json::from,
            )
        };
        schema["minimum"] = number(self.bounds.start());
        schema["maximum"] = number(self.bounds.end());
        schema
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "checked to be whole and small before"
)]
fn whole(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() < 9.0e15).then_some(value as i128)
}

pub(crate) struct Fraction(RangeInclusive<f64>);

/// A number within bounds.
pub(crate) fn fraction(bounds: RangeInclusive<f64>) -> Fraction {
    Fraction(bounds)
}

impl Shape for Fraction {
    type Value = f64;

    fn read(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<f64> {
        let value = match &node.value {
            Value::Number(number) => number.as_f64(),
            _ => substituted(node).and_then(|text| text.parse().ok()),
        };
        match value {
            Some(value) if self.0.contains(&value) => return Some(value),
            Some(_) => {
                let hint = format!("from {} to {}", self.0.start(), self.0.end());
                reading.error(&node.span, at.path(), "the number is out of bounds", hint);
            }
            None => reading.mismatch(node, at, "a number"),
        }
        None
    }

    fn schema(&self, _: &mut Definitions) -> Json {
        json!({ "type": ["number", "string"], "pattern": SUBSTITUTION, "minimum": self.0.start(), "maximum": self.0.end() })
    }
}

// ---- Text

pub(crate) struct Words<F> {
    most_bytes: usize,
    may_be_empty: bool,
    pattern: Option<&'static str>,
    parse: F,
}

/// What a parser of text says is wrong: at which byte, what, and what to do.
pub(crate) struct Complaint {
    pub offset: usize,
    pub message: String,
    pub hint: Option<String>,
}

/// Text of so many bytes at most, as it is.
pub(crate) fn text(most_bytes: usize) -> impl Shape<Value = String> {
    Words {
        most_bytes,
        may_be_empty: true,
        pattern: None,
        parse: |text: &str| Ok(text.to_owned()),
    }
}

/// Text that is not empty, made into something else.
pub(crate) fn map_text<T, F: Fn(&str) -> Result<T, Complaint>>(
    most_bytes: usize,
    parse: F,
) -> Words<F> {
    Words {
        most_bytes,
        may_be_empty: false,
        pattern: None,
        parse,
    }
}

impl<F> Words<F> {
    /// With a regular expression that the schema shows; the parser checks it itself.
    pub(crate) fn like(mut self, pattern: &'static str) -> Self {
        self.pattern = Some(pattern);
        self
    }
}

impl<T, F: Fn(&str) -> Result<T, Complaint>> Shape for Words<F> {
    type Value = T;

    fn read(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<T> {
        let Value::Text(Text { text, .. }) = &node.value else {
            reading.mismatch(node, at, "a string");
            return None;
        };
        if text.is_empty() && !self.may_be_empty {
            reading.error(&node.span, at.path(), "it is empty", None);
            return None;
        }
        if text.len() > self.most_bytes {
            let message = format!("{} bytes of text", text.len());
            reading.error(
                &node.span,
                at.path(),
                message,
                format!("at most {} bytes", self.most_bytes),
            );
            return None;
        }
        match (self.parse)(text) {
            Ok(value) => Some(value),
            Err(complaint) => {
                reading.error_in_text(
                    node,
                    complaint.offset,
                    at,
                    complaint.message,
                    complaint.hint,
                );
                None
            }
        }
    }

    fn schema(&self, _: &mut Definitions) -> Json {
        // JSON Schema counts characters and the bound is in bytes, so only the loader holds to it exactly.
        let mut schema = json!({ "type": "string", "minLength": usize::from(!self.may_be_empty), "maxLength": self.most_bytes });
        if let Some(pattern) = self.pattern {
            schema["pattern"] = json!(format!("{pattern}|{SUBSTITUTION}"));
        }
        schema
    }
}

pub(crate) struct Choice<T: 'static>(&'static [(&'static str, T)]);

/// One of some names.
pub(crate) fn choice<T: Copy>(names: &'static [(&'static str, T)]) -> Choice<T> {
    Choice(names)
}

impl<T: Copy> Shape for Choice<T> {
    type Value = T;

    fn read(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<T> {
        let all = || self.0.iter().map(|(name, _)| *name);
        let Value::Text(Text { text, expansions }) = &node.value else {
            reading.mismatch(
                node,
                at,
                &format!("a string, one of {}", all().collect::<Vec<_>>().join(", ")),
            );
            return None;
        };
        if let Some((_, value)) = self.0.iter().find(|(name, _)| name == text) {
            return Some(*value);
        }
        let hint = match nearest(text, all()) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => format!("one of {}", all().collect::<Vec<_>>().join(", ")),
        };
        let message = if expansions.is_empty() && text.len() <= 80 {
            format!("unknown value {text:?}")
        } else {
            "unknown value".to_owned()
        };
        reading.error(&node.span, at.path(), message, hint);
        None
    }

    fn schema(&self, _: &mut Definitions) -> Json {
        let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
        json!({ "anyOf": [{ "enum": names }, { "type": "string", "pattern": SUBSTITUTION }] })
    }
}

// ---- What holds other values

pub(crate) struct List<S> {
    items: S,
    least: usize,
}

/// A list of at least so many.
pub(crate) fn list<S: Shape>(least: usize, items: S) -> List<S> {
    List { items, least }
}

impl<S: Shape> Shape for List<S> {
    type Value = Vec<S::Value>;

    fn read(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<Vec<S::Value>> {
        let Value::List(items) = &node.value else {
            reading.mismatch(node, at, "a list");
            return None;
        };
        if items.len() < self.least {
            reading.error(
                &node.span,
                at.path(),
                "the list is empty",
                "give at least one".to_owned(),
            );
            return None;
        }
        let path = at.path();
        let read = |(index, item)| {
            self.items.take(
                item,
                &At {
                    parent: &path,
                    segment: Some(Segment::Index(index)),
                },
                reading,
            )
        };
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    fn schema(&self, definitions: &mut Definitions) -> Json {
        json!({ "type": "array", "items": self.items.schema(definitions), "minItems": self.least })
    }
}

pub(crate) struct Table<T> {
    name: &'static str,
    what: &'static str,
    describe: fn(&mut Fields<'_>) -> T,
}

/// A table: its name in the schema, what problems call it, and the function that describes it.
pub(crate) fn table<T>(
    name: &'static str,
    what: &'static str,
    describe: fn(&mut Fields<'_>) -> T,
) -> Table<T> {
    Table {
        name,
        what,
        describe,
    }
}

impl<T> Table<T> {
    /// What the table is where nothing is given.
    pub(super) fn read_empty(&self, span: Span, path: ConfigPath, reading: &mut Reading) -> T {
        let node = Node {
            value: Value::Table(Vec::new()),
            span,
        };
        Fields::read(self.what, &node, &[], path, reading, self.describe)
    }

    /// What the describing function makes of nothing, for a table that the schema already has.
    pub(super) fn describe_again(&self, definitions: &mut Definitions) -> T {
        Fields::describe(definitions, self.describe).1
    }
}

impl<T> Shape for Table<T> {
    type Value = T;

    fn read(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<T> {
        let Value::Table(entries) = &node.value else {
            reading.mismatch(node, at, "a table");
            return None;
        };
        Some(Fields::read(
            self.what,
            node,
            entries,
            at.path(),
            reading,
            self.describe,
        ))
    }

    fn schema(&self, definitions: &mut Definitions) -> Json {
        if !definitions.contains_key(self.name) {
            // Entered before it is described, so that a table may hold itself.
            definitions.insert(self.name.to_owned(), Json::Null);
            let schema = Fields::schema(definitions, self.describe);
            definitions.insert(self.name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/$defs/{}", self.name) })
    }
}

pub(crate) struct Open {
    schema: fn() -> Json,
    check: fn(&Node) -> Option<&'static str>,
}

/// A value that the configuration hands on as it is, if a check finds nothing that it should have been instead.
pub(crate) fn open(check: fn(&Node) -> Option<&'static str>, schema: fn() -> Json) -> Open {
    Open { schema, check }
}

impl Shape for Open {
    type Value = Json;

    fn read(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<Json> {
        match (self.check)(node) {
            None => Some(node.to_json()),
            Some(expected) => {
                reading.mismatch(node, at, expected);
                None
            }
        }
    }

    fn schema(&self, _: &mut Definitions) -> Json {
        (self.schema)()
    }
}

pub(crate) struct Settings;

/// A module's own settings: anything, handed on as it is.
pub(crate) fn settings() -> Settings {
    Settings
}

impl Shape for Settings {
    type Value = CustomConfig;

    fn read(&self, node: &Node, _: &At<'_>, _: &mut Reading) -> Option<CustomConfig> {
        Some(CustomConfig::of_node(node))
    }

    fn schema(&self, _: &mut Definitions) -> Json {
        json!({})
    }
}
