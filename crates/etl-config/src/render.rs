//! Problems as people read them: miette's snippets, over a small excerpt of the file.
//!
//! The excerpt is cut before miette sees it, so that a report costs its problems and not its files, a document on one endless
//! line shows only the part that matters, and no byte of a file reaches a terminal as a command.

use std::fmt;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

use crate::path::ConfigPath;
use crate::problem::{Place, Problem, Report, Severity};
use crate::source::{SourceFile, Span};

const WIDTH: usize = 120;
/// Bytes of a line that are shown on either side of what is meant.
const AROUND: usize = 160;

pub(crate) fn report(report: &Report, colour: bool) -> String {
    let theme = if colour {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(WIDTH)
        .with_links(false);
    let mut text = String::new();
    for problem in report.problems() {
        let snippet = Snippet::of(problem);
        // Writing to a string cannot fail; a snippet that miette cannot show still has its line.
        if handler.render_report(&mut text, &snippet).is_err() {
            text.push_str(&problem.to_string());
        }
        text.push('\n');
    }
    text.push_str(&summary(report));
    text
}

fn summary(report: &Report) -> String {
    let count = |severity, one: &str| match report.count(severity) {
        0 => None,
        1 => Some(format!("1 {one}")),
        many => Some(format!("{many} {one}s")),
    };
    let counts: Vec<String> = [
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if counts.is_empty() {
        "no problems\n".to_owned()
    } else {
        format!("{}\n", counts.join(", "))
    }
}

#[derive(Debug)]
struct Snippet<'a> {
    problem: &'a Problem,
    excerpt: Option<Excerpt>,
}

impl<'a> Snippet<'a> {
    fn of(problem: &'a Problem) -> Self {
        let excerpt = match problem.place() {
            Place::File(_) => None,
            Place::Text(file, span) => Some(Excerpt::cut(file, file.first_line_of(span.clone()))),
        };
        Self { problem, excerpt }
    }
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Place::File(name) = self.problem.place() {
            write!(formatter, "{name}: ")?;
        }
        formatter.write_str(self.problem.message())
    }
}

impl std::error::Error for Snippet<'_> {}

impl Diagnostic for Snippet<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let path = self.problem.path();
        (*path != ConfigPath::root()).then(|| Box::new(path) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity() {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem
            .hint()
            .map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.excerpt
            .as_ref()
            .map(|excerpt| excerpt as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let excerpt = self.excerpt.as_ref()?;
        let label =
            LabeledSpan::new_primary_with_span(None, (excerpt.meant.start, excerpt.meant.len()));
        Some(Box::new(std::iter::once(label)))
    }
}

/// The line that is meant, with one before and one after, each byte of it harmless.
#[derive(Debug)]
struct Excerpt {
    name: String,
    text: String,
    /// Of the file, where `text` begins.
    start: usize,
    /// Of the file.
    meant: Span,
    /// Line of `start`, and line and column of `meant`, all from 0.
    first_line: usize,
    line: usize,
    column: usize,
}

impl Excerpt {
    fn cut(file: &SourceFile, meant: Span) -> Self {
        let (line, column) = file.position(meant.start);
        let (line, column) = (line - 1, column - 1);
        let own = file.line(line);
        let left = file
            .text
            .floor_char_boundary(meant.start.saturating_sub(AROUND))
            .max(own.start);
        let right = file
            .text
            .ceil_char_boundary((meant.end + AROUND).min(own.end))
            .max(meant.end);
        let short = |line: usize| Some(file.line(line)).filter(|span| span.len() <= AROUND * 2);
        let whole = left == own.start && right == own.end.max(meant.end);
        let before = if whole && line > 0 {
            short(line - 1)
        } else {
            None
        };
        let after = if whole && line + 1 < file.line_count() {
            short(line + 1)
        } else {
            None
        };
        let start = before.as_ref().map_or(left, |before| before.start);
        let end = after.map_or(right, |after| after.end);
        let harmless = |character: char| {
            if character.is_ascii_control() && !matches!(character, '\t' | '\n' | '\r') {
                '?'
            } else {
                character
            }
        };
        Self {
            name: file.name.clone(),
            text: file.text[start..end].chars().map(harmless).collect(),
            start,
            meant,
            first_line: line - usize::from(before.is_some()),
            line,
            column,
        }
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        _after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // With no context asked for, miette wants to know where the span itself begins.
        let (start, line, column) = if before == 0 {
            (self.meant.start, self.line, self.column)
        } else {
            (self.start, self.first_line, 0)
        };
        debug_assert_eq!(span.offset(), self.meant.start);
        let text = &self.text.as_bytes()[start - self.start..];
        let lines = self.text.lines().count();
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            text,
            (start, text.len()).into(),
            line,
            column,
            lines,
        )))
    }
}
