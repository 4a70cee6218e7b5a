//! One line of a record file, as far as the demo shows it. Values keep their text, so that what is shown is what is there.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// A record line, or one that is none.
#[derive(Debug, Default)]
pub struct Line {
    /// The text of the line.
    pub text: String,
    /// Empty where the line is no record.
    pub topic: String,
    pub key: Option<String>,
    /// A header that repeats has several values.
    headers: BTreeMap<String, Vec<String>>,
    /// The value's text, where it is JSON.
    pub value: Option<String>,
}

impl Line {
    /// Reads what it can.
    pub fn parse(text: &str) -> Self {
        let members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).unwrap_or_default();
        let member = |name: &str| {
            members
                .get(name)
                .and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok())
        };
        let texts = |value: &Value| match value {
            Value::Array(values) => values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            value => value.as_str().map(str::to_owned).into_iter().collect(),
        };
        let headers = member("headers").and_then(|headers| {
            Some(
                headers
                    .as_object()?
                    .iter()
                    .map(|(name, value)| (name.clone(), texts(value)))
                    .collect(),
            )
        });
        Self {
            text: text.to_owned(),
            topic: member("topic")
                .and_then(|topic| topic.as_str().map(str::to_owned))
                .unwrap_or_default(),
            key: member("key").and_then(|key| key.as_str().map(str::to_owned)),
            headers: headers.unwrap_or_default(),
            value: members.get("value").map(|value| value.get().to_owned()),
        }
    }

    /// All values of a header.
    pub fn headers(&self, name: &str) -> &[String] {
        self.headers
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// The first value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers(name)
            .first()
            .map(String::as_str)
            .unwrap_or_default()
    }

    /// The fields of the value with their text, where it is an object.
    pub fn fields(&self) -> BTreeMap<String, String> {
        let parsed: Option<BTreeMap<String, Box<RawValue>>> = self
            .value
            .as_deref()
            .and_then(|value| serde_json::from_str(value).ok());
        parsed
            .unwrap_or_default()
            .into_iter()
            .map(|(name, raw)| (name, raw.get().to_owned()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_values_text() {
        let line = Line::parse(
            r#"{"topic":"t","key":"k","headers":{"etl-path":["a","b"],"x":"y"},"value":{"n":1.50, "m":[]}}"#,
        );
        assert_eq!((line.topic.as_str(), line.key.as_deref()), ("t", Some("k")));
        assert_eq!(line.headers("etl-path"), ["a", "b"]);
        assert_eq!((line.header("x"), line.header("none")), ("y", ""));
        assert_eq!(line.value.as_deref(), Some(r#"{"n":1.50, "m":[]}"#));
        assert_eq!(line.fields()["n"], "1.50");
    }

    #[test]
    fn a_line_that_is_no_record_is_only_text() {
        let line = Line::parse(r#"{"topic":"t","#);
        assert_eq!(
            (line.text.as_str(), line.topic.as_str()),
            (r#"{"topic":"t","#, "")
        );
        assert!(line.value.is_none() && line.fields().is_empty());
    }
}
