//! What a check has found: where, what is wrong, and what to do about it.
//!
//! A check returns all its violations; printing and the exit code are the same for every check.

use std::fmt;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path from the top of the repository, or the name of a package.
    pub place: String,
    /// Line in the file, counted from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Violation {
    /// A violation of a whole file or package.
    pub fn of(
        place: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            place: place.into(),
            line: None,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// The same violation, at one line.
    pub fn at(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.place)?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {}\n    {}", self.message, self.remedy)
    }
}

/// Prints what a check found, and turns it into the chore's result.
pub fn report(check: &str, looked_at: &str, violations: &[Violation]) -> Result<(), String> {
    for violation in violations {
        eprintln!("{violation}");
    }
    if violations.is_empty() {
        eprintln!("{check}: nothing to complain about in {looked_at}");
        return Ok(());
    }
    let noun = if violations.len() == 1 {
        "rule is"
    } else {
        "rules are"
    };
    Err(format!(
        "{check}: {} {noun} broken in {looked_at}",
        violations.len()
    ))
}
