//! Places in a configuration: `pipelines[0].stages[1].modules[0]`.
//!
//! A path is a chain of links that share their beginnings, so that a hundred thousand filters of one module cost one small
//! allocation each and not a copy of the way to them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A place in a configuration, from its root.
///
/// ```
/// use etl_config::ConfigPath;
/// let path = ConfigPath::root().key("pipelines").index(0).key("name");
/// assert_eq!(path.to_string(), "pipelines[0].name");
/// ```
#[derive(Clone, Default)]
pub struct ConfigPath(Option<Arc<Link>>);

#[derive(PartialEq, Eq)]
struct Link {
    parent: ConfigPath,
    segment: Segment,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(Cow<'static, str>),
    Index(usize),
}

impl ConfigPath {
    /// The whole configuration.
    #[must_use]
    pub fn root() -> Self {
        Self(None)
    }

    /// The field of this name in the table at this place.
    #[must_use]
    pub fn key(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.join(Segment::Key(key.into()))
    }

    /// The element at this index, from 0, of the list at this place.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.join(Segment::Index(index))
    }

    pub(crate) fn join(&self, segment: Segment) -> Self {
        Self(Some(Arc::new(Link {
            parent: self.clone(),
            segment,
        })))
    }

    /// The steps from the root.
    pub(crate) fn segments(&self) -> Vec<&Segment> {
        let mut segments = Vec::new();
        let mut rest = self;
        while let Some(link) = &rest.0 {
            segments.push(&link.segment);
            rest = &link.parent;
        }
        segments.reverse();
        segments
    }
}

impl PartialEq for ConfigPath {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(left), Some(right)) => Arc::ptr_eq(left, right) || left == right,
            _ => false,
        }
    }
}

impl Eq for ConfigPath {}

impl fmt::Display for ConfigPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.segments().into_iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(formatter, "[{index}]")?,
                Segment::Key(key) => {
                    if position > 0 {
                        formatter.write_str(".")?;
                    }
                    let plain = !key.is_empty()
                        && key.chars().all(|character| {
                            character.is_alphanumeric() || matches!(character, '_' | '-' | '$')
                        });
                    if plain {
                        formatter.write_str(key)?;
                    } else {
                        write!(formatter, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ConfigPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_users_write() {
        let path = ConfigPath::root()
            .key("pipelines")
            .index(0)
            .key("stages")
            .index(12);
        assert_eq!(path.to_string(), "pipelines[0].stages[12]");
        assert_eq!(
            path.key("a b").to_string(),
            "pipelines[0].stages[12].\"a b\""
        );
        assert_eq!(ConfigPath::root().to_string(), "");
    }

    #[test]
    fn equal_by_steps() {
        let one = ConfigPath::root().key("modules").index(1);
        assert_eq!(
            one,
            ConfigPath::root().key(String::from("modules")).index(1)
        );
        assert_ne!(one, ConfigPath::root().key("modules").index(2));
        assert_ne!(one, ConfigPath::root());
    }
}
