//! Regular expressions: limits for all of them, and RFC 9485's dialect for JSONPath.
//!
//! What a pattern may compile to says nothing of what a text may cost: `[ab]*a[ab]{4000}c` is small, and each byte of a text can keep thousands
//! of its states busy. So a pattern of a configuration is held to the steps a character that topic rules are held to.

use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::util::syntax;

use super::error::{Fault, ProblemKind};
use crate::error::Problem;
use crate::limits::Limits;
use crate::pattern::program::Compiler;

/// A longer pattern is refused before it is compiled.
pub(super) const MAX_PATTERN_BYTES: usize = 4096;
/// What one pattern may compile to.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// A pattern from a payload may be this long, and compile to this much: it is compiled for each node.
const MAX_FOUND_PATTERN: usize = 256;
const MAX_FOUND_BYTES: usize = 128 << 10;

const NEST_LIMIT: u32 = 64;

fn build(pattern: &str, most_bytes: usize) -> Result<Regex, Box<BuildError>> {
    let config = Config::new()
        .nfa_size_limit(Some(most_bytes))
        .onepass_size_limit(Some(most_bytes))
        .dfa_size_limit(Some(most_bytes))
        .hybrid_cache_capacity(MAX_COMPILED_BYTES);
    Regex::builder()
        .configure(config)
        .syntax(syntax::Config::new().nest_limit(NEST_LIMIT))
        .build(pattern)
        .map_err(Box::new)
}

/// A pattern of the operator `Matches`.
pub(super) fn compile(pattern: &str) -> Result<Regex, Fault> {
    if pattern.len() > MAX_PATTERN_BYTES {
        let message = format!(
            "a pattern may have {MAX_PATTERN_BYTES} bytes, this one has {}",
            pattern.len()
        );
        return Err(Fault::new(ProblemKind::TooLarge, message));
    }
    let regex = build(pattern, MAX_COMPILED_BYTES).map_err(|error| {
        match (error.size_limit(), error.syntax_error()) {
            (Some(limit), _) => Fault::new(
                ProblemKind::TooLarge,
                format!("the pattern compiles to more than {limit} bytes"),
            ),
            (_, Some(regex_syntax::Error::Parse(cause))) => at(cause.kind(), cause.span()),
            (_, Some(regex_syntax::Error::Translate(cause))) => at(cause.kind(), cause.span()),
            _ => Fault::new(ProblemKind::Regex, error.to_string()),
        }
    })?;
    match steps(pattern) {
        Some(problem) => Err(Fault::new(ProblemKind::TooLarge, problem.message)),
        None => Ok(regex),
    }
}

/// What is wrong with the steps that a pattern takes, which is valid.
fn steps(pattern: &str) -> Option<Problem> {
    let hir = regex_syntax::ParserBuilder::new()
        .nest_limit(NEST_LIMIT)
        .build()
        .parse(pattern)
        .ok()?;
    Compiler::default().compile(&hir, &Limits::default()).err()
}

fn at(kind: &impl ToString, span: &regex_syntax::ast::Span) -> Fault {
    Fault::at(
        ProblemKind::Regex,
        kind.to_string(),
        span.start.offset..span.end.offset,
    )
}

/// A pattern of JSONPath's `match` (the whole text) and `search` (somewhere in it) that stands in the query; `None` for what is no regular
/// expression, an error for one that is too large.
pub(super) fn compile_iregexp(pattern: &str, whole: bool) -> Result<Option<Regex>, Fault> {
    match translate(pattern, whole).map(|translated| compile(&translated)) {
        Some(Ok(regex)) => Ok(Some(regex)),
        Some(Err(fault)) if fault.kind == ProblemKind::TooLarge => Err(fault),
        _ => Ok(None),
    }
}

/// The same for a pattern from a payload; `None` for one that is too large, too.
pub(super) fn compile_found(pattern: &str, whole: bool) -> Option<Regex> {
    if pattern.len() > MAX_FOUND_PATTERN {
        return None;
    }
    build(&translate(pattern, whole)?, MAX_FOUND_BYTES).ok()
}

/// An I-Regexp, where a dot is anything but a line break, in the syntax of the library. `None` for what is no regular expression.
fn translate(pattern: &str, whole: bool) -> Option<String> {
    // On its own first: `a)|(b` must not become a pattern by being put in brackets.
    regex_syntax::ast::parse::Parser::new()
        .parse(pattern)
        .ok()?;
    let mut translated = String::with_capacity(pattern.len() + 16);
    let (mut escaped, mut class) = (false, false);
    for letter in pattern.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '.' if !class => {
                translated.push_str(r"[^\n\r]");
                continue;
            }
            _ => {}
        }
        translated.push(letter);
    }
    Some(if whole {
        format!(r"\A(?:{translated})\z")
    } else {
        translated
    })
}
