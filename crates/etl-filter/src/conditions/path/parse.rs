//! Reads the text of an RFC 9535 query: its whole grammar, the rules for well-typed function calls among it.

use super::{Comparable, Comparison, FilterQuery, Logical, Pattern, Query, Segment, Selector};
use crate::conditions::error::{Fault, ProblemKind};
use crate::conditions::regex;

/// A longer path is refused before it is read.
const MAX_PATH_BYTES: usize = 4096;
/// Brackets, parentheses and function calls inside one another.
const MAX_NESTING: usize = 32;
/// Segments in the whole path, those inside its filters among them.
const MAX_SEGMENTS: usize = 256;
/// I-JSON's exact integers, the bounds of indices.
const MAX_INDEX: i64 = (1 << 53) - 1;

/// Reads a query from the root.
pub(in crate::conditions) fn parse(text: &str) -> Result<Query, Fault> {
    if text.len() > MAX_PATH_BYTES {
        return Err(Fault::new(
            ProblemKind::TooLarge,
            format!(
                "a path may have {MAX_PATH_BYTES} bytes, this one has {}",
                text.len()
            ),
        ));
    }
    let mut parser = Parser {
        text,
        at: 0,
        nesting: 0,
        segments: 0,
    };
    parser.expect("$", "a path begins with $")?;
    let query = parser.segments()?;
    if parser.at < text.len() {
        return Err(parser.fault("expected a segment: .name, [selector] or ..name"));
    }
    Ok(query)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    nesting: usize,
    segments: usize,
}

/// What a function call or query in a filter turned out to be.
enum Operand {
    Comparable(Comparable),
    /// A query that may select several nodes: it can be tested or handed to a function, not compared.
    Nodes(FilterQuery),
    Logical(Logical),
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        let width = self.text[self.at..]
            .chars()
            .next()
            .map_or(0, char::len_utf8);
        Fault::at(ProblemKind::Path, message, self.at..self.at + width)
    }

    fn fault_since(&self, start: usize, message: impl Into<String>) -> Fault {
        Fault::at(ProblemKind::Path, message, start..self.at)
    }

    fn too_large(&self, message: String) -> Fault {
        Fault {
            kind: ProblemKind::TooLarge,
            ..self.fault(message)
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str, message: &str) -> Result<(), Fault> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.fault(message))
        }
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn nest<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.too_large(format!("a path may nest {MAX_NESTING} deep")));
        }
        let result = inside(self);
        self.nesting -= 1;
        result
    }

    fn segments(&mut self) -> Result<Query, Fault> {
        let mut segments = Vec::new();
        loop {
            let end = self.at;
            self.blank();
            if self.take("..") {
                let selectors = match self.peek() {
                    Some(b'[') => self.brackets()?,
                    _ => self.shorthand()?,
                };
                segments.push(Segment::Descendant(selectors));
            } else if self.take(".") {
                segments.push(Segment::Child(self.shorthand()?));
            } else if self.peek() == Some(b'[') {
                segments.push(Segment::Child(self.brackets()?));
            } else {
                self.at = end;
                return Ok(Query {
                    segments: segments.into(),
                });
            }
            self.segments += 1;
            if self.segments > MAX_SEGMENTS {
                return Err(self.too_large(format!("a path may have {MAX_SEGMENTS} segments")));
            }
        }
    }

    /// `*` or a name without quotes.
    fn shorthand(&mut self) -> Result<Box<[Selector]>, Fault> {
        if self.take("*") {
            return Ok([Selector::Wildcard].into());
        }
        let is_first =
            |letter: char| letter.is_ascii_alphabetic() || letter == '_' || !letter.is_ascii();
        let rest = &self.text[self.at..];
        if !rest.starts_with(is_first) {
            return Err(self
                .fault("expected a name or *; names with other characters are written ['name']"));
        }
        let length = rest
            .find(|letter: char| !is_first(letter) && !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        self.at += length;
        Ok([Selector::Name(rest[..length].into())].into())
    }

    fn brackets(&mut self) -> Result<Box<[Selector]>, Fault> {
        self.nest(|parser| {
            parser.at += 1;
            let mut selectors = Vec::new();
            loop {
                parser.blank();
                selectors.push(parser.selector()?);
                parser.blank();
                if parser.take("]") {
                    return Ok(selectors.into());
                }
                parser.expect(",", "expected , or ]")?;
            }
        })
    }

    fn selector(&mut self) -> Result<Selector, Fault> {
        match self.peek() {
            Some(b'\'' | b'"') => Ok(Selector::Name(self.string()?.into())),
            Some(b'*') => {
                self.at += 1;
                Ok(Selector::Wildcard)
            }
            Some(b'?') => {
                self.at += 1;
                self.blank();
                Ok(Selector::Filter(self.logical_or()?))
            }
            Some(b'-' | b'0'..=b'9' | b':') => self.index_or_slice(),
            _ => Err(self.fault("expected a quoted name, an index, a slice, * or ?filter")),
        }
    }

    fn index_or_slice(&mut self) -> Result<Selector, Fault> {
        let start = self.optional_integer()?;
        let end = self.at;
        self.blank();
        if !self.take(":") {
            self.at = end;
            return start
                .map(Selector::Index)
                .ok_or_else(|| self.fault("expected an index"));
        }
        self.blank();
        let end = self.optional_integer()?;
        let mut step = None;
        let before = self.at;
        self.blank();
        if self.take(":") {
            let before = self.at;
            self.blank();
            step = self.optional_integer()?;
            if step.is_none() {
                self.at = before;
            }
        } else {
            self.at = before;
        }
        Ok(Selector::Slice {
            start,
            end,
            step: step.unwrap_or(1),
        })
    }

    fn optional_integer(&mut self) -> Result<Option<i64>, Fault> {
        let start = self.at;
        let negative = self.take("-");
        let digits = self.digits();
        let problem = match digits {
            "" if !negative => return Ok(None),
            "" => "expected a digit behind -",
            "0" if negative => "-0 is not an index",
            "0" => return Ok(Some(0)),
            _ if digits.starts_with('0') => "an index has no leading zeros",
            _ => match digits.parse::<i64>() {
                Ok(value) if value <= MAX_INDEX => {
                    return Ok(Some(if negative { -value } else { value }));
                }
                _ => "an index lies within ±(2^53 - 1)",
            },
        };
        Err(self.fault_since(start, problem))
    }

    fn digits(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// A quoted string, at its quote.
    fn string(&mut self) -> Result<String, Fault> {
        let opened = self.at;
        let quote = if self.take("'") {
            '\''
        } else {
            self.at += 1;
            '"'
        };
        let mut out = String::new();
        loop {
            let Some(letter) = self.text[self.at..].chars().next() else {
                return Err(self.fault_since(opened, "the string has no end"));
            };
            match letter {
                '\0'..' ' => return Err(self.fault("control characters in a string are escaped")),
                '\\' => out.push(self.escape(quote)?),
                _ => {
                    self.at += letter.len_utf8();
                    if letter == quote {
                        return Ok(out);
                    }
                    out.push(letter);
                }
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<char, Fault> {
        let start = self.at;
        self.at += 1;
        let letter = match self.peek() {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'/') => '/',
            Some(b'\\') => '\\',
            Some(byte) if char::from(byte) == quote => quote,
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex4(start)?;
                let code = if (0xD800..0xDC00).contains(&unit) {
                    let low = if self.take("\\u") {
                        self.hex4(start)?
                    } else {
                        0
                    };
                    if !(0xDC00..0xE000).contains(&low) {
                        return Err(
                            self.fault_since(start, "a high surrogate wants a low one behind it")
                        );
                    }
                    0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
                } else {
                    unit
                };
                return char::from_u32(code)
                    .ok_or_else(|| self.fault_since(start, "a low surrogate stands alone"));
            }
            _ => return Err(self.fault_since(start, "not an escape of RFC 9535")),
        };
        self.at += 1;
        Ok(letter)
    }

    fn hex4(&mut self, start: usize) -> Result<u32, Fault> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err(self.fault_since(start, "\\u wants four hexadecimal digits")),
        }
    }

    fn logical_or(&mut self) -> Result<Logical, Fault> {
        self.nest(|parser| {
            let mut terms = vec![parser.logical_and()?];
            while parser.take_behind_blank("||") {
                terms.push(parser.logical_and()?);
            }
            Ok(single_or(terms, Logical::Or))
        })
    }

    fn logical_and(&mut self) -> Result<Logical, Fault> {
        let mut terms = vec![self.basic()?];
        while self.take_behind_blank("&&") {
            terms.push(self.basic()?);
        }
        Ok(single_or(terms, Logical::And))
    }

    /// Takes `token` with the blanks on both sides of it, or nothing.
    fn take_behind_blank(&mut self, token: &str) -> bool {
        let before = self.at;
        self.blank();
        let found = self.take(token);
        if found {
            self.blank();
        } else {
            self.at = before;
        }
        found
    }

    fn basic(&mut self) -> Result<Logical, Fault> {
        let negated = self.take("!");
        if negated {
            self.blank();
        }
        let expression = if self.take("(") {
            self.blank();
            let inner = self.logical_or()?;
            self.blank();
            self.expect(")", "expected )")?;
            inner
        } else {
            self.test_or_comparison(negated)?
        };
        Ok(if negated {
            Logical::Not(Box::new(expression))
        } else {
            expression
        })
    }

    fn test_or_comparison(&mut self, negated: bool) -> Result<Logical, Fault> {
        let start = self.at;
        let left = self.operand()?;
        let end = self.at;
        self.blank();
        let comparison = self.comparison();
        if let Some(comparison) = comparison {
            if negated {
                return Err(self.fault_since(start, "a comparison is negated as !(…)"));
            }
            self.blank();
            let left = self.comparable(left, start, end)?;
            let start = self.at;
            let right = self.operand()?;
            let right = self.comparable(right, start, self.at)?;
            return Ok(Logical::Compare(left, comparison, right));
        }
        self.at = end;
        match left {
            Operand::Logical(logical) => Ok(logical),
            Operand::Nodes(query) | Operand::Comparable(Comparable::Node(query)) => {
                Ok(Logical::Exists(query))
            }
            Operand::Comparable(_) => {
                Err(self.fault_since(start, "a value must be compared with something"))
            }
        }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ]
        .into_iter()
        .find_map(|(token, comparison)| self.take(token).then_some(comparison))
    }

    fn comparable(&self, operand: Operand, start: usize, end: usize) -> Result<Comparable, Fault> {
        let message = match operand {
            Operand::Comparable(comparable) => return Ok(comparable),
            Operand::Nodes(_) => "a query that may select several nodes cannot be compared",
            Operand::Logical(_) => "the result of match or search cannot be compared",
        };
        Err(Fault::at(ProblemKind::Path, message, start..end))
    }

    fn operand(&mut self) -> Result<Operand, Fault> {
        match self.peek() {
            Some(b'@' | b'$') => {
                let absolute = self.peek() == Some(b'$');
                self.at += 1;
                let query = FilterQuery {
                    absolute,
                    query: self.nest(Self::segments)?,
                };
                Ok(if query.query.is_singular() {
                    Operand::Comparable(Comparable::Node(query))
                } else {
                    Operand::Nodes(query)
                })
            }
            Some(b'\'' | b'"') => Ok(Operand::Comparable(Comparable::String(
                self.string()?.into(),
            ))),
            Some(b'-' | b'0'..=b'9') => self.number().map(Operand::Comparable),
            Some(b'a'..=b'z') => self.word(),
            _ => Err(self.fault("expected a query, a literal or a function")),
        }
    }

    fn number(&mut self) -> Result<Comparable, Fault> {
        let start = self.at;
        self.take("-");
        let whole = self.digits();
        let mut well_formed = whole == "0" || !whole.is_empty() && !whole.starts_with('0');
        if self.take(".") {
            well_formed &= !self.digits().is_empty();
        }
        if self.take("e") || self.take("E") {
            let _sign = self.take("-") || self.take("+");
            well_formed &= !self.digits().is_empty();
        }
        match self.text[start..self.at].parse() {
            Ok(number) if well_formed => Ok(Comparable::Number(number)),
            _ => Err(self.fault_since(start, "not a JSON number")),
        }
    }

    /// A literal without quotes, or a function call.
    fn word(&mut self) -> Result<Operand, Fault> {
        let start = self.at;
        let rest = &self.text[start..];
        let is_name =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        let word = &rest[..rest.find(|letter| !is_name(letter)).unwrap_or(rest.len())];
        self.at += word.len();
        if !self.take("(") {
            return match word {
                "true" => Ok(Operand::Comparable(Comparable::Bool(true))),
                "false" => Ok(Operand::Comparable(Comparable::Bool(false))),
                "null" => Ok(Operand::Comparable(Comparable::Null)),
                _ => Err(self.fault_since(
                    start,
                    format!("{word:?} is neither a literal nor a function call"),
                )),
            };
        }
        let arguments = self.nest(Self::arguments)?;
        let count = arguments.len();
        let mut arguments = arguments.into_iter();
        let mut next = || arguments.next().ok_or(());
        match (word, count) {
            ("length", 1) => self
                .value_argument(next(), start)
                .map(|value| Operand::Comparable(Comparable::Length(Box::new(value)))),
            ("count", 1) => self
                .nodes_argument(next(), start)
                .map(|query| Operand::Comparable(Comparable::Count(query))),
            ("value", 1) => self
                .nodes_argument(next(), start)
                .map(|query| Operand::Comparable(Comparable::Value(query))),
            ("match" | "search", 2) => {
                let whole = word == "match";
                let text = self.value_argument(next(), start)?;
                let pattern = match self.value_argument(next(), start)? {
                    Comparable::String(pattern) => {
                        let regex =
                            regex::compile_iregexp(&pattern, whole).map_err(|fault| Fault {
                                kind: fault.kind,
                                ..self.fault_since(start, fault.message)
                            })?;
                        Pattern::Fixed(regex.map(Box::new))
                    }
                    found => Pattern::Found(found),
                };
                Ok(Operand::Logical(Logical::Regex {
                    whole,
                    text,
                    pattern,
                }))
            }
            ("length" | "count" | "value" | "match" | "search", _) => Err(self.fault_since(
                start,
                format!("wrong number of arguments for {word}: {count}"),
            )),
            _ => Err(self.fault_since(start, format!("no such function: {word}"))),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Operand>, Fault> {
        let mut arguments = Vec::new();
        self.blank();
        if self.take(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.operand()?);
            self.blank();
            if self.take(")") {
                return Ok(arguments);
            }
            self.expect(",", "expected , or )")?;
            self.blank();
        }
    }

    fn value_argument(
        &self,
        operand: Result<Operand, ()>,
        start: usize,
    ) -> Result<Comparable, Fault> {
        match operand {
            Ok(Operand::Comparable(value)) => Ok(value),
            _ => Err(self.fault_since(start, "the function takes a value: a literal, a singular query, or a function that gives one")),
        }
    }

    fn nodes_argument(
        &self,
        operand: Result<Operand, ()>,
        start: usize,
    ) -> Result<FilterQuery, Fault> {
        match operand {
            Ok(Operand::Nodes(query) | Operand::Comparable(Comparable::Node(query))) => Ok(query),
            _ => Err(self.fault_since(start, "the function takes a query")),
        }
    }
}

fn single_or(mut terms: Vec<Logical>, many: impl FnOnce(Box<[Logical]>) -> Logical) -> Logical {
    match terms.len() {
        1 => terms.remove(0),
        _ => many(terms.into()),
    }
}
