//! What a rule set may cost: every bound that hostile patterns could otherwise pass.

/// More rules than this cannot be in one set, whatever the limits say.
pub const MAX_RULES: usize = 1 << 24;

/// Bounds on a rule set, checked while it is built. A set over any of them is refused, and the error names the rule.
///
/// ```
/// use etl_filter::{BuildErrorKind, Kind, Limits, RuleSet, TopicFilter};
///
/// let mut builder = RuleSet::builder();
/// builder.limits(Limits { pattern_bytes: 8, ..Limits::default() });
/// builder.add(TopicFilter::new(Kind::Exact, "far.too.long"));
/// let error = builder.build().unwrap_err();
/// assert_eq!(error.kind(), BuildErrorKind::PatternTooLong);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rules in the set. Default 1,000,000; at most [`MAX_RULES`].
    pub rules: usize,
    /// Bytes of one pattern as written, checked before anything reads it. Default 4 KiB; at most 65,535.
    pub pattern_bytes: usize,
    /// Bytes that one regular expression may take when compiled, and that its character classes may take when it is read. Default 1 MiB.
    pub regex_bytes: usize,
    /// Steps of one regular expression that one character of a topic can take at worst. A step is a few nanoseconds. Many are taken by
    /// counted repetitions in the middle of a topic (`(a?){500}a{500}`): those bound to its start (`^[a-z]{1,250}$`) take few. Default 384.
    pub regex_steps: usize,
    /// Bytes that the whole set may take: patterns, indexes, compiled expressions. Default 1 GiB; at most 4 GiB - 1.
    pub memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rules: 1_000_000,
            pattern_bytes: 4 << 10,
            regex_bytes: 1 << 20,
            regex_steps: 384,
            memory_bytes: 1 << 30,
        }
    }
}
