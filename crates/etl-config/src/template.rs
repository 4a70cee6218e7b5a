//! Topic templates: `{topic}.dlq`.
//!
//! One place-holder and nothing else, so that a template cannot fail when a record needs it. Any other brace is refused when the
//! configuration is read: a topic with a brace in it is legal nowhere that matters, and a misspelt place-holder is likely.

use std::fmt;
use std::str::FromStr;

use crate::model::TopicTemplate;

const PLACE: &str = "{topic}";

/// A template that is empty or holds a brace that is not part of `{topic}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    offset: usize,
    message: &'static str,
}

impl TemplateError {
    /// The byte of the template that is wrong.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message)
    }
}

impl std::error::Error for TemplateError {}

impl TopicTemplate {
    /// What a pipeline holds until the default of `dead_letter` is put there. It is no template, and no user can write it.
    pub(crate) const UNSAID: Self = Self {
        literals: Vec::new(),
    };

    /// The topic for a record that arrived on `topic`.
    #[must_use]
    pub fn render(&self, topic: &str) -> String {
        self.literals.join(topic)
    }
}

impl FromStr for TopicTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError {
                offset: 0,
                message: "a topic cannot be empty",
            });
        }
        let literals: Vec<String> = text.split(PLACE).map(str::to_owned).collect();
        let mut offset = 0;
        for literal in &literals {
            if let Some(brace) = literal.find(['{', '}']) {
                return Err(TemplateError {
                    offset: offset + brace,
                    message: "only `{topic}` may stand in braces",
                });
            }
            offset += literal.len() + PLACE.len();
        }
        Ok(Self { literals })
    }
}

impl fmt::Display for TopicTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.literals.join(PLACE))
    }
}

impl Default for TopicTemplate {
    fn default() -> Self {
        Self {
            literals: vec![String::new(), ".dlq".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_and_prints() {
        for (template, rendered) in [
            ("{topic}.dlq", "a.b.dlq"),
            ("failed", "failed"),
            ("{topic}", "a.b"),
            ("x.{topic}.{topic}", "x.a.b.a.b"),
        ] {
            let parsed: TopicTemplate = template.parse().expect(template);
            assert_eq!(parsed.render("a.b"), rendered);
            assert_eq!(parsed.to_string(), template);
        }
        assert_eq!(TopicTemplate::default().to_string(), "{topic}.dlq");
    }

    #[test]
    fn refuses_other_braces_and_says_where() {
        for (template, offset) in [("", 0), ("{tpoic}.dlq", 0), ("a.{topic}.{", 10), ("a}", 1)] {
            assert_eq!(
                template
                    .parse::<TopicTemplate>()
                    .expect_err(template)
                    .offset(),
                offset,
                "{template}"
            );
        }
    }
}
