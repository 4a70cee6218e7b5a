//! `${VAR}`, `${VAR:default}` and `${secret:NAME}` in strings; `$${` is a literal `${`.
//!
//! A variable that is not set and has no default is an error: an empty string in the place of a secret or a topic is found far too
//! late. A variable that is set to nothing is nothing, as whoever set it wished. What was put in is not read again.
//!
//! A secret may stand only in `custom_config`, since everything else is shown to people: in logs, metrics, reports and by the API. It is
//! kept beside the text, which holds what was written.

use std::collections::BTreeMap;

use crate::path::{ConfigPath, Segment};
use crate::secret::{Secret, Vault, is_secret_name};
use crate::source::Span;
use crate::tree::{Expansion, Node, Text, Value};

/// A substitution that cannot be made.
pub(crate) struct Unresolved {
    /// Of the text as written.
    pub span: Span,
    pub message: String,
    pub hint: Option<String>,
}

/// What strings are filled from.
pub(crate) struct Fill<'a> {
    pub environment: &'a BTreeMap<String, String>,
    pub vault: &'a mut Vault,
}

/// Substitutes in every string of a tree; calls `problem` for each that fails, with the string's node as it was.
pub(crate) fn tree(
    node: &mut Node,
    path: ConfigPath,
    fill: &mut Fill<'_>,
    problem: &mut dyn FnMut(&Node, ConfigPath, Unresolved),
) {
    match &mut node.value {
        Value::Text(text) if text.text.contains("${") => {
            match expand(&text.text, takes_secrets(&path), fill) {
                Ok(expanded) => *text = expanded,
                Err(errors) => {
                    for error in errors {
                        problem(node, path.clone(), error);
                    }
                    node.value = Value::Unresolved;
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items
                .iter_mut()
                .enumerate()
                .filter(|(_, item)| item.may_hold_text())
            {
                tree(item, path.index(index), fill, problem);
            }
        }
        Value::Table(entries) => {
            for entry in entries
                .iter_mut()
                .filter(|entry| entry.node.may_hold_text())
            {
                tree(&mut entry.node, path.key(entry.key.clone()), fill, problem);
            }
        }
        _ => {}
    }
}

/// Whether what stands there is given to a module and to nobody else.
fn takes_secrets(path: &ConfigPath) -> bool {
    let mut segments = path.segments().into_iter();
    segments.any(|segment| matches!(segment, Segment::Key(key) if key == "custom_config"))
}

fn expand(
    written: &str,
    takes_secrets: bool,
    fill: &mut Fill<'_>,
) -> Result<Text, Vec<Unresolved>> {
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
                secret: None,
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
                hint: Some("write `$${` for the characters themselves".to_owned()),
            });
            break;
        };
        position = start + length + 1;
        let inside = &written[start + 2..position - 1];
        let (name, default) = inside
            .split_once(':')
            .map_or((inside, None), |(name, default)| (name, Some(default)));
        if let ("secret", Some(name)) = (name, default) {
            let secret = secret(name, takes_secrets, fill.vault);
            match secret {
                Ok(secret) => {
                    let source = &written[start..position];
                    expansions.push(Expansion {
                        now: text.len()..text.len() + source.len(),
                        written: start..position,
                        source: source.into(),
                        secret: Some(secret),
                    });
                    text.push_str(source);
                }
                Err((message, hint)) => errors.push(Unresolved {
                    span: start..position,
                    message,
                    hint,
                }),
            }
            continue;
        }
        if !is_name(name) {
            errors.push(Unresolved {
                span: start..position,
                message: format!("`{name}` is not the name of a variable"),
                hint: Some(
                    "names are letters, digits and `_`; write `$${` for the characters themselves"
                        .to_owned(),
                ),
            });
            continue;
        }
        match fill.environment.get(name).map(String::as_str).or(default) {
            Some(value) => {
                expansions.push(Expansion {
                    now: text.len()..text.len() + value.len(),
                    written: start..position,
                    source: written[start..position].into(),
                    secret: None,
                });
                text.push_str(value);
            }
            None => errors.push(Unresolved {
                span: start..position,
                message: format!("the variable `{name}` is not set"),
                hint: Some(format!("set it, or give a default: `${{{name}:…}}`")),
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

/// A secret that a string names; what is wrong, and what to do, where there is none.
fn secret(
    name: &str,
    is_taken: bool,
    vault: &mut Vault,
) -> Result<Secret, (String, Option<String>)> {
    if !is_taken {
        let message = "a secret may stand only in `custom_config`".to_owned();
        let hint =
            "everything else is shown to people: in reports, logs and metrics, and by the API";
        return Err((message, Some(hint.to_owned())));
    }
    if !is_secret_name(name) {
        let message = format!("{name:?} is not the name of a secret");
        let hint = "write `${secret:NAME}`; names are letters, digits, `_`, `-` and `.`";
        return Err((message, Some(hint.to_owned())));
    }
    vault.secret(name).map_err(|error| {
        let hint = error.hint().map(str::to_owned);
        (error.message().to_owned(), hint)
    })
}

fn is_name(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::secret::{SecretError, SecretSettings, SecretSource};

    fn environment() -> BTreeMap<String, String> {
        [("REGION", "eu-1"), ("EMPTY", ""), ("TRICK", "${REGION}")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// Expands with these variables and the secret `db`, where secrets are taken or not.
    fn expand(written: &str, takes_secrets: bool) -> Result<Text, Vec<Unresolved>> {
        #[derive(Debug)]
        struct One;

        impl SecretSource for One {
            fn secrets(&self, _: &SecretSettings) -> Result<BTreeMap<String, Secret>, SecretError> {
                Ok([("db".to_owned(), Secret::new("hunter2".to_owned()))].into())
            }

            fn open_file(
                &self,
                _: &SecretSettings,
                _: &Path,
                bytes: Vec<u8>,
            ) -> Result<Vec<u8>, SecretError> {
                Ok(bytes)
            }
        }

        let settings = SecretSettings::in_file("etl.secrets");
        let mut fill = Fill {
            environment: &environment(),
            vault: &mut Vault::new(Some(Arc::new(One)), settings),
        };
        super::expand(written, takes_secrets, &mut fill)
    }

    #[test]
    fn secrets_stand_beside_the_text() {
        let text = expand("a${secret:db}b${REGION}", true)
            .map_err(|errors| errors[0].message.clone())
            .expect("expands");
        assert_eq!(text.text, "a${secret:db}beu-1");
        assert!(text.holds_secret());
        assert!(!format!("{text:?}").contains("hunter2"));
        assert_eq!(text.written(14), 14);
    }

    #[test]
    fn says_what_is_wrong_with_a_secret() {
        for (written, taken, message) in [
            (
                "${secret:db}",
                false,
                "a secret may stand only in `custom_config`",
            ),
            ("${secret:}", true, "\"\" is not the name of a secret"),
            ("${secret:d b}", true, "\"d b\" is not the name of a secret"),
            (
                "${secret:DB}",
                true,
                "no secret is called `DB` in etl.secrets",
            ),
            ("${secret}", true, "the variable `secret` is not set"),
        ] {
            let errors = expand(written, taken).map(|text| text.text);
            let errors = errors.expect_err(written);
            assert_eq!(errors[0].message, message);
        }
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
            let text = expand(written, false)
                .map_err(|errors| errors[0].message.clone())
                .expect(written);
            assert_eq!(text.text, expected, "{written}");
        }
    }

    #[test]
    fn names_every_variable_that_is_missing() {
        let errors = expand("${ONE} ${REGION} ${TWO} ${3} ${", false)
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
        let text = expand("a${REGION}b$${c", false)
            .map_err(|errors| errors[0].message.clone())
            .expect("expands");
        assert_eq!(text.text, "aeu-1b${c");
        let written: Vec<usize> = (0..=text.text.len())
            .map(|offset| text.written(offset))
            .collect();
        assert_eq!(written, [0, 1, 1, 1, 1, 10, 11, 11, 14, 15]);
    }
}
