//! Regular expressions: limits for all of them, and RFC 9485's dialect for JSONPath.

use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::util::syntax;

use super::error::{Fault, ProblemKind};

/// A longer pattern is refused before it is compiled.
pub(super) const MAX_PATTERN_BYTES: usize = 4096;
/// What one pattern may compile to.
const MAX_COMPILED_BYTES: usize = 1 << 20;

fn config() -> Config {
    Config::new()
        .nfa_size_limit(Some(MAX_COMPILED_BYTES))
        .onepass_size_limit(Some(MAX_COMPILED_BYTES))
        .dfa_size_limit(Some(MAX_COMPILED_BYTES))
        .hybrid_cache_capacity(MAX_COMPILED_BYTES)
}

fn build(pattern: &str) -> Result<Regex, Box<BuildError>> {
    Regex::builder()
        .configure(config())
        .syntax(syntax::Config::new().nest_limit(64))
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
    build(pattern).map_err(|error| match (error.size_limit(), error.syntax_error()) {
        (Some(limit), _) => Fault::new(
            ProblemKind::TooLarge,
            format!("the pattern compiles to more than {limit} bytes"),
        ),
        (_, Some(regex_syntax::Error::Parse(cause))) => at(cause.kind(), cause.span()),
        (_, Some(regex_syntax::Error::Translate(cause))) => at(cause.kind(), cause.span()),
        _ => Fault::new(ProblemKind::Regex, error.to_string()),
    })
}

fn at(kind: &impl ToString, span: &regex_syntax::ast::Span) -> Fault {
    Fault::at(
        ProblemKind::Regex,
        kind.to_string(),
        span.start.offset..span.end.offset,
    )
}

/// A pattern of JSONPath's `match` (the whole text) and `search` (somewhere in it): I-Regexp, where a dot is anything but a
/// line break. `None` for what is no regular expression within the limits.
pub(super) fn compile_iregexp(pattern: &str, whole: bool) -> Option<Regex> {
    // On its own first: `a)|(b` must not become a pattern by being put in brackets.
    if pattern.len() > MAX_PATTERN_BYTES
        || regex_syntax::ast::parse::Parser::new()
            .parse(pattern)
            .is_err()
    {
        return None;
    }
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
    if whole {
        translated = format!(r"\A(?:{translated})\z");
    }
    build(&translated).ok()
}
