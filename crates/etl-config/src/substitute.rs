//! `${VAR}` and `${VAR:default}` in strings; `$${` is a literal `${`.
//!
//! A variable that is not set and has no default is an error: an empty string in the place of a secret or a topic is found far too
//! late. A variable that is set to nothing is nothing, as whoever set it wished. What was put in is not read again.

use std::collections::BTreeMap;

use crate::path::ConfigPath;
use crate::source::Span;
use crate::tree::{Expansion, Node, Text, Value};

/// A substitution that cannot be made.
pub(crate) struct Unresolved {
    /// Of the text as written.
    pub span: Span,
    pub message: String,
    pub hint: String,
}

/// Substitutes in every string of a tree; calls `problem` for each that fails, with the string's node as it was.
pub(crate) fn tree(
    node: &mut Node,
    path: ConfigPath,
    environment: &BTreeMap<String, String>,
    problem: &mut dyn FnMut(&Node, ConfigPath, Unresolved),
) {
    match &mut node.value {
        Value::Text(text) if text.text.contains("${") => match expand(&text.text, environment) {
            Ok(expanded) => *text = expanded,
            Err(errors) => {
                for error in errors {
                    problem(node, path.clone(), error);
                }
                node.value = Value::Unresolved;
            }
        },
        Value::List(items) => {
            for (index, item) in items
                .iter_mut()
                .enumerate()
                .filter(|(_, item)| item.may_hold_text())
            {
                tree(item, path.index(index), environment, problem);
            }
        }
        Value::Table(entries) => {
            for entry in entries
                .iter_mut()
                .filter(|entry| entry.node.may_hold_text())
            {
                tree(
                    &mut entry.node,
                    path.key(entry.key.clone()),
                    environment,
                    problem,
                );
            }
        }
        _ => {}
    }
}

fn expand(written: &str, environment: &BTreeMap<String, String>) -> Result<Text, Vec<Unresolved>> {
    let mut text = String::with_capacity(written.len());
    let mut expansions = Vec::new();
    let mut errors = Vec::new();
    let mut position = 0;
    while let Some(found) = written[position..].find("${") {
        let start = position + found;
        if written[position..start].ends_with('$') {
            text.push_str(&written[position..start - 1]);
            expansions.push(Expansion {
                now: text.len()..text.len() + 2,
                written: start - 1..start + 2,
                source: "$${".into(),
            });
            text.push_str("${");
            position = start + 2;
            continue;
        }
        text.push_str(&written[position..start]);
        let Some(length) = written[start..].find('}') else {
            errors.push(Unresolved {
                span: start..start + 2,
                message: "`${` without its `}`".to_owned(),
                hint: "write `$${` for the characters themselves".to_owned(),
            });
            break;
        };
        position = start + length + 1;
        let inside = &written[start + 2..position - 1];
        let (name, default) = inside
            .split_once(':')
            .map_or((inside, None), |(name, default)| (name, Some(default)));
        if !is_name(name) {
            errors.push(Unresolved {
                span: start..position,
                message: format!("`{name}` is not the name of a variable"),
                hint:
                    "names are letters, digits and `_`; write `$${` for the characters themselves"
                        .to_owned(),
            });
            continue;
        }
        match environment.get(name).map(String::as_str).or(default) {
            Some(value) => {
                expansions.push(Expansion {
                    now: text.len()..text.len() + value.len(),
                    written: start..position,
                    source: written[start..position].into(),
                });
                text.push_str(value);
            }
            None => errors.push(Unresolved {
                span: start..position,
                message: format!("the variable `{name}` is not set"),
                hint: format!("set it, or give a default: `${{{name}:…}}`"),
            }),
        }
    }
    text.push_str(&written[position..]);
    if errors.is_empty() {
        Ok(Text { text, expansions })
    } else {
        Err(errors)
    }
}

fn is_name(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        [("REGION", "eu-1"), ("EMPTY", ""), ("TRICK", "${REGION}")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn puts_values_in() {
        for (written, expected) in [
            ("a.${REGION}.b", "a.eu-1.b"),
            ("${REGION}${REGION}", "eu-1eu-1"),
            ("${NONE:fallback}", "fallback"),
            ("${NONE:a:b}", "a:b"),
            ("${NONE:}", ""),
            ("${EMPTY:fallback}", ""),
            ("$${REGION}", "${REGION}"),
            ("$$${REGION}", "$${REGION}"),
            ("${TRICK}", "${REGION}"),
            ("cost: 5$", "cost: 5$"),
            ("^a$", "^a$"),
            ("é${REGION}é", "éeu-1é"),
        ] {
            let text = expand(written, &environment())
                .map_err(|errors| errors[0].message.clone())
                .expect(written);
            assert_eq!(text.text, expected, "{written}");
        }
    }

    #[test]
    fn names_every_variable_that_is_missing() {
        let errors = expand("${ONE} ${REGION} ${TWO} ${3} ${", &environment())
            .map(|text| text.text)
            .expect_err("fails");
        let found: Vec<_> = errors
            .iter()
            .map(|error| (error.span.start, error.message.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (0, "the variable `ONE` is not set"),
                (17, "the variable `TWO` is not set"),
                (24, "`3` is not the name of a variable"),
                (29, "`${` without its `}`"),
            ]
        );
    }

    #[test]
    fn remembers_where_things_were_written() {
        let text = expand("a${REGION}b$${c", &environment())
            .map_err(|errors| errors[0].message.clone())
            .expect("expands");
        assert_eq!(text.text, "aeu-1b${c");
        let written: Vec<usize> = (0..=text.text.len())
            .map(|offset| text.written(offset))
            .collect();
        assert_eq!(written, [0, 1, 1, 1, 1, 10, 11, 11, 14, 15]);
    }
}
