//! The rules file of `etl match`: TOML or JSON, with the place of every id and pattern kept for messages.
//!
//! All that is wrong is told in one round: after a mistake the rest is read, and the patterns that could be read are compiled, all the same. An empty list is refused where filters belong: nothing and everything are both likely to be a mistake, and which of them
//! an empty list means depends on where it stands.

use std::fmt;
use std::path::Path;

use etl_filter::Rule;
use serde_json::json;

use super::document::Format;
use super::reading::Reader;

/// Rules, with what is needed to say where one of them stands.
pub struct Rules {
    /// In file order, as the rules are.
    pub ids: Vec<String>,
    pub rules: Vec<Rule>,
    /// For each rule, for each of its filters in the order of [`Rule::filters`]: the byte at which its pattern stands.
    pub(super) patterns: Vec<Vec<usize>>,
    pub(super) id_places: Vec<usize>,
    file: String,
    pub(super) text: String,
}

/// One thing that is wrong with a rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    file: String,
    /// Line and column, from 1.
    position: Option<(usize, usize)>,
    rule: Option<String>,
    message: String,
    /// A pattern, and the byte of it that is meant.
    pattern: Option<(String, usize)>,
}

impl Problem {
    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "file": self.file,
            "line": self.position.map(|(line, _)| line),
            "column": self.position.map(|(_, column)| column),
            "rule": self.rule,
            "message": self.message,
            "pattern": self.pattern.as_ref().map(|(pattern, _)| pattern),
            "position_in_pattern": self.pattern.as_ref().map(|(_, position)| position),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if let Some(rule) = &self.rule {
            write!(f, "rule `{}`: ", printable(rule))?;
        }
        f.write_str(&self.message)?;
        if let Some((pattern, position)) = &self.pattern {
            let before = pattern
                .get(..*position)
                .map_or(0, |text| printable(text).chars().count());
            let pattern = printable(pattern);
            write!(f, "\n    {pattern}\n    {}^", " ".repeat(before))?;
        }
        Ok(())
    }
}

/// Text on one line of a terminal, whatever it holds: control characters as they are written in a string.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_debug());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Reads a rules file, and says all that is wrong with its form. The rules are of use only if nothing is; otherwise they are there so that it
/// shows whether the patterns that could be read can be compiled.
pub fn read(path: &Path, mut text: String) -> (Rules, Vec<Problem>) {
    // Some editors mark a file as Unicode with a character that neither format knows.
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    let mut rules = Rules {
        ids: Vec::new(),
        rules: Vec::new(),
        patterns: Vec::new(),
        id_places: Vec::new(),
        file: path.display().to_string(),
        text,
    };
    let format = Format::of(path, &rules.text);
    let mut reader = Reader::new(format);
    match format.parse(&rules.text) {
        Ok(document) => reader.document(&document, &mut rules),
        Err(wrong) => {
            for (at, message) in wrong {
                reader.wrong(at, message);
            }
        }
    }
    let problems = reader.into_wrong().into_iter().map(|wrong| Problem {
        file: rules.file.clone(),
        position: Some(position(&rules.text, wrong.at)),
        rule: wrong.rule,
        message: wrong.message,
        pattern: None,
    });
    let problems = problems.collect();
    (rules, problems)
}

/// Brings problems that were found one after the other into the order of the file.
pub fn in_file_order(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| problem.position);
}

impl Rules {
    /// What the compiler says about a rule, with its place in the file.
    pub fn problem(&self, error: &etl_filter::BuildError) -> Problem {
        let rule = error.rule().index();
        let filter = error.filter_index();
        let offset = filter
            .and_then(|filter| self.patterns[rule].get(filter))
            .unwrap_or(&self.id_places[rule]);
        let pattern = error.filter().map(|filter| filter.pattern().to_owned());
        Problem {
            file: self.file.clone(),
            position: Some(position(&self.text, *offset)),
            rule: Some(self.ids[rule].clone()),
            message: error.message().to_owned(),
            pattern: pattern.zip(error.position()),
        }
    }
}

/// Line and column, from 1, columns in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}
