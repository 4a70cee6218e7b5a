//! One file's text, and where things stand in it.
//!
//! Spans are bytes; people count lines and characters from 1. A string's own bytes are not those of the file (escapes), so a
//! position inside a string is found by reading the literal again up to it, which only a problem ever asks for.

use std::ops::Range;
use std::sync::Arc;

/// Bytes of a file.
pub(crate) type Span = Range<usize>;

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// As the user named it.
    pub name: String,
    pub text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl SourceFile {
    pub(crate) fn new(name: String, text: String) -> Arc<Self> {
        let lines = std::iter::once(0).chain(memchr_newlines(&text)).collect();
        Arc::new(Self { name, text, lines })
    }

    /// Line and column of a byte, both from 1; columns count characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let line = self.lines.partition_point(|start| *start <= offset) - 1;
        (
            line + 1,
            self.text[self.lines[line]..offset].chars().count() + 1,
        )
    }

    /// The bytes of a line, counted from 0, without what ends it.
    pub(crate) fn line(&self, line: usize) -> Span {
        let start = self.lines[line];
        let end = self
            .lines
            .get(line + 1)
            .map_or(self.text.len(), |next| next - 1);
        start..end.max(start)
    }

    pub(crate) fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// The part of a span that stands on its first line, and on a character's boundary.
    pub(crate) fn first_line_of(&self, span: Span) -> Span {
        let start = self
            .text
            .floor_char_boundary(span.start.min(self.text.len()));
        let end = self
            .text
            .floor_char_boundary(span.end.clamp(start, self.text.len()));
        let line = self.text[start..end]
            .find(['\n', '\r'])
            .map_or(end, |newline| start + newline);
        start..line
    }

    /// Where the byte `offset` of the string that the literal at `span` stands for is in the file.
    pub(crate) fn in_string(&self, span: Span, offset: usize) -> usize {
        let Some(literal) = self.text.get(span.clone()) else {
            return span.start;
        };
        let (quotes, escapes) = if literal.starts_with("\"\"\"") {
            (3, true)
        } else if literal.starts_with("'''") {
            (3, false)
        } else {
            (1, literal.starts_with('"'))
        };
        let body = &literal[quotes..literal.len().saturating_sub(quotes).max(quotes)];
        let mut read = 0;
        let mut position = 0;
        if quotes == 3 {
            position = body.len()
                - body
                    .strip_prefix("\r\n")
                    .or(body.strip_prefix('\n'))
                    .unwrap_or(body)
                    .len();
        }
        while read < offset && position < body.len() {
            let (length, decoded) = if escapes {
                escape(&body[position..])
            } else {
                plain(&body[position..])
            };
            if read + decoded > offset {
                break;
            }
            read += decoded;
            position += length;
        }
        span.start + quotes + position
    }
}

fn memchr_newlines(text: &str) -> impl Iterator<Item = usize> + '_ {
    text.bytes()
        .enumerate()
        .filter(|(_, byte)| *byte == b'\n')
        .map(|(index, _)| index + 1)
}

/// Bytes in the file, and in the string, of the character that `rest` begins with. `rest` is not empty.
fn plain(rest: &str) -> (usize, usize) {
    let length = rest.chars().next().map_or(1, char::len_utf8);
    (length, length)
}

/// The same where a backslash escapes: the union of what JSON and TOML know.
fn escape(rest: &str) -> (usize, usize) {
    let Some(escaped) = rest.strip_prefix('\\') else {
        return plain(rest);
    };
    let hexadecimal =
        |digits: usize| u32::from_str_radix(escaped.get(1..=digits).unwrap_or(""), 16).unwrap_or(0);
    let scalar = |code: u32| char::from_u32(code).map_or(1, char::len_utf8);
    match escaped.as_bytes().first() {
        Some(b'u') => {
            let code = hexadecimal(4);
            // A pair of surrogates is one character of four bytes.
            if (0xD800..0xDC00).contains(&code) {
                (12, 4)
            } else {
                (6, scalar(code))
            }
        }
        Some(b'U') => (10, scalar(hexadecimal(8))),
        Some(b'x') => (4, scalar(hexadecimal(2))),
        // A backslash at the end of a line swallows all white space up to the next line's text.
        Some(b' ' | b'\t' | b'\n' | b'\r') => (
            1 + escaped.len() - escaped.trim_start_matches([' ', '\t', '\n', '\r']).len(),
            0,
        ),
        _ => (2, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let file = SourceFile::new("a".into(), "é=1\nb = 2\n".into());
        assert_eq!(file.position(0), (1, 1));
        assert_eq!(file.position(2), (1, 2));
        assert_eq!(file.position(5), (2, 1));
        assert_eq!(file.position(999), (3, 1));
        assert_eq!(file.line(0), 0..4);
        assert_eq!(file.line(2), 11..11);
    }

    #[test]
    fn finds_a_byte_of_a_string_behind_escapes() {
        for (literal, offset, expected) in [
            (r#""a\\b""#, 2, 4),
            (r#""é\u00e9x""#, 4, 9),
            (r#""\ud83d\ude00x""#, 4, 13),
            ("'a\\b'", 2, 3),
            ("\"\"\"\nab\"\"\"", 1, 5),
            ("\"\"\"a\\\n   b\"\"\"", 1, 4),
            ("'''\r\nab'''", 0, 5),
            (r#""ab""#, 99, 3),
        ] {
            let file = SourceFile::new("a".into(), literal.into());
            assert_eq!(
                file.in_string(0..literal.len(), offset),
                expected,
                "{literal} at {offset}"
            );
        }
    }
}
