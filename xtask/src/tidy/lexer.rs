//! Tells code from comments in Rust source, just well enough for `tidy` and `layers`: a word in a string is not a call, one in a comment is not code.
//!
//! Knows line comments, nested block comments, strings (plain, byte, C and raw) and character literals apart from lifetimes. It refuses nothing:
//! source that does not compile is read as far as it makes sense, rustc is the one to complain.

/// A file's text twice, with the same lines and columns: once only its code, once only its comments. All else is blank.
pub struct Separated {
    /// Code, without comments and without what strings and characters hold.
    pub code: String,
    /// What comments say.
    pub comments: String,
}

/// Separates the text of a Rust file.
pub fn separate(text: &str) -> Separated {
    let mut separated = Separated {
        code: String::with_capacity(text.len()),
        comments: String::with_capacity(text.len()),
    };
    let mut rest = text;
    let mut previous = ' ';
    while let Some(next) = rest.chars().next() {
        let (length, kind) = token(rest, previous);
        for character in rest[..length].chars() {
            let blank = if character.is_whitespace() {
                character
            } else {
                ' '
            };
            separated
                .code
                .push(if kind == Kind::Code { character } else { blank });
            separated.comments.push(if kind == Kind::Comment {
                character
            } else {
                blank
            });
        }
        previous = if kind == Kind::Code { next } else { ' ' };
        rest = &rest[length..];
    }
    separated
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// The length in bytes of what the text starts with, and what it is. Code comes one character at a time.
fn token(rest: &str, previous: char) -> (usize, Kind) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Kind::Comment);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), Kind::Comment);
    }
    // A prefix belongs to a literal only where a word starts: the r of `for"` does not.
    let starts_word = !is_word_part(previous);
    if starts_word && let Some(length) = raw_string(rest) {
        return (length, Kind::Literal);
    }
    if rest.starts_with('"') {
        return (quoted(rest, '"'), Kind::Literal);
    }
    if let Some(length) = character(rest) {
        return (length, Kind::Literal);
    }
    (rest.chars().next().map_or(0, char::len_utf8), Kind::Code)
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, with `b` or `c` before the `r`; None where the text does not start so.
fn raw_string(rest: &str) -> Option<usize> {
    let after_prefix = rest
        .strip_prefix(['b', 'c'])
        .unwrap_or(rest)
        .strip_prefix('r')?;
    let inner = after_prefix.trim_start_matches('#');
    let hashes = &after_prefix[..after_prefix.len() - inner.len()];
    let body = inner.strip_prefix('"')?;
    let start = rest.len() - body.len();
    let end = format!("\"{hashes}");
    Some(
        body.find(&end)
            .map_or(rest.len(), |at| start + at + end.len()),
    )
}

/// The length of a literal between two such quotes, with escapes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return at + character.len_utf8();
        }
    }
    rest.len()
}

/// A character literal; None for a lifetime: `'a'` and `'\n'` close, `'a` does not.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    let closes = body[first.len_utf8()..].starts_with('\'');
    (first == '\\' || closes).then(|| quoted(rest, '\''))
}

/// Whether a name goes on with this character.
pub fn is_word_part(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The lines, counted from 1, that hold the word, and not only as a part of a longer one.
pub fn lines_with_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.lines().enumerate().filter_map(move |(index, line)| {
        line.match_indices(word)
            .any(|(at, _)| {
                !line[..at].ends_with(is_word_part)
                    && !line[at + word.len()..].starts_with(is_word_part)
            })
            .then_some(index + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of one line, with runs of blanks as one.
    fn code(text: &str) -> String {
        separate(text)
            .code
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(code("a(); // b();"), "a();");
        assert_eq!(code("a /* b /* c */ d */ e"), "a e");
        assert_eq!(code(r#"a("b \" c", d)"#), "a( , d)");
        assert_eq!(code(r###"a(r#"b " c"#, br"d", e)"###), "a( , , e)");
        assert_eq!(code(r"a('\'', 'b', '\u{41}', &'c d)"), "a( , , , &'c d)");
        assert_eq!(code("for\"x\" in y"), "for in y");
        assert_eq!(code("r#type = 1"), "r#type = 1");
    }

    #[test]
    fn what_does_not_end_is_read_to_the_end() {
        for text in ["a \"b", "a /* b", "a r#\"b\"", "a '\\", "a 'ä"] {
            assert!(code(text).starts_with('a'), "{text}");
        }
    }

    #[test]
    fn both_halves_keep_lines_and_columns() {
        let separated = separate("one(); // ä\n\"two\nthree\"; four\n");
        assert_eq!(separated.code.lines().nth(2), Some("      ; four"));
        assert_eq!(separated.comments.lines().next(), Some("       // ä"));
        assert_eq!(
            separated.code.lines().count(),
            separated.comments.lines().count()
        );
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(
            lines_with_word("a\nunsafe_code\nunsafe {\nx.unsafe", "unsafe").collect::<Vec<_>>(),
            [3, 4]
        );
    }
}
