//! Adds headers that say what a value is and in which language.
//!
//! - `detected-content-type`: by the first bytes of well-known binary formats, and by reading JSON; what is UTF-8 is markup or plain
//!   text, the rest `application/octet-stream`.
//! - `detected-language` (ISO 639-3, `eng`) and `detected-language-confidence` (0 to 1): of the prose in the value, which is all text of
//!   a JSON value, markup without its tags, or plain text. Missing where there is too little prose to be sure.
//!
//! The value is not changed, and no value fails.
//!
//! `custom_config`, all optional:
//!
//! | field | default | |
//! |---|---|---|
//! | `min_confidence` | `0.9` | how sure to be of a language, 0 to 1 |
//! | `max_bytes` | `4096` | how much prose to look at |
//! | `text_fields` | all | fields of a JSON object whose text counts |
#![forbid(unsafe_code)]

use etl_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    min_confidence: f64,
    max_bytes: usize,
    text_fields: Option<Vec<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_confidence: 0.9,
            max_bytes: 4096,
            text_fields: None,
        }
    }
}

/// First bytes that tell a format.
const SIGNATURES: [(&[u8], &str); 10] = [
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\0asm", "application/wasm"),
    (b"OggS", "application/ogg"),
];

#[transform]
fn content_analyzer(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
    let mut prose = Prose {
        text: String::new(),
        room: config.max_bytes,
    };
    out.set_header("detected-content-type", analyze(record, config, &mut prose));
    if let Some(language) = whatlang::detect(&prose.text)
        && language.confidence() >= config.min_confidence
    {
        out.set_header("detected-language", language.lang().code());
        out.set_header(
            "detected-language-confidence",
            format!("{:.2}", language.confidence()),
        );
    }
    out.add_header("etl-path", env!("CARGO_PKG_NAME"));
    Ok(())
}

/// What the value is; its prose is gathered on the way.
fn analyze(record: &Record<'_>, config: &Config, prose: &mut Prose) -> &'static str {
    let signed = SIGNATURES
        .iter()
        .find(|(signature, _)| record.value().starts_with(signature));
    if let Some((_, content_type)) = signed {
        return content_type;
    }
    let Ok(text) = record.text() else {
        return "application/octet-stream";
    };
    if text.contains('\0') {
        return "application/octet-stream";
    }
    let start = text.trim_start();
    // A bare word or number is JSON too, but nobody means it so.
    if start.starts_with(['{', '[', '"'])
        && let Ok(value) = record.json::<Value>()
    {
        match (&value, &config.text_fields) {
            (Value::Object(fields), Some(names)) => names
                .iter()
                .filter_map(|name| fields.get(name))
                .for_each(|field| prose.json(field)),
            _ => prose.json(&value),
        }
        return "application/json";
    }
    let opening = start
        .get(..start.len().min(14))
        .unwrap_or_default()
        .to_ascii_lowercase();
    if opening.starts_with("<!doctype html") || opening.starts_with("<html") {
        prose.markup(text);
        "text/html"
    } else if opening.starts_with("<?xml") {
        prose.markup(text);
        "application/xml"
    } else {
        prose.add(text);
        "text/plain"
    }
}

/// Text to judge the language by, up to so many bytes.
struct Prose {
    text: String,
    room: usize,
}

impl Prose {
    fn add(&mut self, text: &str) {
        let taken = &text[..text.floor_char_boundary(self.room)];
        self.room -= taken.len();
        self.text.push_str(taken);
        self.text.push(' ');
    }

    /// The text in a JSON value. Single words are names, codes and ids more often than prose.
    fn json(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.trim().contains(' ') => self.add(text),
            Value::Array(elements) => elements.iter().for_each(|element| self.json(element)),
            Value::Object(fields) => fields.values().for_each(|field| self.json(field)),
            _ => {}
        }
    }

    /// What stands between tags.
    fn markup(&mut self, text: &str) {
        for piece in text.split('<') {
            self.add(piece.split_once('>').map_or("", |(_, prose)| prose));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etl_sdk::testing::{Outcome, TestRecord, run, run_batch};

    const ENGLISH: &str = "The committee has decided that the meeting will be held on the first Monday of every month.";
    const GERMAN: &str = "Der Ausschuss hat beschlossen, dass die Sitzung am ersten Montag jedes Monats stattfinden wird.";
    const JAPANESE: &str = "委員会は、毎月最初の月曜日に会議を開くことを決定しました。";

    fn analyze(value: impl AsRef<[u8]>, config: Value) -> Outcome {
        let outcome = run(
            content_analyzer,
            TestRecord::new("articles.content").value(&value),
            config,
        );
        assert_eq!(outcome.failure(), None);
        assert_eq!(outcome.value(), value.as_ref());
        assert_eq!(outcome.headers("etl-path"), ["content-analyzer"]);
        outcome
    }

    #[test]
    fn content_types_are_told_apart() {
        let cases: [(&[u8], &str); 13] = [
            (br#" {"a":1}"#, "application/json"),
            (b"[1]", "application/json"),
            (b"{not json", "text/plain"),
            (b"42", "text/plain"),
            (b"", "text/plain"),
            (b"<!DOCTYPE html><p>hi", "text/html"),
            (b"<?xml version='1.0'?><a/>", "application/xml"),
            (b"\x89PNG\r\n\x1a\nrest", "image/png"),
            (b"%PDF-1.7", "application/pdf"),
            (b"\x1f\x8b\x08", "application/gzip"),
            (b"\xff\xfe\x00", "application/octet-stream"),
            (b"a\0b", "application/octet-stream"),
            ("größer".as_bytes(), "text/plain"),
        ];
        for (value, expected) in cases {
            assert_eq!(
                analyze(value, json!({})).header("detected-content-type"),
                Some(expected),
                "{value:?}"
            );
        }
    }

    #[test]
    fn languages_are_told_apart() {
        let html = format!("<html lang=xx><p class='the of and'>{GERMAN}</p></html>");
        let nested = json!({ "id": "the-of-and", "body": { "paragraphs": [GERMAN] } }).to_string();
        for (value, expected) in [
            (ENGLISH, "eng"),
            (GERMAN, "deu"),
            (JAPANESE, "jpn"),
            (&html, "deu"),
            (&nested, "deu"),
        ] {
            let outcome = analyze(value, json!(null));
            assert_eq!(
                outcome.header("detected-language"),
                Some(expected),
                "{value}"
            );
            let confidence: f64 = outcome
                .header("detected-language-confidence")
                .expect("a confidence")
                .parse()
                .expect("a number");
            assert!((0.9..=1.0).contains(&confidence));
        }
    }

    #[test]
    fn too_little_prose_has_no_language() {
        for value in [
            "",
            "ok",
            "12345",
            r#"{"origin":"DTW","destination":"LAS"}"#,
            "\u{1f600}",
        ] {
            assert_eq!(
                analyze(value, json!({})).header("detected-language"),
                None,
                "{value}"
            );
        }
    }

    #[test]
    fn the_config_says_where_to_look() {
        let value = json!({ "title": ENGLISH, "body": GERMAN }).to_string();
        assert_eq!(
            analyze(&value, json!({ "text_fields": ["title"] })).header("detected-language"),
            Some("eng")
        );
        assert_eq!(
            analyze(&value, json!({ "text_fields": ["body", "none"] })).header("detected-language"),
            Some("deu")
        );
        assert_eq!(
            analyze(JAPANESE, json!({ "max_bytes": 0 })).header("detected-language"),
            None
        );
        assert_eq!(
            analyze(JAPANESE, json!({ "max_bytes": 4 })).header("detected-content-type"),
            Some("text/plain")
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
    fn real_feeds_are_json_and_hardly_prose() {
        for name in ["usgs-earthquakes.ndjson", "flights.ndjson"] {
            let outcomes = run_batch(content_analyzer, feed(name), ());
            assert!(
                outcomes
                    .iter()
                    .all(|outcome| outcome.header("detected-content-type")
                        == Some("application/json"))
            );
            // Place names read like a language now and then; few enough to be sure that sureness means something.
            let sure = outcomes
                .iter()
                .filter(|outcome| outcome.header("detected-language").is_some())
                .count();
            assert!(
                sure * 10 <= outcomes.len(),
                "{sure} of {} of {name}",
                outcomes.len()
            );
        }
    }
}
