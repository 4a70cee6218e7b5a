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

/// Which containers are open: a bit for each, set for an object. The innermost 64 are at hand, the others spilled.
struct Nest<'a> {
    innermost: u64,
    depth: usize,
    spilled: &'a mut Vec<u64>,
}

impl Nest<'_> {
    #[inline(always)]
    fn push(&mut self, object: bool) {
        if self.depth.is_multiple_of(64) {
            self.spilled.push(self.innermost);
        }
        self.innermost = self.innermost << 1 | u64::from(object);
        self.depth += 1;
    }

    #[inline(always)]
    fn pop(&mut self) {
        self.depth -= 1;
        self.innermost >>= 1;
        if self.depth.is_multiple_of(64) {
            self.innermost = self.spilled.pop().unwrap_or_default();
        }
    }

    #[inline(always)]
    fn in_object(&self) -> bool {
        self.innermost & 1 == 1
    }
}

/// Whether a number or a literal ends before this byte.
#[inline(always)]
pub(super) fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Has a high bit at the first `"`, `\` or control character among the eight bytes, and none at ASCII before it. At bytes
/// beyond ASCII, and behind the first mark, bits may be anything.
#[inline]
fn string_marks(word: u64) -> u64 {
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let control = word.wrapping_sub(ONES * 0x20);
    quote | backslash | control
}

/// A high bit at the first byte that is no digit, and none before it.
#[inline]
fn digit_stops(word: u64) -> u64 {
    let digits = word ^ (ONES * b'0' as u64);
    (digits.wrapping_add(ONES * 0x76) | digits) & HIGHS
}

/// The eight bytes from `at`, the first one lowest.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let chunk = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*chunk))
}

#[derive(Clone, Copy)]
pub(super) struct Lexer<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Lexer { bytes, at: 0 }
    }

    #[inline(always)]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
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

    /// The next byte that is not white space.
    #[inline(always)]
    pub fn next_visible(&mut self) -> Result<u8, NotJson> {
        let byte = self.next()?;
        if byte > b' ' {
            return Ok(byte);
        }
        self.at -= 1;
        self.blanks();
        self.next()
    }

    #[cold]
    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The rest of a string whose opening quote has been read; whether it has escapes. It ends before `self.at - 1`.
    #[inline(always)]
    pub fn string(&mut self) -> Result<bool, NotJson> {
        let bytes = self.bytes;
        let mut at = self.at;
        while let Some(word) = word(bytes, at) {
            let stops = (string_marks(word) | word) & HIGHS;
            if stops == 0 {
                at += 8;
                continue;
            }
            let skip = stops.trailing_zeros();
            at += skip as usize / 8;
            if (word >> (skip & 56)) as u8 == b'"' {
                self.at = at + 1;
                return Ok(false);
            }
            break;
        }
        let (end, escaped) = string_from(bytes, at)?;
        self.at = end;
        Ok(escaped)
    }

    /// A number, at its first byte.
    #[inline(always)]
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

    #[inline(always)]
    fn delimiter(&self, nested: bool) -> Result<(), NotJson> {
        match self.peek() {
            Some(byte) if is_delimiter(byte) => Ok(()),
            None if !nested => Ok(()),
            _ => Err(NotJson),
        }
    }

    /// A member's name and the colon behind it, whitespace around both.
    #[inline(always)]
    pub fn name(&mut self) -> Result<Text, NotJson> {
        if self.next_visible()? != b'"' {
            return Err(NotJson);
        }
        let start = self.at;
        let escaped = self.string()?;
        let end = self.at - 1;
        if self.next_visible()? != b':' {
            return Err(NotJson);
        }
        Ok(Text {
            start,
            end,
            escaped,
        })
    }

    /// One whole value, whitespace before it; `nested` says whether a container encloses it. `spill` is room to work in.
    #[inline(always)]
    pub fn skip(&mut self, spill: &mut Vec<u64>, nested: bool) -> Result<(), NotJson> {
        self.whitespace();
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(|_| ())
            }
            Some(b'-' | b'0'..=b'9') => self.number(nested),
            Some(b'{' | b'[') => {
                self.at = skip_container(self.bytes, self.at, spill)?;
                Ok(())
            }
            _ => self.literal(nested),
        }
    }
}

/// Where the object or array at `start` ends.
#[inline(never)]
fn skip_container(bytes: &[u8], start: usize, spill: &mut Vec<u64>) -> Result<usize, NotJson> {
    spill.clear();
    let mut nest = Nest {
        innermost: 0,
        depth: 0,
        spilled: spill,
    };
    let mut lexer = Lexer { bytes, at: start };
    loop {
        // A value.
        lexer.whitespace();
        match lexer.peek().ok_or(NotJson)? {
            b'"' => {
                lexer.at += 1;
                lexer.string()?;
            }
            b'-' | b'0'..=b'9' => lexer.number(true)?,
            b'{' => {
                lexer.at += 1;
                lexer.whitespace();
                nest.push(true);
                if lexer.peek() != Some(b'}') {
                    lexer.name()?;
                    continue;
                }
            }
            b'[' => {
                lexer.at += 1;
                lexer.whitespace();
                nest.push(false);
                if lexer.peek() != Some(b']') {
                    continue;
                }
            }
            _ => lexer.literal(true)?,
        }
        // What ends with it.
        loop {
            match (lexer.next_visible()?, nest.in_object()) {
                (b',', true) => {
                    lexer.name()?;
                    break;
                }
                (b',', false) => break,
                (b'}', true) | (b']', false) => {
                    nest.pop();
                    if nest.depth == 0 {
                        return Ok(lexer.at);
                    }
                }
                _ => return Err(NotJson),
            }
        }
    }
}

/// The rest of a string that is ASCII without escapes up to `start`: where it ends, its quote included, and whether it has
/// escapes. Takes no lexer, so that the place of the one that asks can stay in a register.
#[inline(never)]
fn string_from(bytes: &[u8], start: usize) -> Result<(usize, bool), NotJson> {
    let mut at = start;
    let mut high = 0;
    let mut escaped = false;
    loop {
        let byte = if let Some(word) = word(bytes, at) {
            let stops = string_marks(word) & !word & HIGHS;
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
                at = escape(bytes, at + 1)?;
            }
            0..0x20 => return Err(NotJson),
            _ => at += 1,
        }
    }
    // `high` may have seen bytes behind the quote: then the check is needless, not wrong.
    if high & HIGHS != 0 && std::str::from_utf8(&bytes[start..at]).is_err() {
        return Err(NotJson);
    }
    Ok((at + 1, escaped))
}

/// Checks the escape whose backslash stands before `at`; returns where the string goes on.
fn escape(bytes: &[u8], at: usize) -> Result<usize, NotJson> {
    match bytes.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
        Some(b'u') => {
            let first = hex4(bytes, at + 1).ok_or(NotJson)?;
            match first {
                0xD800..0xDC00 => {
                    if bytes.get(at + 5..at + 7) != Some(b"\\u") {
                        return Err(NotJson);
                    }
                    match hex4(bytes, at + 7) {
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

/// Behind the digits that stand at `at`.
#[inline(always)]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(bytes, at) {
        let stops = digit_stops(word);
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    at
}

#[inline(always)]
fn some_digits(bytes: &[u8], at: usize) -> Result<usize, NotJson> {
    let end = digits(bytes, at);
    if end == at { Err(NotJson) } else { Ok(end) }
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
