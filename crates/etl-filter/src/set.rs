//! The immutable set of rules and the question that it answers: which of them match this topic?

use crate::builder::RuleSetBuilder;
use crate::engine::Engine;
use crate::explain::{self, Explanation};
use crate::rule::{Rule, RuleId};
use crate::scratch::Scratch;
use crate::stats::Stats;

/// Many rules, asked all at once.
///
/// Immutable, `Send` and `Sync`, without locks inside: share it behind an `Arc`, give each thread a [`Scratch`].
///
/// ```
/// use etl_filter::{Kind, Rule, RuleSet, TopicFilter};
///
/// let mut builder = RuleSet::builder();
/// let logs = builder.add(TopicFilter::new(Kind::Wildcard, "logs.*"));
/// let alarms = builder.add(Rule::any([
///     TopicFilter::new(Kind::Suffix, ".critical"),
///     TopicFilter::new(Kind::Regex, r"^sensor-\d+\.alarm$"),
/// ]));
/// let rules = builder.build()?;
///
/// let mut scratch = rules.scratch();
/// assert_eq!(rules.matches("logs.web.critical", &mut scratch), [logs, alarms]);
/// assert_eq!(rules.matches("sensor-7.alarm", &mut scratch), [alarms]);
/// assert!(rules.matches("orders", &mut scratch).is_empty());
/// # Ok::<(), etl_filter::BuildError>(())
/// ```
#[derive(Debug)]
pub struct RuleSet {
    engine: Engine,
}

impl RuleSet {
    /// Starts a set.
    pub fn builder() -> RuleSetBuilder {
        RuleSetBuilder::new()
    }

    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.engine.sources.rules()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A rule as it was added; none if the set has no rule of that id.
    pub fn rule(&self, id: RuleId) -> Option<Rule> {
        self.engine.sources.rule(id.index())
    }

    /// What the set holds, and which engine took how much of it.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.engine)
    }

    /// Working memory of the size that this set needs.
    pub fn scratch(&self) -> Scratch {
        let mut scratch = Scratch::new();
        self.engine.reserve(&mut scratch);
        scratch
    }

    /// The rules that match `topic`, ascending, each once. Never panics; allocates nothing once `scratch` has seen the like.
    pub fn matches<'scratch>(
        &self,
        topic: &str,
        scratch: &'scratch mut Scratch,
    ) -> &'scratch [RuleId] {
        self.matches_bytes(topic.as_bytes(), scratch)
    }

    /// As [`matches`](Self::matches), for a topic that may not be UTF-8: a byte that is no part of a character counts as one
    /// character, equals only itself, and is matched by no part of a regular expression.
    pub fn matches_bytes<'scratch>(
        &self,
        topic: &[u8],
        scratch: &'scratch mut Scratch,
    ) -> &'scratch [RuleId] {
        self.engine.find(topic, scratch);
        &scratch.found
    }

    /// Why each rule matches `topic`, or the first reason why it does not, in the order of the rules. Slow: for people.
    pub fn explain(&self, topic: &str) -> Vec<Explanation> {
        (0..self.len())
            .filter_map(|index| self.explain_rule(RuleId(index as u32), topic))
            .collect()
    }

    /// As [`explain`](Self::explain), for one rule; none if the set has no rule of that id.
    pub fn explain_rule(&self, id: RuleId, topic: &str) -> Option<Explanation> {
        self.rule(id).map(|rule| explain::explain(id, &rule, topic))
    }
}
