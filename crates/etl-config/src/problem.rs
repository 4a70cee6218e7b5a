//! What is wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::path::ConfigPath;
use crate::render;
use crate::source::{SourceFile, Span};

/// Whether a configuration can be used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It cannot be used.
    Error,
    /// It can, but probably does not mean what its author meant.
    Warning,
}

/// One thing that is wrong, with its place and, where there is one, a way out.
#[derive(Clone, Debug)]
pub struct Problem {
    severity: Severity,
    path: ConfigPath,
    message: String,
    hint: Option<String>,
    place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A file as a whole: it is missing, or cannot be read as text.
    File(String),
    /// Bytes of a file's text.
    Text(Arc<SourceFile>, Span),
}

impl Problem {
    pub(crate) fn new(
        severity: Severity,
        place: Place,
        path: ConfigPath,
        message: String,
        hint: Option<String>,
    ) -> Self {
        Self {
            severity,
            path,
            message,
            hint,
            place,
        }
    }

    /// Whether the configuration can be used in spite of it.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The file, as it was named when loading.
    #[must_use]
    pub fn file(&self) -> &str {
        match &self.place {
            Place::File(name) => name,
            Place::Text(file, _) => &file.name,
        }
    }

    /// The line, from 1. `None` where the file as a whole is meant.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.position().map(|(line, _)| line)
    }

    /// The character in the line, from 1. `None` where the file as a whole is meant.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.position().map(|(_, column)| column)
    }

    /// The place in the configuration. The root where the text is no configuration at all.
    #[must_use]
    pub fn path(&self) -> &ConfigPath {
        &self.path
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The same, as an error: what `--deny-warnings` does.
    #[must_use]
    pub fn denied(mut self) -> Self {
        self.severity = Severity::Error;
        self
    }

    /// `{severity, file, line, column, path, message, hint}`; what is not known is `null`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        json!({
            "severity": self.severity.to_string(),
            "file": self.file(),
            "line": self.line(),
            "column": self.column(),
            "path": self.path.to_string(),
            "message": self.message,
            "hint": self.hint,
        })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    fn start(&self) -> usize {
        match &self.place {
            Place::File(_) => 0,
            Place::Text(_, span) => span.start,
        }
    }

    fn position(&self) -> Option<(usize, usize)> {
        match &self.place {
            Place::File(_) => None,
            Place::Text(file, span) => Some(file.position(span.start)),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One line: `file:line:column: error: path: message`.
impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.file())?;
        if let Some((line, column)) = self.position() {
            write!(formatter, ":{line}:{column}")?;
        }
        write!(formatter, ": {}: ", self.severity)?;
        if self.path != ConfigPath::root() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Problems of each severity that are told of one document: whoever sees a thousand has sent something else than a configuration, and each costs
/// memory and the time to find its line.
pub(crate) const MOST_OF_A_DOCUMENT: usize = 1000;

/// Says, in the place of the first problem too many, that there are more.
pub(crate) const MORE: &str = "there is more wrong with this document: the first 1000 are told";

/// Every problem of a configuration, in the order of the files and of the lines in them.
///
/// Its `Display` is for people: each problem with its lines of the file, without colour. [`Report::render`] chooses.
#[derive(Clone, Debug, Default)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// A report of these problems.
    #[must_use]
    pub fn new(problems: impl IntoIterator<Item = Problem>) -> Self {
        let mut report = Self::default();
        report.extend(problems);
        report
    }

    /// The problems, sorted.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether the configuration cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many problems of this severity there are.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// For people: each problem with its lines of the file, and a last line that counts them.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render::report(self, colour)
    }

    /// For programs: `{errors, warnings, problems: […]}`, see [`Problem::to_json`].
    #[must_use]
    pub fn to_json(&self) -> Json {
        json!({
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "problems": self.problems.iter().map(Problem::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Extend<Problem> for Report {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.problems.extend(problems);
        // The files of a folder are loaded in the order of their names, and lines come in theirs; the sort is stable.
        self.problems
            .sort_by(|left, right| (left.file(), left.start()).cmp(&(right.file(), right.start())));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
