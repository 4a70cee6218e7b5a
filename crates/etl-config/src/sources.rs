//! The documents that make up one configuration, and the way back from a path in it to a line in one of them.

use std::sync::Arc;

use crate::load::Loaded;
use crate::model::Pipeline;
use crate::path::{ConfigPath, Segment};
use crate::problem::{Place, Problem, Severity};
use crate::reader::position_in;
use crate::source::SourceFile;
use crate::tree::Node;

/// Every document of a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub documents: Vec<Arc<Document>>,
}

/// One file's part of a configuration.
#[derive(Debug)]
pub(crate) struct Document {
    pub file: Arc<SourceFile>,
    pub root: Node,
    pub form: Form,
}

/// How a document's own root stands to that of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A whole configuration.
    Whole,
    /// A whole configuration in the table `etl` of somebody else's.
    Wrapped,
    /// The pipeline of this index.
    Pipeline(usize),
    /// The module of this index.
    Module(usize),
}

impl Document {
    /// The part of the document that is configuration.
    pub(crate) fn node(&self) -> &Node {
        match self.form {
            Form::Wrapped => self
                .root
                .field("etl")
                .map_or(&self.root, |entry| &entry.node),
            Form::Whole | Form::Pipeline(_) | Form::Module(_) => &self.root,
        }
    }
}

impl Sources {
    /// A problem at a path, or at the nearest thing around it that is written down.
    pub(crate) fn problem(
        &self,
        severity: Severity,
        path: &ConfigPath,
        message: String,
        hint: Option<String>,
        offset: Option<usize>,
    ) -> Problem {
        let segments = path.segments();
        let place = match self.document(&segments) {
            None => Place::File(String::new()),
            Some((document, rest)) => {
                let mut node = document.node();
                let mut complete = true;
                for segment in rest {
                    match node.step(segment) {
                        Some(inner) => node = inner,
                        None => {
                            complete = false;
                            break;
                        }
                    }
                }
                let mut span = node.span.clone();
                if let Some(offset) = offset.filter(|_| complete) {
                    span.start = position_in(&document.file, node, offset).min(span.end);
                }
                Place::Text(
                    Arc::clone(&document.file),
                    document.file.first_line_of(span),
                )
            }
        };
        Problem::new(severity, place, path.clone(), message, hint)
    }

    /// What is written at a path, as it was written.
    pub(crate) fn as_written(&self, path: &ConfigPath) -> Option<serde_json::Value> {
        let segments = path.segments();
        let (document, rest) = self.document(&segments)?;
        let mut node = document.node();
        for segment in rest {
            node = node.step(segment)?;
        }
        Some(node.as_written())
    }

    /// The document that holds a path, and the path's steps inside it.
    fn document<'a, 'p>(
        &'a self,
        segments: &'p [&'p Segment],
    ) -> Option<(&'a Document, &'p [&'p Segment])> {
        if let [Segment::Key(key), Segment::Index(index), rest @ ..] = segments
            && let Some(form) = match &**key {
                "pipelines" => Some(Form::Pipeline(*index)),
                "modules" => Some(Form::Module(*index)),
                _ => None,
            }
            && let Some(document) = self.documents.iter().find(|document| document.form == form)
        {
            return Some((document, rest));
        }
        let whole = self
            .documents
            .iter()
            .find(|document| matches!(document.form, Form::Whole | Form::Wrapped));
        whole
            .or(self.documents.first())
            .map(|document| (&**document, segments))
    }
}

impl Loaded {
    /// Everything but pipelines and modules, as it was written, with what was put into strings left as it was asked for; and the name of
    /// the document, in whose folder relative paths begin. An empty table where there are pipelines' own documents alone.
    #[must_use]
    pub fn settings_as_written(&self) -> (String, serde_json::Value) {
        let mut documents = self.sources.documents.iter();
        let is_whole =
            |document: &&Arc<Document>| matches!(document.form, Form::Whole | Form::Wrapped);
        let whole = documents.find(is_whole);
        let mut written = whole.map_or_else(
            || serde_json::Value::Object(serde_json::Map::new()),
            |document| document.node().as_written(),
        );
        if let Some(fields) = written.as_object_mut() {
            fields.remove("pipelines");
            fields.remove("modules");
        }
        let named = whole.or(self.sources.documents.first());
        let name = named.map_or("etl.toml", |document| &document.file.name);
        (name.to_owned(), written)
    }

    /// A pipeline's name as its document has it, with what was put into it left as it was asked for (`${VAR}`), so that it may be shown.
    #[must_use]
    pub fn name_as_written(&self, pipeline: &Pipeline) -> String {
        let written = self.sources.as_written(&pipeline.path.key("name"));
        let written = written.as_ref().and_then(serde_json::Value::as_str);
        written.unwrap_or(&pipeline.id).to_owned()
    }
}
