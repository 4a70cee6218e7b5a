//! What a user writes: a [`TopicFilter`], and a [`Rule`] that composes filters with any, all and not.
//!
//! These are plain values: nothing is checked or compiled here. A [`RuleSetBuilder`](crate::RuleSetBuilder) does that, and its
//! errors name the rule, the filter in it, and the byte of the pattern.

use std::fmt;
use std::str::FromStr;

/// Declares the kinds once: the enum, the list of all, and the names cannot disagree.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)+) => {
        /// How a pattern is read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
        }

        impl Kind {
            /// Every kind, in the order of declaration.
            pub const ALL: [Self; [$(stringify!($kind)),+].len()] = [$(Self::$kind),+];

            /// The name, as configuration files write it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)+
                }
            }
        }
    };
}

kinds! {
    /// The whole topic equals the pattern.
    Exact,
    /// The topic starts with the pattern.
    Prefix,
    /// The topic ends with the pattern.
    Suffix,
    /// The pattern occurs somewhere in the topic.
    Contains,
    /// `*` is any run of characters, the empty one too; `?` is one character. Both cross dots and slashes; nothing escapes them.
    Wildcard,
    /// A regular expression in the syntax of the `regex` crate, found anywhere in the topic unless anchored. Linear time.
    Regex,
    /// An MQTT 5.0 topic filter: levels split by `/`, `+` is one level, a last `#` is any number of them, none too. A pattern that holds U+0000
    /// is refused, as no topic name may; in a topic it is a character like any other, which a wildcard matches.
    Mqtt,
    /// A NATS subject: tokens split by `.`, `*` is one token, a last `>` is one or more. A pattern that holds white space or U+0000
    /// is refused, as no subject may; in a topic they are characters like any other, which a wildcard matches.
    Nats,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The text names no [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind(String);

impl fmt::Display for UnknownKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unknown filter kind `{}`; known are", self.0)?;
        for (index, kind) in Kind::ALL.iter().enumerate() {
            write!(formatter, "{} {kind}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownKind {}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// One pattern, how to read it, and whether its result is inverted.
///
/// ```
/// use etl_filter::{Kind, TopicFilter};
///
/// let filter = TopicFilter::new(Kind::Wildcard, "logs.*").case_insensitive().negated();
/// assert_eq!(filter.pattern(), "logs.*");
/// assert_eq!(filter.to_string(), "not Wildcard \"logs.*\" (any case)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter {
    kind: Kind,
    pattern: String,
    case_sensitive: bool,
    negate: bool,
}

impl TopicFilter {
    /// A filter that regards case and is not negated.
    pub fn new(kind: Kind, pattern: impl Into<String>) -> Self {
        Self {
            kind,
            pattern: pattern.into(),
            case_sensitive: true,
            negate: false,
        }
    }

    /// Disregards case, by Unicode simple case folding.
    #[must_use]
    pub fn case_insensitive(self) -> Self {
        self.with_case_sensitive(false)
    }

    /// Matches what the filter did not, and the other way round: called twice, it is the filter again.
    #[must_use]
    pub fn negated(mut self) -> Self {
        self.negate = !self.negate;
        self
    }

    /// Sets whether case matters.
    #[must_use]
    pub fn with_case_sensitive(mut self, case_sensitive: bool) -> Self {
        self.case_sensitive = case_sensitive;
        self
    }

    /// Sets whether the result is inverted.
    #[must_use]
    pub fn with_negate(mut self, negate: bool) -> Self {
        self.negate = negate;
        self
    }

    /// How the pattern is read.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The pattern, as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether case matters.
    pub fn is_case_sensitive(&self) -> bool {
        self.case_sensitive
    }

    /// Whether the result is inverted.
    pub fn is_negated(&self) -> bool {
        self.negate
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let negate = if self.negate { "not " } else { "" };
        let case = if self.case_sensitive {
            ""
        } else {
            " (any case)"
        };
        write!(formatter, "{negate}{} {:?}{case}", self.kind, self.pattern)
    }
}

/// Names a rule of one [`RuleSet`](crate::RuleSet): the place at which it was added, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub(crate) u32);

impl RuleId {
    /// The id of the rule added at place `index`. Ids past [`MAX_RULES`](crate::MAX_RULES) name no rule of any set.
    pub fn new(index: u32) -> Self {
        Self(index)
    }

    /// The place at which the rule was added.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<RuleId> for usize {
    fn from(id: RuleId) -> Self {
        id.index()
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How deeply any, all and not may nest: a filter alone has depth 0. Deeper rules are refused when the set is built.
pub const MAX_DEPTH: usize = 32;

/// A filter, or a composition of rules.
///
/// ```
/// use etl_filter::{Kind, Rule, TopicFilter};
///
/// let orders = TopicFilter::new(Kind::Prefix, "orders.");
/// let test = TopicFilter::new(Kind::Suffix, ".test");
/// let rule = Rule::all([orders.into(), Rule::not(test)]);
/// assert_eq!(rule.to_string(), "all(Prefix \"orders.\", not(Suffix \".test\"))");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(crate) node: Node,
    depth: usize,
}

/// The cases of a rule. Depth is bounded by construction, so walking one by recursion is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Filter(TopicFilter),
    Any(Vec<Rule>),
    All(Vec<Rule>),
    Not(Box<Rule>),
    /// Stands for a composition that would nest deeper than [`MAX_DEPTH`]; building refuses it.
    TooDeep,
}

impl Rule {
    /// Matches where at least one of `rules` does; no rules match nothing.
    pub fn any<R: Into<Self>>(rules: impl IntoIterator<Item = R>) -> Self {
        Self::compose(rules.into_iter().map(Into::into).collect(), Node::Any)
    }

    /// Matches where every one of `rules` does; no rules match every topic.
    pub fn all<R: Into<Self>>(rules: impl IntoIterator<Item = R>) -> Self {
        Self::compose(rules.into_iter().map(Into::into).collect(), Node::All)
    }

    /// Matches where `rule` does not.
    #[allow(
        clippy::should_implement_trait,
        reason = "it stands beside `any` and `all`, and takes a filter as well"
    )]
    pub fn not(rule: impl Into<Self>) -> Self {
        Self::compose(vec![rule.into()], |mut rules| match rules.pop() {
            Some(rule) => Node::Not(Box::new(rule)),
            None => Node::TooDeep,
        })
    }

    /// Matches every topic.
    pub fn everything() -> Self {
        Self::all::<Self>([])
    }

    /// Matches no topic; takes the place of a rule that was removed, so that the others keep their ids.
    pub fn nothing() -> Self {
        Self::any::<Self>([])
    }

    fn compose(rules: Vec<Self>, node: impl FnOnce(Vec<Self>) -> Node) -> Self {
        let depth = 1 + rules.iter().map(|rule| rule.depth).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            return Self {
                node: Node::TooDeep,
                depth: MAX_DEPTH,
            };
        }
        Self {
            node: node(rules),
            depth,
        }
    }

    /// The filters of the rule, in the order in which they were written.
    pub fn filters(&self) -> Vec<&TopicFilter> {
        let mut filters = Vec::new();
        self.collect_filters(&mut filters);
        filters
    }

    fn collect_filters<'a>(&'a self, filters: &mut Vec<&'a TopicFilter>) {
        match &self.node {
            Node::Filter(filter) => filters.push(filter),
            Node::Any(rules) | Node::All(rules) => {
                rules.iter().for_each(|rule| rule.collect_filters(filters));
            }
            Node::Not(rule) => rule.collect_filters(filters),
            Node::TooDeep => {}
        }
    }

    pub(crate) fn is_too_deep(&self) -> bool {
        match &self.node {
            Node::Filter(_) => false,
            Node::Any(rules) | Node::All(rules) => rules.iter().any(Self::is_too_deep),
            Node::Not(rule) => rule.is_too_deep(),
            Node::TooDeep => true,
        }
    }
}

impl From<TopicFilter> for Rule {
    fn from(filter: TopicFilter) -> Self {
        Self {
            node: Node::Filter(filter),
            depth: 0,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |formatter: &mut fmt::Formatter<'_>, name: &str, rules: &[Self]| {
            write!(formatter, "{name}(")?;
            for (index, rule) in rules.iter().enumerate() {
                write!(formatter, "{}{rule}", if index == 0 { "" } else { ", " })?;
            }
            formatter.write_str(")")
        };
        match &self.node {
            Node::Filter(filter) => filter.fmt(formatter),
            Node::Any(rules) => list(formatter, "any", rules),
            Node::All(rules) => list(formatter, "all", rules),
            Node::Not(rule) => write!(formatter, "not({rule})"),
            Node::TooDeep => formatter.write_str("(nested too deeply)"),
        }
    }
}
