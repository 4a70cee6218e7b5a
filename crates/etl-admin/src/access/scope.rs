//! The pipelines that a caller is confined to: all of them, or those whose ids match a pattern.

/// Patterns of pipeline ids, in which `*` is any run of characters and `?` one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Vec<String>);

impl Scope {
    /// The pipelines that match one of these; without patterns all of them.
    #[must_use]
    pub fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// The patterns; none where it is everything.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.0
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a pipeline is in it.
    #[must_use]
    pub fn holds(&self, pipeline: &str) -> bool {
        let id: Vec<char> = pipeline.chars().collect();
        self.0.is_empty()
            || self.0.iter().any(|pattern| {
                let pattern: Vec<char> = pattern.chars().collect();
                matches(&pattern, &id)
            })
    }
}

/// Goes back to the last `*` only, so that no pattern costs more than its length times that of the text.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut star = None;
    while position < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(character) if *character == '?' || *character == text[position] => {
                at += 1;
                position += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    position = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        let scope = Scope::new(vec!["orders-*".into(), "a?".into()]);
        for (id, inside) in [
            ("orders-", true),
            ("orders-eu", true),
            ("orders", false),
            ("my-orders-eu", false),
            ("ab", true),
            ("a", false),
            ("abc", false),
        ] {
            assert_eq!(scope.holds(id), inside, "{id}");
        }
        assert!(Scope::default().holds("anything"));
        assert!(!Scope::new(vec![String::new()]).holds("anything"));
    }

    /// What a pattern means, as slowly as it can be said.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|from| naive(rest, &text[from..])),
            Some((first, rest)) => text.split_first().is_some_and(|(character, others)| {
                (*first == '?' || first == character) && naive(rest, others)
            }),
        }
    }

    proptest! {
        #[test]
        fn as_the_naive_matcher(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let pattern: Vec<char> = pattern.chars().collect();
            let text: Vec<char> = text.chars().collect();
            prop_assert_eq!(matches(&pattern, &text), naive(&pattern, &text));
        }
    }
}
