//! Reads JSON text token by token, checking everything that it passes over and building nothing.
//!
//! What is accepted is RFC 8259 with the two choices that `serde_json` makes too: text is UTF-8, and an escaped surrogate
//! stands in a pair. Nesting is kept in a stack of bits, not on the call stack, so depth costs a bit a level.
//!
//! A number or a literal ends at a delimiter. One that the input ends in is complete only where nothing encloses it:
//! `{"n":12` may have been cut out of `{"n":123}`.

/// The bytes read so far are not the beginning of a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// The inside of a string, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub start: usize,
    pub end: usize,
    pub escaped: bool,
}

/// Which containers are open: a bit for each, set for an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Nest {
    word: u64,
    depth: usize,
    full: Vec<u64>,
}

impl Nest {
    pub fn clear(&mut self) {
        self.word = 0;
        self.depth = 0;
        self.full.clear();
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    pub fn push(&mut self, object: bool) {
        if self.depth != 0 && self.depth.is_multiple_of(64) {
            self.full.push(self.word);
        }
        self.word = self.word << 1 | u64::from(object);
        self.depth += 1;
    }

    pub fn pop(&mut self) {
        self.depth -= 1;
        self.word >>= 1;
        if self.depth != 0 && self.depth.is_multiple_of(64) {
            self.word = self.full.pop().unwrap_or_default();
        }
    }

    pub fn in_object(&self) -> bool {
        self.word & 1 == 1
    }
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Marks, in the high bit of each byte, what a string cannot simply run over: `"`, `\` and control characters.
/// A mark above the lowest one may be false; nobody looks at those.
#[inline]
fn string_stops(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_quote | is_backslash | is_control) & HIGHS
}

pub(super) struct Lexer<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Lexer { bytes, at: 0 }
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub fn next(&mut self) -> Result<u8, NotJson> {
        let byte = self.peek().ok_or(NotJson)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline(always)]
    pub fn whitespace(&mut self) {
        // Most texts are compact: one comparison says that there is none.
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.blanks();
        }
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The rest of a string whose opening quote has been read; whether it has escapes. It ends before `self.at - 1`.
    #[inline]
    pub fn string(&mut self) -> Result<bool, NotJson> {
        let (bytes, start) = (self.bytes, self.at);
        let mut at = start;
        let mut high = 0;
        let mut escaped = false;
        loop {
            let byte = if let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>())
            {
                let word = u64::from_le_bytes(*chunk);
                let stops = string_stops(word);
                high |= word;
                if stops == 0 {
                    at += 8;
                    continue;
                }
                let skip = stops.trailing_zeros();
                at += skip as usize / 8;
                (word >> (skip & 56)) as u8
            } else {
                let byte = *bytes.get(at).ok_or(NotJson)?;
                high |= u64::from(byte);
                byte
            };
            match byte {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    at = self.escape(at + 1)?;
                }
                0..0x20 => return Err(NotJson),
                _ => at += 1,
            }
        }
        self.at = at + 1;
        // `high` may have seen bytes behind the quote: then the check is needless, not wrong.
        if high & HIGHS != 0 && std::str::from_utf8(&bytes[start..at]).is_err() {
            return Err(NotJson);
        }
        Ok(escaped)
    }

    /// Checks the escape whose backslash stands before `at`; returns where the string goes on.
    #[cold]
    fn escape(&self, at: usize) -> Result<usize, NotJson> {
        match self.bytes.get(at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
            Some(b'u') => {
                let first = hex4(self.bytes, at + 1).ok_or(NotJson)?;
                match first {
                    0xD800..0xDC00 => {
                        if self.bytes.get(at + 5..at + 7) != Some(b"\\u") {
                            return Err(NotJson);
                        }
                        match hex4(self.bytes, at + 7) {
                            Some(0xDC00..0xE000) => Ok(at + 11),
                            _ => Err(NotJson),
                        }
                    }
                    0xDC00..0xE000 => Err(NotJson),
                    _ => Ok(at + 5),
                }
            }
            _ => Err(NotJson),
        }
    }

    /// A number, at its first byte.
    #[inline]
    pub fn number(&mut self, nested: bool) -> Result<(), NotJson> {
        let bytes = self.bytes;
        let mut at = self.at + usize::from(self.peek() == Some(b'-'));
        at = match bytes.get(at) {
            Some(b'0') => at + 1,
            Some(b'1'..=b'9') => digits(bytes, at + 1),
            _ => return Err(NotJson),
        };
        if bytes.get(at) == Some(&b'.') {
            at = some_digits(bytes, at + 1)?;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            let signed = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
            at = some_digits(bytes, at + 1 + usize::from(signed))?;
        }
        self.at = at;
        self.delimiter(nested)
    }

    /// `true`, `false` or `null`, at its first byte.
    #[inline]
    pub fn literal(&mut self, nested: bool) -> Result<(), NotJson> {
        let rest = &self.bytes[self.at..];
        let length = [&b"true"[..], b"false", b"null"]
            .into_iter()
            .find(|word| rest.starts_with(word))
            .ok_or(NotJson)?
            .len();
        self.at += length;
        self.delimiter(nested)
    }

    #[inline]
    fn delimiter(&self, nested: bool) -> Result<(), NotJson> {
        match self.peek() {
            Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t') => Ok(()),
            None if !nested => Ok(()),
            _ => Err(NotJson),
        }
    }

    /// A member's name and the colon behind it, whitespace around both.
    #[inline]
    pub fn name(&mut self) -> Result<Text, NotJson> {
        self.whitespace();
        if self.next()? != b'"' {
            return Err(NotJson);
        }
        let start = self.at;
        let escaped = self.string()?;
        let end = self.at - 1;
        self.whitespace();
        if self.next()? != b':' {
            return Err(NotJson);
        }
        Ok(Text {
            start,
            end,
            escaped,
        })
    }

    /// One whole value, whitespace before it; `nested` says whether a container encloses it.
    #[inline]
    pub fn skip(&mut self, nest: &mut Nest, nested: bool) -> Result<(), NotJson> {
        self.whitespace();
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(|_| ())
            }
            Some(b'-' | b'0'..=b'9') => self.number(nested),
            _ => self.skip_any(nest, nested),
        }
    }

    /// One whole value of any sort.
    fn skip_any(&mut self, nest: &mut Nest, nested: bool) -> Result<(), NotJson> {
        let base = nest.depth();
        loop {
            self.whitespace();
            match self.peek().ok_or(NotJson)? {
                b'"' => {
                    self.at += 1;
                    self.string()?;
                }
                b'-' | b'0'..=b'9' => self.number(nested || nest.depth() > base)?,
                b'{' => {
                    self.at += 1;
                    self.whitespace();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                    } else {
                        nest.push(true);
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    self.whitespace();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                    } else {
                        nest.push(false);
                        continue;
                    }
                }
                _ => self.literal(nested || nest.depth() > base)?,
            }
            loop {
                if nest.depth() == base {
                    return Ok(());
                }
                self.whitespace();
                match (self.next()?, nest.in_object()) {
                    (b',', true) => {
                        self.name()?;
                        break;
                    }
                    (b',', false) => break,
                    (b'}', true) | (b']', false) => nest.pop(),
                    _ => return Err(NotJson),
                }
            }
        }
    }
}

#[inline]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    at
}

#[inline]
fn some_digits(bytes: &[u8], at: usize) -> Result<usize, NotJson> {
    match bytes.get(at) {
        Some(b'0'..=b'9') => Ok(digits(bytes, at + 1)),
        _ => Err(NotJson),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |value, &byte| {
        Some(value << 4 | char::from(byte).to_digit(16)?)
    })
}

/// The text that the inside of a string stands for, appended to `out`. The string has been read by [`Lexer::string`].
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (plain, length) = match rest.get(at + 1) {
            Some(b'b') => (0x08, 2),
            Some(b'f') => (0x0C, 2),
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(b't') => (b'\t', 2),
            Some(b'u') => {
                let unit = hex4(rest, at + 2).unwrap_or_default();
                let (code, length) = match (unit, hex4(rest, at + 8)) {
                    (0xD800..0xDC00, Some(low)) => {
                        (0x10000 + ((unit - 0xD800) << 10) + (low & 0x3FF), 12)
                    }
                    _ => (unit, 6),
                };
                let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[(at + length).min(rest.len())..];
                continue;
            }
            Some(&byte) => (byte, 2),
            None => break,
        };
        out.push(plain);
        rest = &rest[at + length..];
    }
    out.extend_from_slice(rest);
}
