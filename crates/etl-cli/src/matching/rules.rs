//! The rules file of `etl match`: TOML or JSON, with the place of every id and pattern kept for messages.
//!
//! All that is wrong is told in one round: after a mistake the rest is read, and the patterns that could be read are compiled, all the same. An empty list is refused where filters belong: nothing and everything are both likely to be a mistake, and which of them
//! an empty list means depends on where it stands.

use std::fmt;
use std::path::Path;
use std::string::FromUtf8Error;

use etl_filter::Rule;
use serde_json::json;

use super::document::Format;
use super::places::Places;
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
    pub(super) places: Places,
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
pub fn read(path: &Path, text: Vec<u8>) -> (Rules, Vec<Problem>) {
    let mut text = match String::from_utf8(text) {
        Ok(text) => text,
        Err(error) => return not_text(path, &error),
    };
    // Some editors mark a file as Unicode with a character that neither format knows.
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    let mut rules = Rules::none(path, text);
    let text = rules.places.text();
    let format = Format::of(path, text);
    let mut reader = Reader::new(format);
    match format.parse(text) {
        Ok(document) => reader.document(&document, &mut rules),
        Err(wrong) => {
            for (at, message) in wrong {
                reader.wrong(at, message);
            }
        }
    }
    let problems = reader.into_wrong().into_iter().map(|wrong| Problem {
        file: rules.file.clone(),
        position: Some(rules.places.position(wrong.at)),
        rule: wrong.rule,
        message: wrong.message,
        pattern: None,
    });
    let problems = problems.collect();
    (rules, problems)
}

/// What is said of a file that is not UTF-8, which both formats are.
fn not_text(path: &Path, error: &FromUtf8Error) -> (Rules, Vec<Problem>) {
    let wrong = error.utf8_error().valid_up_to();
    let before = String::from_utf8_lossy(&error.as_bytes()[..wrong]).into_owned();
    let rules = Rules::none(path, before);
    let problem = Problem {
        file: rules.file.clone(),
        position: Some(rules.places.position(wrong)),
        rule: None,
        message: format!(
            "the file is not UTF-8 text: the byte 0x{:02X} is no part of a character",
            error.as_bytes().get(wrong).copied().unwrap_or_default()
        ),
        pattern: None,
    };
    (rules, vec![problem])
}

/// Brings problems that were found one after the other into the order of the file.
pub fn in_file_order(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| problem.position);
}

impl Rules {
    /// A file of which no rule has been read yet.
    fn none(path: &Path, text: String) -> Self {
        Self {
            ids: Vec::new(),
            rules: Vec::new(),
            patterns: Vec::new(),
            id_places: Vec::new(),
            file: path.display().to_string(),
            places: Places::new(text),
        }
    }

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
            position: Some(self.places.position(*offset)),
            rule: Some(self.ids[rule].clone()),
            message: error.message().to_owned(),
            pattern: pattern.zip(error.position()),
        }
    }
}
