//! Refuses records that are not what a schema says.
//!
//! The value must be a JSON object. With `schema_validation` it must also fit the `schema`; with `strict_mode` besides, fields that the
//! schema does not name are refused, at every level that has `properties`. A record that passes is not changed; one that does not fails
//! with what is wrong and where (as a JSON pointer), at most eight problems at once.
//!
//! `custom_config`, all optional:
//!
//! | field | default | |
//! |---|---|---|
//! | `schema_validation` | `true` | whether the schema is looked at |
//! | `strict_mode` | `false` | whether fields that the schema does not name are refused; needs a schema with `properties` |
//! | `schema` | anything | a subset of JSON Schema: `type` (one or a list), `required`, `properties`, `items`, `enum`, `minimum`, `maximum` |
//!
//! ```json
//! { "strict_mode": true,
//!   "schema": { "required": ["id"], "properties": { "id": { "type": "string" }, "age": { "type": ["integer", "null"], "minimum": 0 } } } }
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use etl_sdk::prelude::*;
use serde_json_borrow::Value;

const MOST_PROBLEMS: usize = 8;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    schema_validation: bool,
    strict_mode: bool,
    schema: Schema,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            schema_validation: true,
            strict_mode: false,
            schema: Schema::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "Settings")]
struct Config(Settings);

impl TryFrom<Settings> for Config {
    type Error = &'static str;

    /// A strict mode that has nothing to be strict about would be a setting that is not obeyed.
    fn try_from(settings: Settings) -> Result<Self, &'static str> {
        if settings.strict_mode
            && (!settings.schema_validation || settings.schema.properties.is_none())
        {
            return Err("strict_mode needs schema_validation and a schema with properties");
        }
        Ok(Self(settings))
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Schema {
    #[serde(rename = "type")]
    kinds: Option<Kinds>,
    required: Vec<String>,
    properties: Option<BTreeMap<String, Schema>>,
    items: Option<Box<Schema>>,
    #[serde(rename = "enum")]
    allowed: Option<Vec<serde_json::Value>>,
    minimum: Option<f64>,
    maximum: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Kinds {
    One(Kind),
    Any(Vec<Kind>),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    fn holds(self, value: &Value<'_>) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Boolean => value.is_bool(),
            // As in JSON Schema, 1.0 is an integer.
            Self::Integer => {
                value.is_i64()
                    || value.is_u64()
                    || value.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            Self::Number => value.is_number(),
            Self::String => value.is_string(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

#[transform]
fn message_validator(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
    let Config(settings) = config;
    let value: Value<'_> = record.json()?;
    if !value.is_object() {
        return Err(Error::permanent(format!(
            "the value is {}, not a JSON object",
            describe(&value)
        )));
    }
    if settings.schema_validation {
        let mut check = Check {
            strict: settings.strict_mode,
            pointer: String::new(),
            problems: Vec::new(),
        };
        check.value(&value, &settings.schema);
        if !check.problems.is_empty() {
            return Err(Error::permanent(check.problems.join("; ")));
        }
    }
    out.add_header("etl-path", env!("CARGO_PKG_NAME"));
    Ok(())
}

struct Check {
    strict: bool,
    pointer: String,
    problems: Vec<String>,
}

impl Check {
    fn value(&mut self, value: &Value<'_>, schema: &Schema) {
        let kinds = match &schema.kinds {
            None => &[][..],
            Some(Kinds::One(kind)) => std::slice::from_ref(kind),
            Some(Kinds::Any(kinds)) => kinds,
        };
        if !kinds.is_empty() && !kinds.iter().any(|kind| kind.holds(value)) {
            let expected: Vec<String> = kinds
                .iter()
                .map(|kind| format!("{kind:?}").to_lowercase())
                .collect();
            return self.problem(&format!(
                "expected {}, found {}",
                expected.join(" or "),
                describe(value)
            ));
        }
        if let Some(allowed) = &schema.allowed
            && !allowed.contains(&serde_json::Value::from(value))
        {
            self.problem(&format!(
                "{} is none of {}",
                describe(value),
                serde_json::Value::from(allowed.clone())
            ));
        }
        if let Some(number) = value.as_f64() {
            if let Some(minimum) = schema.minimum
                && number < minimum
            {
                self.problem(&format!("{number} is less than {minimum}"));
            }
            if let Some(maximum) = schema.maximum
                && number > maximum
            {
                self.problem(&format!("{number} is more than {maximum}"));
            }
        }
        if let (Some(items), Value::Array(elements)) = (&schema.items, value) {
            for (index, element) in elements.iter().enumerate() {
                self.inside(&index.to_string(), |check| check.value(element, items));
            }
        }
        if let Value::Object(fields) = value {
            // Of a name that repeats the last one counts, as for most readers.
            let last = |name: &str| fields.iter().filter(|(known, _)| *known == name).last();
            for name in schema.required.iter().filter(|name| last(name).is_none()) {
                self.inside(name, |check| check.problem("is missing"));
            }
            for (name, schema) in schema.properties.iter().flatten() {
                if let Some((_, field)) = last(name) {
                    self.inside(name, |check| check.value(field, schema));
                }
            }
            if let (true, Some(properties)) = (self.strict, &schema.properties) {
                for (name, _) in fields.iter() {
                    if !properties.contains_key(name) {
                        self.inside(name, |check| check.problem("is not in the schema"));
                    }
                }
            }
        }
    }

    /// One step further down the JSON pointer (RFC 6901).
    fn inside(&mut self, step: &str, check: impl FnOnce(&mut Self)) {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer
            .push_str(&step.replace('~', "~0").replace('/', "~1"));
        check(self);
        self.pointer.truncate(length);
    }

    fn problem(&mut self, what: &str) {
        if self.problems.len() < MOST_PROBLEMS {
            let place = if self.pointer.is_empty() {
                "the value"
            } else {
                &self.pointer
            };
            self.problems.push(format!("{place}: {what}"));
        }
    }
}

/// What a value is, in a few words whatever its size.
fn describe(value: &Value<'_>) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Str(text) if text.chars().count() > 40 => {
            format!("{:?}...", text.chars().take(40).collect::<String>())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etl_sdk::serde_json::Value;
    use etl_sdk::testing::{Outcome, TestRecord, config, run, run_batch};

    fn validate(value: impl AsRef<[u8]>, config: Value) -> Outcome {
        run(
            message_validator,
            TestRecord::new("events.user").value(value),
            config,
        )
    }

    fn schema() -> Value {
        json!({ "required": ["id"], "properties": {
            "id": { "type": "string" },
            "age": { "type": ["integer", "null"], "minimum": 0, "maximum": 150 },
            "plan": { "enum": ["free", "paid"] },
            "tags": { "type": "array", "items": { "type": "string" } },
            "address": { "properties": { "a/b": { "type": "number" } } },
        } })
    }

    #[test]
    fn good_values_pass_unchanged() {
        let value = r#"{ "id":"x", "age":1.0, "plan":"free", "tags":["a"], "address":{"a/b":1e3}, "more":true }"#;
        for config in [
            json!(null),
            json!({ "schema_validation": true, "strict_mode": false }),
            json!({ "schema": schema() }),
        ] {
            let outcome = validate(value, config);
            assert_eq!(outcome.failure(), None);
            assert_eq!(outcome.text(), value);
            assert_eq!(outcome.headers("etl-path"), ["message-validator"]);
        }
        let outcome = validate(
            value,
            json!({ "schema_validation": false, "schema": { "required": ["nothing"] } }),
        );
        assert_eq!(outcome.failure(), None);
    }

    #[test]
    fn bad_values_fail_with_what_and_where() {
        let cases = [
            (
                "{",
                false,
                "the value is not JSON: EOF while parsing an object at line 1 column 1",
            ),
            (
                "",
                false,
                "the value is not JSON: EOF while parsing a value at line 1 column 0",
            ),
            ("[1]", false, "the value is an array, not a JSON object"),
            ("{}", false, "/id: is missing"),
            (r#"{"id":7}"#, false, "/id: expected string, found 7"),
            (
                r#"{"id":"x","age":1.5}"#,
                false,
                "/age: expected integer or null, found 1.5",
            ),
            (
                r#"{"id":"x","age":-1,"plan":"x"}"#,
                false,
                r#"/age: -1 is less than 0; /plan: "x" is none of ["free","paid"]"#,
            ),
            (
                r#"{"id":"x","tags":["a",{}]}"#,
                false,
                "/tags/1: expected string, found an object",
            ),
            (
                r#"{"id":"x","address":{"a/b":"c","d":1}}"#,
                true,
                r#"/address/a~1b: expected number, found "c"; /address/d: is not in the schema"#,
            ),
            (
                r#"{"id":"x","name":"y"}"#,
                true,
                "/name: is not in the schema",
            ),
        ];
        for (value, strict, expected) in cases {
            let outcome = validate(value, json!({ "strict_mode": strict, "schema": schema() }));
            let failure = outcome.failure().expect("a failure");
            assert_eq!(
                (failure.message.as_str(), failure.retryable),
                (expected, false),
                "{value}"
            );
        }
    }

    #[test]
    fn a_failure_says_only_so_much() {
        let outcome = validate(
            json!({ "tags": vec![1; 100], "id": "x" }).to_string(),
            json!({ "schema": schema() }),
        );
        assert_eq!(
            outcome
                .failure()
                .expect("a failure")
                .message
                .matches("expected string")
                .count(),
            MOST_PROBLEMS
        );
    }

    #[test]
    fn a_config_that_means_nothing_is_refused() {
        let strict_about_nothing = config::<Config>(json!({ "strict_mode": true }));
        assert!(
            strict_about_nothing
                .is_err_and(|message| message.contains("needs schema_validation and a schema"))
        );
        assert!(
            config::<Config>(json!({ "schema": { "pattern": "x" } }))
                .is_err_and(|message| message.contains("unknown field `pattern`"))
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
    fn real_feeds_fit_their_schemas() {
        let quakes = json!({ "strict_mode": false, "schema": { "required": ["id", "magnitude"], "properties": {
            "id": { "type": "string" }, "magnitude": { "type": "number", "maximum": 10 }, "stations": { "type": ["integer", "null"] },
        } } });
        let flights = json!({ "strict_mode": true, "schema": { "properties": {
            "date": { "type": "string" }, "delay": { "type": "integer" }, "distance": { "type": "integer", "minimum": 1 },
            "origin": { "type": "string" }, "destination": { "type": "string" },
        } } });
        for (name, config) in [
            ("usgs-earthquakes.ndjson", quakes),
            ("flights.ndjson", flights),
        ] {
            for outcome in run_batch(message_validator, feed(name), config) {
                assert_eq!(outcome.failure(), None);
            }
        }
    }
}
