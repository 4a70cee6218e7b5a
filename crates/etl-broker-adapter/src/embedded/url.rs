//! `embedded:DIR?topics=…&consumer=…`: what a user may say about a folder of topics.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{AdapterError, AdapterErrorKind};

/// A folder of topics, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddedUrl {
    /// The folder.
    pub dir: PathBuf,
    /// Topics that a source reads.
    pub topics: TopicPatterns,
    /// Under which name the source's position is kept.
    pub consumer: String,
    /// Where a consumer begins that has no position yet.
    pub start: Start,
    /// A source waits for more at the end instead of ending.
    pub follow: bool,
    /// Put before the topic of everything that a sink writes.
    pub prefix: String,
    /// Whether each commit is synced to the disk.
    pub durable: bool,
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record that is there.
    Earliest,
    /// With what comes from now on.
    Latest,
}

/// The name of a consumer that was given none.
const CONSUMER: &str = "etl";

/// What may stand after the `?`.
const NAMES: &str = "topics, consumer, start, follow, prefix, durability";

impl EmbeddedUrl {
    /// A folder, used as it is without any settings.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            topics: TopicPatterns::default(),
            consumer: CONSUMER.to_owned(),
            start: Start::Earliest,
            follow: false,
            prefix: String::new(),
            durable: true,
        }
    }

    /// Reads what comes after `embedded:`. `text` is the whole, for errors.
    pub(crate) fn parse(rest: &str, text: &str) -> Result<Self, AdapterError> {
        let invalid = |message: String| AdapterError::new(AdapterErrorKind::InvalidUrl, message);
        let (dir, settings) = rest.split_once('?').unwrap_or((rest, ""));
        if dir.is_empty() {
            return Err(invalid(format!(
                "`{text}` names no folder: write `embedded:DIR`"
            )));
        }
        let mut url = Self::new(dir);
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let wrong = |what: &str| invalid(format!("`{setting}` in `{text}`: {what}"));
            match (name, value) {
                ("topics", "") => return Err(wrong("name topics, as in `topics=orders,iot.*`")),
                ("topics", list) => url.topics = TopicPatterns::new(list.split(',')),
                ("consumer", "") => return Err(wrong("a consumer needs a name")),
                ("consumer", name) => url.consumer = name.to_owned(),
                ("start", "earliest") => url.start = Start::Earliest,
                ("start", "latest") => url.start = Start::Latest,
                ("start", _) => return Err(wrong("it is `earliest` or `latest`")),
                ("follow", "" | "true") => url.follow = true,
                ("follow", "false") => url.follow = false,
                ("follow", _) => return Err(wrong("it is `true` or `false`")),
                ("prefix", prefix) => url.prefix = prefix.to_owned(),
                ("durability", "immediate") => url.durable = true,
                ("durability", "none") => url.durable = false,
                ("durability", _) => return Err(wrong("it is `immediate` or `none`")),
                _ => {
                    return Err(wrong(&format!(
                        "there is no such setting; there are {NAMES}"
                    )));
                }
            }
        }
        Ok(url)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl fmt::Display for EmbeddedUrl {
    /// Without the settings: what a message is about is the folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "embedded:{}", self.dir.display())
    }
}

/// Which topics: names, in which `*` stands for any run of characters. None given: all but dead letters (`*.dlq`) and those
/// that were parked (`*.dlq.parked`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicPatterns(Vec<String>);

impl TopicPatterns {
    /// These.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self(patterns.into_iter().map(str::to_owned).collect())
    }

    /// Whether any were given.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a topic is one of them.
    pub fn matches(&self, topic: &str) -> bool {
        match &self.0[..] {
            [] => !topic.ends_with(".dlq") && !topic.ends_with(".dlq.parked"),
            patterns => patterns.iter().any(|pattern| glob(pattern, topic)),
        }
    }
}

/// The parts between the stars stand in the text one after the other, the first at its beginning and the last at its end.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(place) => text = &text[place + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, matches) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "a", false),
            ("ab*bc", "abc", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("iot.*.t", "iot.x.y.t", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
        for (topic, matches) in [
            ("orders", true),
            ("orders.dlq", false),
            ("orders.dlq.parked", false),
            ("orders.parked", true),
        ] {
            assert_eq!(TopicPatterns::default().matches(topic), matches, "{topic}");
        }
        assert!(TopicPatterns::new(["*.dlq"]).matches("orders.dlq"));
    }

    #[test]
    fn settings_are_read_and_wrong_ones_named() {
        let read = |rest: &str| EmbeddedUrl::parse(rest, &format!("embedded:{rest}"));
        let url = read("d?topics=a,b.*&consumer=c&start=latest&follow&prefix=out.&durability=none")
            .expect("right");
        assert_eq!(
            (url.dir(), &*url.consumer, &*url.prefix),
            (Path::new("d"), "c", "out.")
        );
        assert!(url.follow && !url.durable && url.start == Start::Latest);
        for (rest, message) in [
            ("", "names no folder"),
            ("d?consumer=", "a consumer needs a name"),
            ("d?start=middle", "it is `earliest` or `latest`"),
            (
                "d?topic=a",
                "there is no such setting; there are topics, consumer",
            ),
        ] {
            let error = read(rest).expect_err("wrong").to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
