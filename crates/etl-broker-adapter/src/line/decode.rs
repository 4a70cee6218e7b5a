//! From a line to a record: one pass, the value a slice of the line.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use etl_orchestrator::{Headers, Record};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Standard alphabet; the padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a line is not a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    message: String,
    column: Option<usize>,
}

impl LineError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            column: None,
        }
    }

    fn from_json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let position = format!(" at line {} column {}", error.line(), error.column());
        let message = text.strip_suffix(&position).unwrap_or(&text);
        Self {
            // What serde_json alone says ("expected ident") names a place in a grammar, not what is wrong with the line.
            message: if error.is_data() {
                message.to_owned()
            } else {
                format!("not JSON: {message}")
            },
            // Column 0 is how serde_json says that it does not know.
            column: Some(error.column()).filter(|column| *column > 0),
        }
    }

    /// What is wrong, without the position.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The byte of the line at which it was noticed, counted from 1.
    pub fn column(&self) -> Option<usize> {
        self.column
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.column {
            Some(column) => write!(f, " (column {column})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for LineError {}

/// Reads one record from one line, without its line break.
///
/// `offset` is the record's offset where the line names none. The value is a slice of `line`, not a copy of it.
///
/// # Errors
///
/// The line is not UTF-8, not JSON, not an object, has an unknown or repeated field, lacks `topic`, or says the
/// key or the value twice (as text and as base64).
///
/// ```
/// let line = bytes::Bytes::from_static(br#"{"topic":"orders","key":"k","value":{"price":1.0}}"#);
/// let record = etl_broker_adapter::line::decode(&line, 7)?;
/// assert_eq!(&record.value[..], br#"{"price":1.0}"#);
/// assert_eq!(record.offset, 7);
/// # Ok::<(), etl_broker_adapter::line::LineError>(())
/// ```
pub fn decode(line: &Bytes, offset: u64) -> Result<Record, LineError> {
    let fields: Fields<'_> =
        serde_json::from_slice(line).map_err(|error| LineError::from_json(&error))?;
    let key = match (fields.key, fields.key_base64) {
        (Some(_), Some(_)) => return Err(twice("key")),
        (Some(text), None) => Some(Bytes::from(text.0.into_owned())),
        (None, Some(text)) => Some(from_base64("key_base64", &text.0)?),
        (None, None) => None,
    };
    let value = match (fields.value, fields.value_base64) {
        (Some(_), Some(_)) => return Err(twice("value")),
        (Some(raw), None) => line.slice_ref(raw.get().as_bytes()),
        (None, Some(text)) => from_base64("value_base64", &text.0)?,
        (None, None) => Bytes::new(),
    };
    Ok(Record {
        topic: Arc::from(&*fields.topic.0),
        partition: fields.partition.unwrap_or(0),
        offset: fields.offset.unwrap_or(offset),
        key,
        value,
        headers: fields
            .headers
            .map_or_else(Headers::new, |list| list.0.into_iter().collect()),
        timestamp: fields.timestamp,
    })
}

fn twice(field: &str) -> LineError {
    LineError::new(format!(
        "both `{field}` and `{field}_base64` are given; a record has one {field}"
    ))
}

fn from_base64(field: &str, text: &str) -> Result<Bytes, LineError> {
    match BASE64.decode(text) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(LineError::new(format!("`{field}` is not base64: {error}"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a record: an object with `topic`")]
struct Fields<'a> {
    #[serde(borrow)]
    topic: Text<'a>,
    partition: Option<u32>,
    offset: Option<u64>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    key_base64: Option<Text<'a>>,
    headers: Option<HeaderList>,
    timestamp: Option<i64>,
    // `null` is a value: an Option would read it as none.
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    value_base64: Option<Text<'a>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A string, borrowed from the line where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// The ordered list, from an object; a name may come again there too.
struct HeaderList(Vec<(Arc<str>, Bytes)>);

impl<'de> Deserialize<'de> for HeaderList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = HeaderList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers: an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderList, A::Error> {
                let mut headers = Vec::with_capacity(map.size_hint().unwrap_or(4));
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    let name: Arc<str> = Arc::from(&*name.0);
                    match map.next_value::<Values>()? {
                        Values::One(value) => headers.push((name, value)),
                        Values::Many(values) => {
                            headers.extend(values.into_iter().map(|value| (name.clone(), value)));
                        }
                    }
                }
                Ok(HeaderList(headers))
            }
        }
        deserializer.deserialize_map(ListVisitor)
    }
}

/// What may stand as the value of a header: text, `{"base64": …}`, or a list of these.
enum Values {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValuesVisitor;
        impl<'de> Visitor<'de> for ValuesVisitor {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header value: a string, {\"base64\": …}, or a list of these")
            }

            fn visit_str<E>(self, text: &str) -> Result<Values, E> {
                Ok(Values::One(Bytes::copy_from_slice(text.as_bytes())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let only = "a header value that is an object has one field, `base64`";
                if map.next_key::<String>()?.as_deref() != Some("base64") {
                    return Err(de::Error::custom(only));
                }
                let text = map.next_value::<String>()?;
                if map.next_key::<String>()?.is_some() {
                    return Err(de::Error::custom(only));
                }
                from_base64("base64", &text)
                    .map(Values::One)
                    .map_err(|error| de::Error::custom(error.message))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    match value {
                        Values::One(value) => values.push(value),
                        Values::Many(_) => {
                            return Err(de::Error::custom("lists of header values do not nest"));
                        }
                    }
                }
                Ok(Values::Many(values))
            }
        }
        deserializer.deserialize_any(ValuesVisitor)
    }
}
