//! Writes JSON values in one canonical form.
//!
//! Fields are sorted by name and white space is canonical, so that equal messages are equal bytes. Numbers and text that nothing
//! asks to be changed keep their digits and escapes (1.10 stays 1.10, and an id of 20 digits keeps them all). The header `content-type` becomes
//! `application/json`. A value that is not JSON goes on as it is.
//!
//! `custom_config`, all optional:
//!
//! | field | default | |
//! |---|---|---|
//! | `style` | `"compact"` | or `"pretty"`: two spaces, one field a line |
//! | `sort_keys` | `true` | `false` keeps the order in which fields came |
//! | `rename` | none | top-level fields and their new names; a name that is taken fails the record |
//! | `timestamps` | none | top-level fields with Unix milliseconds, to be written as RFC 3339 in UTC |
//! | `envelope` | `false` | wraps the value: `{"topic", "key", "timestamp", "value"}` |
//! | `require_json` | `false` | fails a value that is not JSON |
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use etl_sdk::prelude::*;
use serde::Serializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};

/// As deep as serde_json goes.
const MOST_LEVELS: usize = 128;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    style: Style,
    sort_keys: bool,
    rename: BTreeMap<String, String>,
    timestamps: Vec<String>,
    envelope: bool,
    require_json: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            style: Style::Compact,
            sort_keys: true,
            rename: BTreeMap::new(),
            timestamps: Vec::new(),
            envelope: false,
            require_json: false,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    Compact,
    Pretty,
}

#[transform]
fn message_formatter(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
    out.add_header("etl-path", env!("CARGO_PKG_NAME"));
    let value = match record.json::<&RawValue>() {
        Ok(raw) => Node::read(raw, config, MOST_LEVELS)?,
        Err(error) if config.require_json => return Err(error),
        Err(_) => return Ok(()),
    };
    let mut value = value.top(config)?;
    if config.envelope {
        value = envelope(record, value)?;
    }
    let text = match config.style {
        Style::Compact => serde_json::to_string(&value)?,
        Style::Pretty => serde_json::to_string_pretty(&value)?,
    };
    if text.as_bytes() != record.value() {
        out.set_value(text);
    }
    out.set_header("content-type", "application/json");
    Ok(())
}

/// A JSON value whose leaves are the text that came in.
enum Node<'a> {
    Leaf(Cow<'a, RawValue>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    fn read(raw: &'a RawValue, config: &Config, levels: usize) -> Result<Self> {
        let text = raw.get();
        if levels == 0 {
            return Err(Error::permanent(format!(
                "the value is nested more than {MOST_LEVELS} levels deep"
            )));
        }
        match text.as_bytes() {
            [b'[', ..] => {
                let elements: Vec<&RawValue> = serde_json::from_str(text)?;
                let read = |element| Self::read(element, config, levels - 1);
                elements
                    .into_iter()
                    .map(read)
                    .collect::<Result<_>>()
                    .map(Self::Array)
            }
            [b'{', ..] => {
                let Fields(fields) = serde_json::from_str(text)?;
                let read = |(name, field)| Ok((name, Self::read(field, config, levels - 1)?));
                let fields = last_of_each(fields, config.sort_keys).into_iter();
                fields.map(read).collect::<Result<_>>().map(Self::Object)
            }
            _ => Ok(Self::Leaf(Cow::Borrowed(raw))),
        }
    }

    /// Renames and timestamps, which concern the top level alone.
    fn top(self, config: &Config) -> Result<Self> {
        let Self::Object(mut fields) = self else {
            return Ok(self);
        };
        for (name, field) in &mut fields {
            if config.timestamps.iter().any(|listed| listed == name) {
                field.make_timestamp(name)?;
            }
        }
        for (from, to) in &config.rename {
            if fields.iter().any(|(name, _)| name == from)
                && fields.iter().any(|(name, _)| name == to)
            {
                return Err(Error::permanent(format!(
                    "field {from:?} cannot be renamed: there is a {to:?} already"
                )));
            }
            for (name, _) in fields.iter_mut().filter(|(name, _)| name == from) {
                *name = Cow::Owned(to.clone());
            }
        }
        if config.sort_keys && !config.rename.is_empty() {
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        Ok(Self::Object(fields))
    }

    /// Unix milliseconds become RFC 3339; null and what is text already stay.
    fn make_timestamp(&mut self, name: &str) -> Result<()> {
        if let Self::Leaf(raw) = self
            && (raw.get() == "null" || raw.get().starts_with('"'))
        {
            return Ok(());
        }
        let milliseconds = if let Self::Leaf(raw) = self {
            raw.get().parse().ok()
        } else {
            None
        };
        let text = milliseconds.and_then(rfc3339).ok_or_else(|| {
            Error::permanent(format!("field {name:?} is not a time in Unix milliseconds"))
        })?;
        *self = Self::leaf(&text)?;
        Ok(())
    }

    fn leaf(value: &impl Serialize) -> Result<Self> {
        Ok(Self::Leaf(Cow::Owned(to_raw_value(value)?)))
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Leaf(raw) => raw.serialize(serializer),
            Self::Array(elements) => serializer.collect_seq(elements),
            Self::Object(fields) => {
                serializer.collect_map(fields.iter().map(|(name, field)| (name, field)))
            }
        }
    }
}

/// The fields of an object as they came.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some((Name(name), field)) = map.next_entry()? {
                    fields.push((name, field));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// A name that borrows where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Of a name that repeats the last one counts, as for most readers. Sorted by name, or where the first of each stood.
fn last_of_each<'a>(
    mut fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    sort: bool,
) -> Vec<(Cow<'a, str>, &'a RawValue)> {
    if sort {
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        fields.dedup_by(|next, kept| {
            let repeats = next.0 == kept.0;
            if repeats {
                kept.1 = next.1;
            }
            repeats
        });
        return fields;
    }
    let mut places: BTreeMap<Cow<'a, str>, usize> = BTreeMap::new();
    let mut kept: Vec<(Cow<'a, str>, &RawValue)> = Vec::with_capacity(fields.len());
    for (name, field) in fields {
        match places.get(&name) {
            Some(&place) => kept[place].1 = field,
            None => {
                places.insert(name.clone(), kept.len());
                kept.push((name, field));
            }
        }
    }
    kept
}

fn envelope<'a>(record: &Record<'_>, value: Node<'a>) -> Result<Node<'a>> {
    let time = record.timestamp().and_then(rfc3339);
    let key = record.key().map(String::from_utf8_lossy);
    let fields = [
        ("key", Node::leaf(&key)?),
        ("timestamp", Node::leaf(&time)?),
        ("topic", Node::leaf(&record.topic())?),
        ("value", value),
    ];
    Ok(Node::Object(
        fields
            .map(|(name, field)| (Cow::Borrowed(name), field))
            .into(),
    ))
}

/// Unix milliseconds as `2018-01-31T01:49:59.650Z`, for the years that RFC 3339 knows.
fn rfc3339(milliseconds: i64) -> Option<String> {
    let (days, rest) = (
        milliseconds.div_euclid(86_400_000),
        milliseconds.rem_euclid(86_400_000),
    );
    // Days since 1 March of the year 0, in eras of 400 years; a year that starts in March has its leap day last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (
        day - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    let text = || {
        format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            rest % 1_000
        )
    };
    (0..=9999).contains(&year).then(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etl_sdk::testing::{Outcome, TestRecord, run, run_batch};

    fn format(value: impl AsRef<[u8]>, config: Value) -> Outcome {
        let record = TestRecord::new("events.user")
            .key("k")
            .timestamp(1_517_363_399_650)
            .header("content-type", "text/plain");
        run(message_formatter, record.value(value), config)
    }

    #[test]
    fn the_canonical_form_sorts_and_keeps_every_digit() {
        let value = r#" { "b" : 1.10, "a":[ { "z":12345678901234567890123, "y":"\u00e4\n" } ], "\u0063":-0.0 } "#;
        let outcome = format(value, json!(null));
        assert_eq!(
            outcome.text(),
            r#"{"a":[{"y":"\u00e4\n","z":12345678901234567890123}],"b":1.10,"c":-0.0}"#
        );
        assert_eq!(outcome.headers("content-type"), ["application/json"]);
        assert_eq!(outcome.headers("etl-path"), ["message-formatter"]);
        assert_eq!(format(outcome.text(), json!({})).text(), outcome.text());
    }

    #[test]
    fn style_and_order_are_configured() {
        assert_eq!(
            format(r#"{"b":[1],"a":{}}"#, json!({ "style": "pretty" })).text(),
            "{\n  \"a\": {},\n  \"b\": [\n    1\n  ]\n}"
        );
        assert_eq!(
            format(r#"{"b":1,"a":2,"b":3}"#, json!({ "sort_keys": false })).text(),
            r#"{"b":3,"a":2}"#
        );
    }

    #[test]
    fn fields_are_renamed_and_times_written_out() {
        let config = json!({ "rename": { "mag": "magnitude", "none": "x" }, "timestamps": ["time", "updated", "gone", "absent"] });
        let outcome = format(
            r#"{"mag":0.31,"time":1517363399650,"updated":"today","gone":null}"#,
            config.clone(),
        );
        assert_eq!(
            outcome.text(),
            r#"{"gone":null,"magnitude":0.31,"time":"2018-01-31T01:49:59.650Z","updated":"today"}"#
        );
        for (value, expected) in [
            (
                r#"{"mag":1,"magnitude":2}"#,
                r#"field "mag" cannot be renamed: there is a "magnitude" already"#,
            ),
            (
                r#"{"time":1.5}"#,
                r#"field "time" is not a time in Unix milliseconds"#,
            ),
            (
                r#"{"time":[1]}"#,
                r#"field "time" is not a time in Unix milliseconds"#,
            ),
        ] {
            assert_eq!(
                format(value, config.clone())
                    .failure()
                    .expect("a failure")
                    .message,
                expected
            );
        }
    }

    #[test]
    fn times_follow_the_calendar() {
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(milliseconds).as_deref(), Some(expected));
        }
        assert_eq!(
            (
                rfc3339(253_402_300_800_000),
                rfc3339(i64::MIN),
                rfc3339(i64::MAX)
            ),
            (None, None, None)
        );
    }

    #[test]
    fn the_envelope_holds_the_record() {
        let outcome = format("[1, 2]", json!({ "envelope": true }));
        assert_eq!(
            outcome.text(),
            r#"{"key":"k","timestamp":"2018-01-31T01:49:59.650Z","topic":"events.user","value":[1,2]}"#
        );
    }

    #[test]
    fn what_is_not_json_stays_or_fails() {
        for value in ["plain text", "", "{\"a\":1} x"] {
            let outcome = format(value, json!({}));
            assert_eq!(
                (outcome.text(), outcome.header("content-type")),
                (value, Some("text/plain"))
            );
            let message = format(value, json!({ "require_json": true }))
                .failure()
                .expect("a failure")
                .message
                .clone();
            assert!(message.starts_with("the value is not JSON"), "{message}");
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(
            format(deep, json!({}))
                .failure()
                .expect("a failure")
                .message
                .contains("more than 128 levels")
        );
    }

    /// The feed of `ETL_TEST_DATA`, or nothing where it is not set.
    fn feed(name: &str) -> Vec<TestRecord> {
        let Some(folder) = std::env::var_os("ETL_TEST_DATA") else {
            eprintln!("skipped: {name}: set ETL_TEST_DATA");
            return Vec::new();
        };
        let lines =
            std::fs::read_to_string(std::path::Path::new(&folder).join(name)).expect("a feed");
        TestRecord::read_lines(&lines).expect("record lines")
    }

    #[test]
    fn real_feeds_keep_their_meaning_and_format_once() {
        for name in ["usgs-earthquakes.ndjson", "flights.ndjson"] {
            let records = feed(name);
            let before = run_batch(|_: &Record<'_>, _: &mut Output| {}, records.clone(), ());
            let once = run_batch(message_formatter, records, ());
            for (before, once) in before.iter().zip(&once) {
                assert_eq!(before.json(), once.json());
                let twice = run(
                    message_formatter,
                    TestRecord::new("t").value(once.value()),
                    (),
                );
                assert_eq!(once.text(), twice.text());
            }
        }
    }
}
