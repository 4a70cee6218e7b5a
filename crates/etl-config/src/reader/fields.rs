//! The fields of one table.

use serde_json::{Map, Value as Json, json};

use super::{At, Definitions, Reading, Shape, nearest};
use crate::path::{ConfigPath, Segment};
use crate::source::Span;
use crate::tree::{Entry, Node};

/// One table, as it is read or as it is described.
pub(crate) struct Fields<'a>(Mode<'a>);

enum Mode<'a> {
    Read(Table<'a>),
    Describe(Description<'a>),
}

struct Table<'a> {
    entries: &'a [Entry],
    /// What the table is called in problems, and where it stands.
    what: &'static str,
    span: Span,
    path: ConfigPath,
    known: Vec<&'static str>,
    /// Required fields that are not there, with what is said about them.
    missing: Vec<(&'static str, &'static str)>,
    errors_before: usize,
    reading: &'a mut Reading,
}

struct Description<'a> {
    properties: Map<String, Json>,
    required: Vec<Json>,
    rules: Map<String, Json>,
    definitions: &'a mut Definitions,
}

impl<'a> Fields<'a> {
    /// Reads a table with a function that describes it, and refuses what the function did not ask for.
    pub(crate) fn read<T>(
        what: &'static str,
        node: &'a Node,
        entries: &'a [Entry],
        path: ConfigPath,
        reading: &'a mut Reading,
        describe: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> T {
        let errors_before = reading.errors;
        let span = reading.file.first_line_of(node.span.clone());
        let mut fields = Fields(Mode::Read(Table {
            entries,
            what,
            span,
            path,
            known: Vec::new(),
            missing: Vec::new(),
            errors_before,
            reading,
        }));
        let value = describe(&mut fields);
        fields.finish();
        value
    }

    /// The schema of a table that a function describes.
    pub(crate) fn schema<T>(
        definitions: &mut Definitions,
        describe: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Json {
        Self::describe(definitions, describe).0
    }

    /// The schema, and what the function makes of nothing.
    pub(crate) fn describe<T>(
        definitions: &mut Definitions,
        describe: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> (Json, T) {
        let mut fields = Fields(Mode::Describe(Description {
            properties: Map::new(),
            required: Vec::new(),
            rules: Map::new(),
            definitions,
        }));
        let blank = describe(&mut fields);
        let Mode::Describe(description) = fields.0 else {
            return (Json::Bool(true), blank);
        };
        let mut schema = json!({ "type": "object", "properties": description.properties, "additionalProperties": false });
        if !description.required.is_empty() {
            schema["required"] = Json::Array(description.required);
        }
        if let Json::Object(schema) = &mut schema {
            schema.extend(description.rules);
        }
        (schema, blank)
    }

    /// A field that must be there. A blank stands for it where it is not, and a problem is noted.
    pub(crate) fn required<S: Shape>(
        &mut self,
        name: &'static str,
        about: &'static str,
        shape: S,
    ) -> S::Value
    where
        S::Value: Default,
    {
        if let Mode::Describe(description) = &mut self.0 {
            description.required.push(json!(name));
        }
        if let Mode::Read(table) = &mut self.0
            && !table.entries.iter().any(|entry| entry.key == name)
        {
            table.known.push(name);
            table.missing.push((name, about));
            table.reading.errors += 1;
            return S::Value::default();
        }
        self.field(name, about, None, &shape).unwrap_or_default()
    }

    /// A field that may be left out for its default. The default is given as users write it and read like any other value, so
    /// that what the schema shows is what holds.
    pub(crate) fn or<S: Shape>(
        &mut self,
        name: &'static str,
        about: &'static str,
        default: impl Into<Json>,
        shape: S,
    ) -> S::Value
    where
        S::Value: Default,
    {
        let default = default.into();
        let given = self.field(name, about, Some(&default), &shape);
        match &mut self.0 {
            Mode::Read(table) => given.or_else(|| {
                let at = At {
                    parent: &table.path,
                    segment: Some(Segment::Key(name.into())),
                };
                shape.read(
                    &Node::scalar(default, table.span.clone()),
                    &at,
                    table.reading,
                )
            }),
            Mode::Describe(_) => given,
        }
        .unwrap_or_default()
    }

    /// A table that may be left out, and then has all its defaults.
    pub(crate) fn section<T>(
        &mut self,
        name: &'static str,
        about: &'static str,
        shape: super::shapes::Table<T>,
    ) -> T {
        if let Some(value) = self.field(name, about, Some(&json!({})), &shape) {
            return value;
        }
        match &mut self.0 {
            Mode::Read(table) => {
                shape.read_empty(table.span.clone(), table.path.key(name), table.reading)
            }
            Mode::Describe(description) => shape.describe_again(description.definitions),
        }
    }

    /// A field that may be left out, and then means nothing.
    pub(crate) fn optional<S: Shape>(
        &mut self,
        name: &'static str,
        about: &'static str,
        shape: S,
    ) -> Option<S::Value> {
        self.field(name, about, None, &shape)
    }

    fn field<S: Shape>(
        &mut self,
        name: &'static str,
        about: &'static str,
        default: Option<&Json>,
        shape: &S,
    ) -> Option<S::Value> {
        match &mut self.0 {
            Mode::Read(table) => {
                table.known.push(name);
                let entry = table.entries.iter().find(|entry| entry.key == name)?;
                let at = At {
                    parent: &table.path,
                    segment: Some(Segment::Key(name.into())),
                };
                shape.take(&entry.node, &at, table.reading)
            }
            Mode::Describe(description) => {
                let mut schema = shape.schema(description.definitions);
                schema["description"] = json!(about);
                if let Some(default) = default {
                    schema["default"] = default.clone();
                }
                description.properties.insert(name.to_owned(), schema);
                None
            }
        }
    }

    /// Says a rule over several fields in the schema; the describing function checks it itself.
    pub(crate) fn rule(&mut self, keyword: &str, rule: Json) {
        if let Mode::Describe(description) = &mut self.0 {
            description.rules.insert(keyword.to_owned(), rule);
        }
    }

    /// Whether nothing was wrong with this table, and what is in it, so far. Never while describing.
    pub(crate) fn is_clean(&self) -> bool {
        match &self.0 {
            Mode::Read(table) => table.errors_before == table.reading.errors,
            Mode::Describe(_) => false,
        }
    }

    /// Where the table stands.
    pub(crate) fn path(&self) -> ConfigPath {
        match &self.0 {
            Mode::Read(table) => table.path.clone(),
            Mode::Describe(_) => ConfigPath::root(),
        }
    }

    /// Whether every field that is given has been asked for. Where one has not, it may be the misspelt one that seems to be missing,
    /// and is reported alone.
    pub(crate) fn all_known(&self) -> bool {
        match &self.0 {
            Mode::Read(table) => table
                .entries
                .iter()
                .all(|entry| table.known.contains(&entry.key.as_str())),
            Mode::Describe(_) => true,
        }
    }

    /// Whether a field is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// A field's value as it is written.
    pub(crate) fn node(&self, name: &str) -> Option<&'_ Node> {
        match &self.0 {
            Mode::Read(table) => table
                .entries
                .iter()
                .find(|entry| entry.key == name)
                .map(|entry| &entry.node),
            Mode::Describe(_) => None,
        }
    }

    /// Notes what is wrong with a field, or with the table where the field is not given.
    pub(crate) fn error(
        &mut self,
        name: &'static str,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        if let Some((span, path, reading)) = self.place(name) {
            reading.error(&span, path, message, hint);
        }
    }

    /// Notes what is doubtful about a field, or about the table where the field is not given.
    pub(crate) fn warning(
        &mut self,
        name: &'static str,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        if let Some((span, path, reading)) = self.place(name) {
            reading.warning(&span, path, message, hint);
        }
    }

    /// The same about a place somewhere in this table.
    pub(crate) fn warning_at(
        &mut self,
        path: &ConfigPath,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let Mode::Read(table) = &mut self.0 else {
            return;
        };
        let mut span = table.span.clone();
        let mut steps = path
            .segments()
            .into_iter()
            .skip(table.path.segments().len());
        let first = steps.next().and_then(|step| match step {
            Segment::Key(key) => table.entries.iter().find(|entry| entry.key == *key),
            Segment::Index(_) => None,
        });
        let mut node = first.map(|entry| &entry.node);
        while let Some(found) = node {
            span = found.span.clone();
            node = steps.next().and_then(|step| found.step(step));
        }
        table.reading.warning(&span, path.clone(), message, hint);
    }

    fn place(&mut self, name: &'static str) -> Option<(Span, ConfigPath, &mut Reading)> {
        match &mut self.0 {
            Mode::Read(table) => Some(match table.entries.iter().find(|entry| entry.key == name) {
                Some(entry) => (
                    entry.node.span.clone(),
                    table.path.key(name),
                    &mut *table.reading,
                ),
                None => (table.span.clone(), table.path.clone(), &mut *table.reading),
            }),
            Mode::Describe(_) => None,
        }
    }

    /// Reports what nobody asked for and what was asked for in vain; where one may be the other misspelt, only once.
    fn finish(&mut self) {
        let Mode::Read(table) = &mut self.0 else {
            return;
        };
        let mut misspelt = Vec::new();
        for entry in table
            .entries
            .iter()
            .filter(|entry| !table.known.contains(&entry.key.as_str()))
        {
            let hint = match nearest(&entry.key, table.known.iter().copied()) {
                Some(name) => {
                    misspelt.push(name);
                    format!("did you mean `{name}`?")
                }
                None => format!("{} has: {}", table.what, table.known.join(", ")),
            };
            let message = format!("unknown field `{}`", entry.key.escape_debug());
            table.reading.error(
                &entry.key_span,
                table.path.key(entry.key.clone()),
                message,
                hint,
            );
        }
        for (name, about) in table
            .missing
            .iter()
            .filter(|(name, _)| !misspelt.contains(name))
        {
            let message = format!("{} needs `{name}`", table.what);
            table.reading.error(
                &table.span,
                table.path.clone(),
                message,
                format!("`{name}`: {}", lower_first(about)),
            );
        }
    }
}

fn lower_first(sentence: &str) -> String {
    let mut characters = sentence.trim_end_matches('.').chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(characters).collect()
    })
}
