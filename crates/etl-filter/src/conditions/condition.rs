//! What a user asks of a record: one condition, its operators and its constants.

use std::fmt;

use super::Number;

/// One thing that a record must satisfy.
///
/// ```
/// use etl_filter::conditions::{Condition, ConditionKind, Operator};
/// let hot = Condition::new(ConditionKind::payload("$.temperature"), Operator::GreaterThan, 90);
/// assert_eq!(hot.to_string(), "$.temperature GreaterThan 90");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Where in the record to look.
    pub kind: ConditionKind,
    /// How to compare.
    pub operator: Operator,
    /// What to compare with.
    pub value: Value,
    /// Inverts the answer, after everything else: a negated condition on a missing field holds (but for `NotEquals`).
    pub negate: bool,
}

impl Condition {
    /// A condition that is not negated.
    #[must_use]
    pub fn new(kind: ConditionKind, operator: Operator, value: impl Into<Value>) -> Self {
        Condition {
            kind,
            operator,
            value: value.into(),
            negate: false,
        }
    }

    /// The same condition, inverted.
    #[must_use]
    pub fn negated(self) -> Self {
        Condition {
            negate: !self.negate,
            ..self
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.negate { "not " } else { "" };
        write!(f, "{not}{} {} {}", self.kind, self.operator, self.value)
    }
}

/// Declares the kinds once: the enum, the list of all, and the names cannot disagree.
macro_rules! condition_kinds {
    ($($(#[$doc:meta])* $kind:ident $({ $(#[$field_doc:meta])* $field:ident })?,)+) => {
        /// Where in a record a condition looks.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum ConditionKind {
            $($(#[$doc])* $kind $({ $(#[$field_doc])* $field: String })?,)+
        }

        impl ConditionKind {
            /// One kind of each sort, with an empty name or path: what tests go through.
            pub const ALL: [ConditionKind; [$(stringify!($kind)),+].len()] =
                [$(ConditionKind::$kind $({ $field: String::new() })?),+];

            /// What a configuration calls it.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(ConditionKind::$kind { .. } => stringify!($kind),)+
                }
            }
        }
    };
}

condition_kinds! {
    /// The first header of this name, as UTF-8 text. Names are compared exactly. A header that is compared with a number or
    /// a boolean is read as one.
    HeaderValue {
        /// The header's name.
        name
    },
    /// A field of a JSON payload.
    PayloadField {
        /// An RFC 9535 JSONPath, such as `$.sensor.readings[0]`.
        jsonpath
    },
    /// The length of the payload in bytes.
    MessageSize,
    /// Milliseconds since the record's timestamp: negative for a timestamp in the future, missing without one.
    MessageAge,
}

impl ConditionKind {
    /// The first header of that name.
    #[must_use]
    pub fn header(name: impl Into<String>) -> Self {
        ConditionKind::HeaderValue { name: name.into() }
    }

    /// The field of the payload at an RFC 9535 path.
    #[must_use]
    pub fn payload(jsonpath: impl Into<String>) -> Self {
        ConditionKind::PayloadField {
            jsonpath: jsonpath.into(),
        }
    }
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConditionKind::HeaderValue { name } => write!(f, "header {name:?}"),
            ConditionKind::PayloadField { jsonpath } => f.write_str(jsonpath),
            ConditionKind::MessageSize => f.write_str("message size"),
            ConditionKind::MessageAge => f.write_str("message age"),
        }
    }
}

/// Declares the operators once: the enum, the list of all, and the names cannot disagree.
macro_rules! operators {
    ($($(#[$doc:meta])* $operator:ident,)+) => {
        /// How what was found is compared with the constant.
        ///
        /// Numbers compare with numbers and strings with strings; anything else is as if the field were missing: every
        /// operator is false, but `NotEquals` is true.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operator {
            $($(#[$doc])* $operator,)+
        }

        impl Operator {
            /// Every operator.
            pub const ALL: &'static [Operator] = &[$(Operator::$operator),+];

            /// What a configuration calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Operator::$operator => stringify!($operator),)+
                }
            }
        }
    };
}

operators! {
    /// The same value of the same type.
    Equals,
    /// Not the same value, or not the same type, or missing.
    NotEquals,
    /// A greater number, or a string that sorts behind the constant (by code points).
    GreaterThan,
    /// A smaller number, or a string that sorts before the constant.
    LessThan,
    /// `GreaterThan` or `Equals`.
    GreaterThanOrEqual,
    /// `LessThan` or `Equals`.
    LessThanOrEqual,
    /// A string with the constant in it. For the elements of an array, ask `$.array[*]` with `Equals`.
    Contains,
    /// A string that begins with the constant.
    StartsWith,
    /// A string that ends with the constant.
    EndsWith,
    /// A string in which the constant, a regular expression, matches somewhere. Linear time; syntax of the `regex` crate.
    Matches,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The constant of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// JSON `null`, which is not the same as a missing field.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number of any size, compared exactly.
    Number(Number),
    /// Text, or a regular expression for [`Operator::Matches`].
    String(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Number(value) => write!(f, "{value}"),
            Value::String(value) => write!(f, "{value:?}"),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Number(i64::from(value).into())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Number(value.into())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Number(value.into())
    }
}

impl From<Number> for Value {
    fn from(value: Number) -> Self {
        Value::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::String(value)
    }
}
