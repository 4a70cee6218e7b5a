//! Numbers as decimal text says them, compared exactly.
//!
//! A JSON number is a decimal of any length, so comparing goes digit by digit and never through a float: 2^53 and 2^53 + 1
//! differ, `1`, `1.0` and `10e-1` do not, `1e400` is greater than `1e308`. A float that becomes a [`Number`] stands for the
//! shortest decimal that reads back as it, so the constant `0.1` equals the text `0.1`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A decimal number of any size and precision.
///
/// Equal numbers are equal however they are written: `"1.50"` parses to the same as `1.5`.
///
/// ```
/// use etl_filter::conditions::Number;
/// let big: Number = "9007199254740993".parse().unwrap();
/// assert!(big > Number::from(9_007_199_254_740_992_i64));
/// assert_eq!("1.50".parse::<Number>().unwrap(), Number::from_f64(1.5).unwrap());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    negative: bool,
    /// The value is `0.digits × 10^scale`.
    scale: i64,
    /// Without zeros at either end; empty for zero.
    digits: Box<[u8]>,
    /// The value, where it fits.
    small: Option<i64>,
}

impl Number {
    /// The shortest decimal that reads back as `value`; `None` for what is not finite.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        if value.is_finite() {
            format!("{value:e}").parse().ok()
        } else {
            None
        }
    }

    pub(super) fn from_decimal(decimal: &Decimal<'_>) -> Self {
        let mut digits: Vec<u8> = decimal.digits().collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let zero = digits.is_empty();
        let mut number = Number {
            negative: decimal.negative && !zero,
            scale: if zero { 0 } else { decimal.scale },
            digits: digits.into(),
            small: None,
        };
        number.small = number.to_i64();
        number
    }

    fn to_i64(&self) -> Option<i64> {
        let length = self.digits.len() as i64;
        if self.scale < length || self.scale > 19 {
            return None;
        }
        let mut value: i64 = 0;
        for place in 0..self.scale as usize {
            let digit = i64::from(self.digits.get(place).map_or(0, |digit| digit - b'0'));
            value =
                value
                    .checked_mul(10)?
                    .checked_add(if self.negative { -digit } else { digit })?;
        }
        Some(value)
    }

    pub(super) fn as_decimal(&self) -> Decimal<'_> {
        Decimal {
            negative: self.negative,
            scale: self.scale,
            head: &self.digits,
            tail: &[],
            small: self.small,
        }
    }

    /// How `text`, taken as a number, compares with this one.
    pub(super) fn order_of(&self, text: &Decimal<'_>) -> Ordering {
        text.order(&self.as_decimal())
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Decimal::parse(value.to_string().as_bytes())
            .map(|decimal| Number::from_decimal(&decimal))
            .unwrap_or_else(zero)
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Decimal::parse(value.to_string().as_bytes())
            .map(|decimal| Number::from_decimal(&decimal))
            .unwrap_or_else(zero)
    }
}

fn zero() -> Number {
    Number {
        negative: false,
        scale: 0,
        digits: Box::default(),
        small: Some(0),
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_decimal().order(&other.as_decimal())
    }
}

/// The text is not a decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseNumberError(());

impl fmt::Display for ParseNumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a decimal number")
    }
}

impl std::error::Error for ParseNumberError {}

impl FromStr for Number {
    type Err = ParseNumberError;

    /// Digits with an optional sign, fraction and exponent.
    fn from_str(text: &str) -> Result<Self, ParseNumberError> {
        Decimal::parse(text.as_bytes())
            .map(|decimal| Number::from_decimal(&decimal))
            .ok_or(ParseNumberError(()))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(small) = self.small {
            return write!(f, "{small}");
        }
        let digits = std::str::from_utf8(&self.digits).map_err(|_| fmt::Error)?;
        if self.negative {
            f.write_str("-")?;
        }
        let length = digits.len() as i64;
        match self.scale {
            scale if scale > 0 && scale < length => {
                let (whole, fraction) = digits.split_at(scale as usize);
                write!(f, "{whole}.{fraction}")
            }
            scale if scale >= length && scale <= 40 => {
                write!(f, "{digits}{:0<1$}", "", (scale - length) as usize)
            }
            scale if scale <= 0 && scale > -8 => {
                write!(f, "0.{:0<1$}{digits}", "", -scale as usize)
            }
            scale => {
                let (first, rest) = digits.split_at(1);
                let dot = if rest.is_empty() { "" } else { "." };
                write!(f, "{first}{dot}{rest}e{}", scale - 1)
            }
        }
    }
}

/// A number in somebody else's text. Its digits lie in two runs, before and behind the point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// The value is `0.digits × 10^scale`; the first digit is not zero, but for zero itself, which has none.
    scale: i64,
    head: &'a [u8],
    tail: &'a [u8],
    small: Option<i64>,
}

impl<'a> Decimal<'a> {
    /// Reads `[+-] digits [. digits] [e [+-] digits]`, at least one digit around the point: every JSON number, and what
    /// people write into headers (`+5`, `007`, `.5`).
    #[inline]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, text) = match text.first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, rest) = split_digits(text);
        if rest.is_empty() && !whole.is_empty() && whole.len() <= 18 {
            let value = whole
                .iter()
                .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
            let head = strip_zeros(whole);
            return Some(Decimal {
                negative,
                scale: head.len() as i64,
                head,
                tail: &[],
                small: Some(if negative { -value } else { value }),
            });
        }
        let (fraction, rest) = match rest.split_first() {
            Some((b'.', rest)) => split_digits(rest),
            _ => (&text[..0], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', rest)) => exponent(rest)?,
            Some(_) => return None,
        };
        let head = strip_zeros(whole);
        let (head, tail, scale) = if head.is_empty() {
            let tail = strip_zeros(fraction);
            (
                tail,
                &fraction[..0],
                tail.len() as i64 - fraction.len() as i64,
            )
        } else {
            (head, fraction, head.len() as i64)
        };
        // Zero has no scale, or `0e9` would be greater than `0`.
        let scale = if head.is_empty() {
            0
        } else {
            scale.saturating_add(exponent)
        };
        Some(Decimal {
            negative,
            scale,
            head,
            tail,
            small: None,
        })
    }

    /// A whole number, its digits written into `buffer`.
    pub fn from_i64(value: i64, buffer: &'a mut [u8; 20]) -> Self {
        let mut rest = value.unsigned_abs();
        let mut at = buffer.len();
        while rest != 0 {
            at -= 1;
            buffer[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let head = &buffer[at..];
        Decimal {
            negative: value < 0,
            scale: head.len() as i64,
            head,
            tail: &[],
            small: Some(value),
        }
    }

    fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        self.head.iter().chain(self.tail).copied()
    }

    fn is_zero(&self) -> bool {
        self.head.is_empty()
    }

    /// Compares two numbers by value.
    #[inline]
    pub fn order(&self, other: &Decimal<'_>) -> Ordering {
        if let (Some(this), Some(other)) = (self.small, other.small) {
            return this.cmp(&other);
        }
        match (self.is_zero(), other.is_zero()) {
            (true, true) => return Ordering::Equal,
            (true, false) => {
                return if other.negative {
                    Ordering::Greater
                } else {
                    Ordering::Less
                };
            }
            (false, true) => {
                return if self.negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                };
            }
            (false, false) => {}
        }
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.magnitude(other),
            (true, true) => other.magnitude(self),
        }
    }

    fn magnitude(&self, other: &Decimal<'_>) -> Ordering {
        self.scale.cmp(&other.scale).then_with(|| {
            let (mut these, mut those) = (self.digits(), other.digits());
            loop {
                match (these.next(), those.next()) {
                    (None, None) => return Ordering::Equal,
                    (this, that) => match this.unwrap_or(b'0').cmp(&that.unwrap_or(b'0')) {
                        Ordering::Equal => {}
                        unequal => return unequal,
                    },
                }
            }
        })
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(
        text.iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

fn strip_zeros(digits: &[u8]) -> &[u8] {
    &digits[digits
        .iter()
        .position(|&digit| digit != b'0')
        .unwrap_or(digits.len())..]
}

/// An exponent beyond ±2^60 is taken for that: no text that fits into memory has as many digits.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_i64, |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(i64::from(digit - b'0'))
        })
        .min(1 << 60);
    Some(if negative { -value } else { value })
}
