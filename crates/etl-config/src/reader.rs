//! One description of a document, read in two ways.
//!
//! A table is described by a function over [`Fields`], which asks for each field by name, with a sentence, a default and a
//! [`Shape`]. Called with a table of a file, the function reads it: every problem is noted with its place, and reading goes on
//! with the default, or with a blank where there is none, so that one pass finds everything. Called with no table, the same function
//! writes the JSON Schema. So no field can be read that the schema does not know, nor the other way round, and neither can
//! disagree about a bound.
//!
//! A value that was read beside problems may hold blanks. Whoever looks at it before the load is refused asks
//! [`Fields::is_clean`] first.

mod fields;
pub(crate) mod shapes;

pub(crate) use fields::Fields;
pub(crate) use shapes::{
    boolean, choice, fraction, integer, list, map_text, milliseconds, open, seconds, settings,
    table, text,
};

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::path::{ConfigPath, Segment};
use crate::problem::{MORE, MOST_OF_A_DOCUMENT, Place, Problem, Severity};
use crate::source::{SourceFile, Span};
use crate::tree::{Node, Value};

/// What a value must be.
pub(crate) trait Shape {
    type Value;
    /// The value, or nothing after noting why not.
    fn read(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<Self::Value>;

    /// The same, where nothing has been said about the value yet.
    fn take(&self, node: &Node, at: &At<'_>, reading: &mut Reading) -> Option<Self::Value> {
        if matches!(node.value, Value::Unresolved) {
            // Reported when it was substituted; counted again, so that the tables around it are not taken for clean.
            reading.errors += 1;
            return None;
        }
        self.read(node, at, reading)
    }

    /// The same as JSON Schema.
    fn schema(&self, definitions: &mut Definitions) -> Json;
}

/// The place of a value, made into a path only where somebody needs one.
pub(crate) struct At<'a> {
    pub parent: &'a ConfigPath,
    pub segment: Option<Segment>,
}

impl<'a> At<'a> {
    pub(crate) fn here(parent: &'a ConfigPath) -> Self {
        Self {
            parent,
            segment: None,
        }
    }

    pub(crate) fn path(&self) -> ConfigPath {
        match &self.segment {
            Some(segment) => self.parent.join(segment.clone()),
            None => self.parent.clone(),
        }
    }
}

/// The reading of one file.
pub(crate) struct Reading {
    pub file: Arc<SourceFile>,
    pub problems: Vec<Problem>,
    pub errors: usize,
    /// Errors and warnings that were noted.
    noted: (usize, usize),
}

/// The named tables of a schema.
pub(crate) type Definitions = Map<String, Json>;

impl Reading {
    pub(crate) fn new(file: Arc<SourceFile>) -> Self {
        Self {
            file,
            problems: Vec::new(),
            errors: 0,
            noted: (0, 0),
        }
    }

    pub(crate) fn error(
        &mut self,
        span: &Span,
        path: ConfigPath,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.errors += 1;
        self.note(Severity::Error, span, path, message.into(), hint.into());
    }

    pub(crate) fn warning(
        &mut self,
        span: &Span,
        path: ConfigPath,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.note(Severity::Warning, span, path, message.into(), hint.into());
    }

    fn note(
        &mut self,
        severity: Severity,
        span: &Span,
        path: ConfigPath,
        message: String,
        hint: Option<String>,
    ) {
        let noted = match severity {
            Severity::Error => &mut self.noted.0,
            Severity::Warning => &mut self.noted.1,
        };
        *noted += 1;
        // One severity does not hide the other: a warning is no reason to take a document that has errors.
        let (message, hint) = match noted.checked_sub(MOST_OF_A_DOCUMENT) {
            None | Some(0) => (message, hint),
            Some(1) => (MORE.to_owned(), None),
            Some(_) => return,
        };
        let place = Place::Text(Arc::clone(&self.file), span.clone());
        self.problems
            .push(Problem::new(severity, place, path, message, hint));
    }

    /// Notes that a value is of another type than it must be.
    pub(crate) fn mismatch(&mut self, node: &Node, at: &At<'_>, expected: &str) {
        let hint = match (&node.value, expected) {
            (Value::Text(text), _)
                if text.text.parse::<f64>().is_ok() && !expected.contains("string") =>
            {
                Some("remove the quotes".to_owned())
            }
            (Value::Null, _) => Some("leave the field out for its default".to_owned()),
            _ => None,
        };
        self.error(
            &node.span,
            at.path(),
            format!("expected {expected}, found {}", node.describe()),
            hint,
        );
    }

    /// Notes what is wrong inside a string, at a byte of it.
    pub(crate) fn error_in_text(
        &mut self,
        node: &Node,
        offset: usize,
        at: &At<'_>,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let start = position_in(&self.file, node, offset);
        let end = end_in(&self.file, node).max(start);
        self.error(&(start..end), at.path(), message, hint);
    }
}

/// Where a byte of a string stands in its file.
pub(crate) fn position_in(file: &SourceFile, node: &Node, offset: usize) -> usize {
    match &node.value {
        Value::Text(text) => file.in_string(node.span.clone(), text.written(offset)),
        _ => node.span.start,
    }
}

/// Where a string's last byte ends in its file, before what closes it.
pub(crate) fn end_in(file: &SourceFile, node: &Node) -> usize {
    match &node.value {
        Value::Text(text) => position_in(file, node, text.text.len()),
        _ => node.span.end,
    }
}

/// The nearest of some names, where one is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::jaro_winkler(&folded, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggests_only_what_may_be_meant() {
        let known = ["pattern", "filter_type", "case_sensitive", "negate"];
        assert_eq!(nearest("patern", known), Some("pattern"));
        assert_eq!(nearest("caseSensitive", known), Some("case_sensitive"));
        assert_eq!(nearest("Negated", known), Some("negate"));
        assert_eq!(nearest("colour", known), None);
    }
}
