//! What became of one record: what went in, the modules on its way, and what came out, or why nothing did.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::line::Line;

/// Values up to this many characters are shown whole.
const WIDTH: usize = 110;

/// Colours on a terminal, plain text elsewhere.
#[derive(Clone, Copy, Default)]
pub struct Paint {
    pub colour: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// A record, found again in what the program wrote.
pub struct Story<'a> {
    title: &'a str,
    input: &'a Line,
    outputs: Vec<&'a Line>,
    dead_letters: Vec<&'a Line>,
}

impl<'a> Story<'a> {
    /// The story of the record with this key, or of the line that is no record; None where the input has no such line.
    pub fn of(
        title: &'a str,
        key: Option<&str>,
        inputs: &'a [Line],
        outputs: &'a [Line],
        dead_letters: &'a [Line],
    ) -> Option<Self> {
        let same_key = |line: &&Line| key.is_some() && line.key.as_deref() == key;
        let invalid =
            |line: &&Line| key.is_none() && line.header("etl-dlq-error") == "InvalidRecord";
        Some(Self {
            title,
            input: inputs.iter().find(|line| {
                if key.is_some() {
                    same_key(line)
                } else {
                    line.topic.is_empty()
                }
            })?,
            outputs: outputs.iter().filter(same_key).collect(),
            dead_letters: dead_letters
                .iter()
                .filter(|line| same_key(line) || invalid(line))
                .collect(),
        })
    }

    /// The story as lines of text; of a long value, only these fields and those that changed are shown.
    pub fn told(&self, fields: &[&str], paint: Paint) -> String {
        let before = self.input.fields();
        let mut text = String::new();
        let topic = if self.input.topic.is_empty() {
            String::new()
        } else {
            format!("  {}", paint.dim(&self.input.topic))
        };
        let _ = writeln!(text, "\n{}{topic}", paint.bold(self.title));
        let _ = writeln!(
            text,
            "  in   {}",
            shown(self.input, fields, &before, "", paint)
        );
        for output in &self.outputs {
            let path = output.headers("etl-path");
            if !path.is_empty() {
                let _ = writeln!(text, "  via  {}", paint.with("36", &path.join(" → ")));
            }
            let is_new = output.topic != self.input.topic;
            let topic = if is_new {
                format!("{} ", paint.with("33", &output.topic))
            } else {
                String::new()
            };
            let unchanged = !is_new && output.value == self.input.value;
            let note = if unchanged {
                paint.dim("  unchanged, byte for byte")
            } else {
                String::new()
            };
            let known = if is_new {
                output.fields()
            } else {
                before.clone()
            };
            let _ = writeln!(
                text,
                "  out  {topic}{}{note}",
                shown(output, fields, &known, "32", paint)
            );
        }
        for dead_letter in &self.dead_letters {
            let header = |name: &str| dead_letter.header(name);
            let _ = writeln!(
                text,
                "  {}    dead letter on {}",
                paint.with("31", "✗"),
                paint.with("33", &dead_letter.topic)
            );
            // A line that is no record never reached a module; what it has is the place where it stood.
            let place = match header("etl-dlq-module") {
                "" => header("etl-dlq-source").to_owned(),
                module => format!(
                    "{module} (pipeline {}, stage {})",
                    header("etl-dlq-pipeline"),
                    header("etl-dlq-stage")
                ),
            };
            let _ = writeln!(
                text,
                "  why  {}: {}",
                place,
                paint.with("31", header("etl-dlq-message"))
            );
        }
        if self.outputs.is_empty() && self.dead_letters.is_empty() {
            let _ = writeln!(text, "  out  {}", paint.dim("nothing: a module dropped it"));
        }
        text
    }
}

/// A value on one line, with what differs from `before` in the colour.
fn shown(
    line: &Line,
    fields: &[&str],
    before: &BTreeMap<String, String>,
    code: &str,
    paint: Paint,
) -> String {
    let Some(value) = line.value.as_deref() else {
        return clipped(&line.text);
    };
    let now = line.fields();
    let is_changed = |name: &str| now.get(name) != before.get(name);
    if value.chars().count() <= WIDTH || now.is_empty() {
        let mut text = clipped(value);
        for (name, value) in now.iter().filter(|(name, _)| is_changed(name)) {
            let member = format!("\"{name}\":{value}");
            text = text.replacen(&member, &paint.with(code, &member), 1);
        }
        return text;
    }
    let chosen: Vec<String> = now
        .iter()
        .filter(|(name, _)| fields.contains(&name.as_str()) || is_changed(name))
        .map(|(name, value)| {
            let member = format!("\"{name}\":{value}");
            if is_changed(name) {
                paint.with(code, &member)
            } else {
                member
            }
        })
        .collect();
    if chosen.is_empty() {
        return clipped(value);
    }
    let rest = now.len() - chosen.len();
    format!(
        "{{{}, {}}}",
        chosen.join(","),
        paint.dim(&format!("… {rest} more"))
    )
}

fn clipped(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        text.to_owned()
    } else {
        text.chars().take(WIDTH).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(key: Option<&str>, input: &str, outputs: &[&str], dead_letters: &[&str]) -> String {
        let lines = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Line::parse(text))
                .collect::<Vec<_>>()
        };
        let (inputs, outputs, dead_letters) =
            (lines(&[input]), lines(outputs), lines(dead_letters));
        let story =
            Story::of("Title", key, &inputs, &outputs, &dead_letters).expect("the input is there");
        story.told(&["keep"], Paint::default())
    }

    #[test]
    fn a_changed_record_shows_its_way_and_both_values() {
        let text = told(
            Some("k"),
            r#"{"topic":"t","key":"k","value":{"a":1}}"#,
            &[
                r#"{"topic":"t","key":"k","headers":{"etl-path":["one","two"]},"value":{"a":2}}"#,
                r#"{"topic":"new","key":"k","value":{"b":3}}"#,
            ],
            &[],
        );
        assert_eq!(
            text,
            "\nTitle  t\n  in   {\"a\":1}\n  via  one → two\n  out  {\"a\":2}\n  out  new {\"b\":3}\n"
        );
    }

    #[test]
    fn what_passes_untouched_and_what_is_dropped_say_so() {
        let input = r#"{"topic":"t","key":"k","value":1.50}"#;
        assert!(
            told(Some("k"), input, &[input], &[])
                .ends_with("out  1.50  unchanged, byte for byte\n")
        );
        assert!(told(Some("k"), input, &[], &[]).ends_with("out  nothing: a module dropped it\n"));
    }

    #[test]
    fn a_dead_letter_says_who_refused_it_and_why() {
        let letter = r#"{"topic":"t.dlq","key":"k","headers":{"etl-dlq-module":"m","etl-dlq-pipeline":"p","etl-dlq-stage":"0","etl-dlq-message":"too cold"},"value":1}"#;
        let text = told(
            Some("k"),
            r#"{"topic":"t","key":"k","value":1}"#,
            &[],
            &[letter],
        );
        assert!(
            text.ends_with(
                "  ✗    dead letter on t.dlq\n  why  m (pipeline p, stage 0): too cold\n"
            ),
            "{text}"
        );
        let invalid = r#"{"topic":"invalid.dlq","headers":{"etl-dlq-source":"in.ndjson:10","etl-dlq-error":"InvalidRecord","etl-dlq-message":"ends early"}}"#;
        let text = told(None, "{\"topic", &[], &[invalid]);
        assert!(
            text.contains("  in   {\"topic\n") && text.contains("why  in.ndjson:10: ends early\n"),
            "{text}"
        );
    }

    #[test]
    fn of_a_long_value_the_named_and_the_changed_fields_are_shown() {
        let long = "x".repeat(WIDTH);
        let line = Line::parse(&format!(
            r#"{{"topic":"t","value":{{"keep":1,"new":2,"other":"{long}"}}}}"#
        ));
        let before = BTreeMap::from([
            ("keep".to_owned(), "1".to_owned()),
            ("other".to_owned(), format!("\"{long}\"")),
        ]);
        assert_eq!(
            shown(&line, &["keep"], &before, "32", Paint::default()),
            r#"{"keep":1,"new":2, … 1 more}"#
        );
        let painted = shown(&line, &["keep"], &before, "32", Paint { colour: true });
        assert!(
            painted.contains("\"keep\":1,\x1b[32m\"new\":2\x1b[0m"),
            "{painted}"
        );
    }
}
