//! Just enough JSON to change a document without rewriting it.
//!
//! A document stays text. What is found here are the members of an object with the places where they stand, so that whoever changes
//! one member copies the others byte for byte: numbers keep their digits, strings their escapes, and people their indentation.
//! Text is checked strictly (RFC 8259, UTF-8, nesting up to [`MAX_DEPTH`]) before anything else looks at it.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

/// Nesting beyond this is refused: it would be somebody's attempt on the stack.
pub(crate) const MAX_DEPTH: u32 = 128;

/// A checked JSON value, without the white space around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Json<'a>(&'a str);

/// One member of an object.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) key: Cow<'a, str>,
    /// The key as it is written, with its quotes.
    pub(crate) key_text: &'a str,
    /// From the key's quote to the end of the value, in the object's text.
    pub(crate) span: Range<usize>,
    pub(crate) value: Json<'a>,
}

/// Members of one object. As many as most have are on the stack: of a list of objects inside each other, only the first should be one of these.
pub(crate) type Members<'a> = SmallVec<[Member<'a>; 14]>;

impl<'a> Json<'a> {
    /// Checks a whole document.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        Self::parsed(bytes, |scanner, _| scanner.value(0)).map(|(json, ())| json)
    }

    /// Checks a whole document, and finds its members in the same pass: none for anything but an object.
    pub(crate) fn parse_members(bytes: &'a [u8], members: &mut Members<'a>) -> Option<Self> {
        Self::parsed(bytes, |scanner, text| match scanner.peek()? {
            b'{' => scanner.members(text, |member| members.push(member)),
            _ => scanner.value(0),
        })
        .map(|(json, ())| json)
    }

    /// Reads the value of a whole document, given from its first byte on.
    fn parsed<T>(
        bytes: &'a [u8],
        value: impl FnOnce(&mut Scanner<'a>, &'a str) -> Option<T>,
    ) -> Option<(Self, T)> {
        let text = std::str::from_utf8(bytes).ok()?.trim_start_matches(SPACE);
        let mut scanner = Scanner {
            bytes: text.as_bytes(),
            at: 0,
        };
        let found = value(&mut scanner, text)?;
        let end = scanner.at;
        scanner.space();
        (scanner.at == text.len()).then(|| (Self(&text[..end]), found))
    }

    pub(crate) fn text(self) -> &'a str {
        self.0
    }

    pub(crate) fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    pub(crate) fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The members in order. Empty for anything but an object.
    pub(crate) fn members(self) -> Vec<Member<'a>> {
        if !self.is_object() {
            return Vec::new();
        }
        let mut scanner = Scanner {
            bytes: self.0.as_bytes(),
            at: 0,
        };
        let mut members = Vec::new();
        // The text was checked.
        let _ = scanner.members(self.0, |member| members.push(member));
        members
    }

    fn elements(self) -> Vec<Self> {
        let mut elements = Vec::new();
        let mut scanner = Scanner {
            bytes: self.0.as_bytes(),
            at: 1,
        };
        loop {
            scanner.space();
            let start = scanner.at;
            if scanner.value(0).is_none() {
                return elements;
            }
            elements.push(Self(&self.0[start..scanner.at]));
            scanner.space();
            scanner.at += 1;
        }
    }

    /// Whether both say the same: objects whatever their order, strings whatever their escapes, numbers by their digits
    /// (`1` and `1.0` differ, because a reader of the text sees them differ).
    pub(crate) fn same(self, other: Self) -> bool {
        if self.0 == other.0 {
            return true;
        }
        match (self.0.as_bytes().first(), other.0.as_bytes().first()) {
            (Some(b'{'), Some(b'{')) => {
                let (left, right) = (last_of_each(self.members()), last_of_each(other.members()));
                left.len() == right.len()
                    && left
                        .iter()
                        .zip(&right)
                        .all(|(left, right)| left.key == right.key && left.value.same(right.value))
            }
            (Some(b'['), Some(b'[')) => {
                let (left, right) = (self.elements(), other.elements());
                left.len() == right.len()
                    && left
                        .iter()
                        .zip(&right)
                        .all(|(left, right)| left.same(*right))
            }
            (Some(b'"'), Some(b'"')) => unescape(self.0) == unescape(other.0),
            _ => false,
        }
    }
}

/// Sorted by key; of equal keys the last one counts, as for most readers of JSON.
pub(crate) fn last_of_each(mut members: Vec<Member<'_>>) -> Vec<Member<'_>> {
    let last = keep_last_of_each(&mut members);
    members.truncate(last);
    members
}

/// The same, at the beginning of the list. Answers how many are left.
pub(crate) fn keep_last_of_each(members: &mut [Member<'_>]) -> usize {
    // Stable, so that of equal keys the first now is the last as written.
    members.reverse();
    members.sort_by(|left, right| left.key.cmp(&right.key));
    let mut kept = 0;
    for index in 0..members.len() {
        if index == 0 || members[index].key != members[kept - 1].key {
            members.swap(kept, index);
            kept += 1;
        }
    }
    kept
}

/// The text of a checked string, quotes included, without its escapes. A lone surrogate becomes U+FFFD.
fn unescape(quoted: &str) -> Cow<'_, str> {
    let inner = &quoted[1..quoted.len() - 1];
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    let mut units = Vec::new();
    while let Some(character) = characters.next() {
        let plain = match character {
            '\\' => match characters.next() {
                Some('u') => {
                    let digits: String = characters.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).unwrap_or(0xFFFD));
                    continue;
                }
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some(itself) => itself,
                None => break,
            },
            plain => plain,
        };
        flush(&mut units, &mut text);
        text.push(plain);
    }
    flush(&mut units, &mut text);
    Cow::Owned(text)
}

fn flush(units: &mut Vec<u16>, text: &mut String) {
    text.extend(
        char::decode_utf16(units.drain(..)).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)),
    );
}

/// White space between tokens.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// A high bit at the first `"`, `\` or control character among the eight bytes, and none before it.
#[inline]
fn string_marks(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGHS
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The members of an object, at its brace. `text` is what is scanned.
    #[inline]
    fn members(&mut self, text: &'a str, mut found: impl FnMut(Member<'a>)) -> Option<()> {
        self.list(b'}', |scanner| {
            let start = scanner.at;
            let key_text = scanner.name(text)?;
            let value = scanner.at;
            scanner.value(1)?;
            found(Member {
                key: unescape(key_text),
                key_text,
                span: start..scanner.at,
                value: Json(&text[value..scanner.at]),
            });
            Some(())
        })
    }

    /// A name with its quotes, and the colon behind it.
    #[inline(always)]
    fn name(&mut self, text: &'a str) -> Option<&'a str> {
        let start = self.at;
        self.string()?;
        let end = self.at;
        self.space();
        self.expect(b':')?;
        self.space();
        Some(&text[start..end])
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    #[inline(always)]
    fn space(&mut self) {
        // Most texts are compact: one comparison says that there is none.
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.blanks();
        }
    }

    #[cold]
    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: u32) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => self.list(b'}', |scanner| {
                scanner.string()?;
                scanner.space();
                scanner.expect(b':')?;
                scanner.space();
                scanner.value(depth + 1)
            }),
            b'[' => self.list(b']', |scanner| scanner.value(depth + 1)),
            b'"' => self.string(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    fn list(&mut self, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.space();
        if self.expect(close).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.space();
            if self.expect(close).is_some() {
                return Some(());
            }
            self.expect(b',')?;
            self.space();
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        let found = self.bytes[self.at..].starts_with(literal);
        found.then(|| self.at += literal.len())
    }

    #[inline(always)]
    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        while let Some(word) = self.bytes[self.at..].first_chunk() {
            let word = u64::from_le_bytes(*word);
            let marks = string_marks(word);
            if marks == 0 {
                self.at += 8;
                continue;
            }
            let bits = marks.trailing_zeros();
            self.at += bits as usize / 8;
            if (word >> (bits & 56)) as u8 == b'"' {
                self.at += 1;
                return Some(());
            }
            break;
        }
        self.rest_of_string()
    }

    /// From the first escape on, or where the text is about to end.
    #[inline(never)]
    fn rest_of_string(&mut self) -> Option<()> {
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    let escape = self.peek()?;
                    self.at += 1;
                    match escape {
                        b'u' => {
                            let digits = self.bytes.get(self.at..self.at + 4)?;
                            digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                            self.at += 4;
                        }
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        _ => return None,
                    }
                }
                0..0x20 => return None,
                _ => {}
            }
            while let Some(word) = self.bytes[self.at..].first_chunk() {
                let marks = string_marks(u64::from_le_bytes(*word));
                self.at += marks.trailing_zeros() as usize / 8;
                if marks != 0 {
                    break;
                }
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.expect(b'-');
        if self.expect(b'0').is_none() {
            self.digits()?;
        }
        if self.expect(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_as_strictly_as_serde_json() {
        let documents = [
            "{}",
            "[]",
            " null ",
            "0",
            "-0",
            "01",
            "1.",
            "1.5e+3",
            ".5",
            "+1",
            "\"a\\u00e9\"",
            "\"\\x\"",
            "\"a",
            "{\"a\":}",
            "{\"a\" : 1 , \"b\" : [1, 2]}",
            "{a:1}",
            "[1,]",
            "[1 2]",
            "{\"a\":1,}",
            "tru",
            "true false",
            "",
            "\"\t\"",
            "-",
            "1e",
            "\"\\u12g4\"",
        ];
        for document in documents {
            let expected = serde_json::from_str::<serde_json::Value>(document).is_ok();
            assert_eq!(
                Json::parse(document.as_bytes()).is_some(),
                expected,
                "{document}"
            );
        }
        assert!(Json::parse(b"\"\xff\"").is_none());
    }

    #[test]
    fn sees_every_mark_of_a_string_wherever_it_stands() {
        for length in 0..20 {
            for at in 0..=length {
                for mark in [
                    "",
                    "\"",
                    "\\",
                    "\\n",
                    "\u{1}",
                    "\u{1f}",
                    " ",
                    "\u{7f}",
                    "é",
                    "\u{1d11e}",
                ] {
                    let mut inside = "é#".repeat(length);
                    inside.insert_str(
                        at,
                        if inside.is_char_boundary(at) {
                            mark
                        } else {
                            continue;
                        },
                    );
                    let document = format!("[\"{inside}\"]");
                    let expected = serde_json::from_str::<serde_json::Value>(&document).is_ok();
                    assert_eq!(
                        Json::parse(document.as_bytes()).is_some(),
                        expected,
                        "{document}"
                    );
                }
            }
        }
    }

    #[test]
    fn refuses_what_is_nested_too_deep() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::parse(deep(128).as_bytes()).is_some());
        assert!(Json::parse(deep(100_000).as_bytes()).is_none());
    }

    #[test]
    fn finds_members_where_they_stand() {
        let json = Json::parse(br#" { "a" : 1, "b\u0062" : {"c":[2,3]} } "#).expect("JSON");
        let members: Vec<_> = json
            .members()
            .into_iter()
            .map(|member| {
                (
                    member.key.into_owned(),
                    json.text()[member.span].to_owned(),
                    member.value.text(),
                )
            })
            .collect();
        assert_eq!(
            members,
            [
                ("a".to_owned(), r#""a" : 1"#.to_owned(), "1"),
                (
                    "bb".to_owned(),
                    r#""b\u0062" : {"c":[2,3]}"#.to_owned(),
                    r#"{"c":[2,3]}"#
                ),
            ]
        );
    }

    #[test]
    fn sameness_is_about_meaning() {
        let same = |left: &str, right: &str| {
            let parse = |text| Json::parse(text).expect("JSON");
            parse(left.as_bytes()).same(parse(right.as_bytes()))
        };
        assert!(same(
            r#"{"a":1,"b":[true, null]}"#,
            r#"{ "b":[true,null], "a":1 }"#
        ));
        assert!(same(r#""\u00e9""#, "\"é\""));
        assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
        assert!(!same("1", "1.0"));
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":null}"#));
    }
}
