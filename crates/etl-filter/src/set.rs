//! The immutable set of rules and the question that it answers: which of them match this topic?
//!
//! A set is a base and, where rules were changed since, a small patch: a topic is looked up in both, and what the patch replaces is
//! left out of the base's answer. So a few changes in a million rules cost what those few cost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::builder::RuleSetBuilder;
use crate::engine::Engine;
use crate::error::{BuildError, BuildErrorKind, Problem};
use crate::explain::{self, Explanation};
use crate::limits::{Limits, MAX_RULES};
use crate::rule::{Rule, RuleId};
use crate::scratch::{Room, Scratch};
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
#[derive(Clone)]
pub struct RuleSet {
    limits: Limits,
    base: Arc<Engine>,
    patch: Option<Arc<Patch>>,
}

/// A line, whatever the size of the set.
impl fmt::Debug for RuleSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        formatter
            .debug_struct("RuleSet")
            .field("rules", &stats.rules)
            .field("filters", &stats.filters)
            .field("memory_bytes", &stats.memory_bytes)
            .finish_non_exhaustive()
    }
}

/// Rules that replace some of the base, or come after them.
#[derive(Debug)]
struct Patch {
    engine: Engine,
    /// The ids of its rules, ascending.
    ids: Vec<u32>,
}

/// Above this share of the base, one in so many, changes are worth building everything anew.
const REBUILD_ABOVE: usize = 8;

impl RuleSet {
    /// Starts a set.
    pub fn builder() -> RuleSetBuilder {
        RuleSetBuilder::new()
    }

    pub(crate) fn new(limits: Limits, engine: Engine) -> Self {
        Self {
            limits,
            base: Arc::new(engine),
            patch: None,
        }
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        let last = self.patch.as_ref().and_then(|patch| patch.ids.last());
        self.base
            .sources
            .rules()
            .max(last.map_or(0, |id| *id as usize + 1))
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A rule as it was added; none if the set has no rule of that id.
    pub fn rule(&self, id: RuleId) -> Option<Rule> {
        match &self.patch {
            Some(patch) => match patch.ids.binary_search(&id.0) {
                Ok(index) => patch.engine.sources.rule(index),
                Err(_) => self.base.sources.rule(id.index()),
            },
            None => self.base.sources.rule(id.index()),
        }
    }

    /// The set with some rules replaced, or added behind the last one; this one stays as it is. Replace a rule by
    /// [`Rule::nothing`] to remove it: the others keep their ids. Between the last rule and a new one that leaves a gap, rules are
    /// added that match nothing.
    ///
    /// Costs what the changed rules cost, those changed earlier included: the rest is shared with this set. A topic is then looked up
    /// in both parts. Once more than an eighth of the rules were changed, everything is built anew.
    ///
    /// # Errors
    ///
    /// As for [`RuleSetBuilder::build`], by the limits of this set.
    ///
    /// ```
    /// use etl_filter::{Kind, RuleId, RuleSet, TopicFilter};
    ///
    /// let mut builder = RuleSet::builder();
    /// builder.extend((0..1_000).map(|number| TopicFilter::new(Kind::Prefix, format!("tenant-{number}."))));
    /// let rules = builder.build()?;
    /// let changed = rules.with_changes([(RuleId::new(7), TopicFilter::new(Kind::Suffix, ".seven"))])?;
    /// let mut scratch = changed.scratch();
    /// assert_eq!(changed.matches("tenant-8.seven", &mut scratch), [RuleId::new(7), RuleId::new(8)]);
    /// assert_eq!(rules.matches("tenant-8.seven", &mut scratch), [RuleId::new(8)]);
    /// # Ok::<(), etl_filter::BuildError>(())
    /// ```
    pub fn with_changes<R: Into<Rule>>(
        &self,
        changes: impl IntoIterator<Item = (RuleId, R)>,
    ) -> Result<Self, BuildError> {
        let mut rules: BTreeMap<u32, Rule> = BTreeMap::new();
        if let Some(patch) = &self.patch {
            let known = patch.ids.iter().enumerate();
            rules.extend(
                known.filter_map(|(index, id)| Some((*id, patch.engine.sources.rule(index)?))),
            );
        }
        rules.extend(changes.into_iter().map(|(id, rule)| (id.0, rule.into())));
        let cap = self.limits.rules.min(MAX_RULES);
        if let Some((id, _)) = rules
            .last_key_value()
            .filter(|(id, _)| **id as usize >= cap)
        {
            let message = format!("the id is beyond the {cap} rules allowed");
            return Err(BuildError::of_rule(
                RuleId(*id),
                Problem::new(BuildErrorKind::TooManyRules, message),
            ));
        }
        let len = rules
            .last_key_value()
            .map_or(0, |(id, _)| *id as usize + 1)
            .max(self.len());
        for id in self.len()..len {
            rules.entry(id as u32).or_insert_with(Rule::nothing);
        }
        let mut builder = Self::builder();
        builder.limits(self.limits);
        if rules.len() * REBUILD_ABOVE > self.base.sources.rules() {
            let rule = |id: u32| {
                rules
                    .remove(&id)
                    .or_else(|| self.base.sources.rule(id as usize))
                    .unwrap_or_else(Rule::nothing)
            };
            builder.extend((0..len as u32).map(rule));
            return builder.build();
        }
        let (ids, rules): (Vec<u32>, Vec<Rule>) = rules.into_iter().unzip();
        builder.extend(rules);
        let engine = builder
            .build_engine(self.base.bytes())
            .map_err(|error| error.renumbered(&ids))?;
        Ok(Self {
            limits: self.limits,
            base: Arc::clone(&self.base),
            patch: Some(Arc::new(Patch { engine, ids })),
        })
    }

    /// What the set holds, and which engine took how much of it. Of a set with changes: of what the changes leave untouched, but for
    /// `rules`, `changed_rules` and the bytes, which are of all.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::of(&self.base);
        if let Some(patch) = &self.patch {
            stats.rules = self.len();
            stats.changed_rules = patch.ids.len();
            stats.pattern_bytes += patch.engine.sources.pattern_bytes();
            stats.memory_bytes += patch.engine.bytes() + patch.ids.capacity() * 4;
        }
        stats
    }

    /// Working memory of the size that this set needs.
    pub fn scratch(&self) -> Scratch {
        let mut scratch = Scratch::new();
        self.reserve(&mut scratch);
        scratch
    }

    #[inline]
    fn reserve(&self, scratch: &mut Scratch) {
        let patch = self.patch.as_ref().map_or(0, |patch| patch.engine.number);
        let room = Room(self.base.number, patch);
        if scratch.room != room {
            self.make_room(scratch);
            scratch.room = room;
        }
    }

    #[cold]
    fn make_room(&self, scratch: &mut Scratch) {
        let mut most = self.base.most_found;
        if let Some(patch) = &self.patch {
            patch.engine.reserve(scratch);
            scratch
                .other
                .reserve(patch.engine.most_found.saturating_sub(scratch.other.len()));
            most += patch.engine.most_found;
        }
        self.base.reserve(scratch);
        scratch
            .found
            .reserve(most.saturating_sub(scratch.found.len()));
    }

    /// The rules that match `topic`, ascending, each once. Never panics; allocates nothing once `scratch` has the size that the set and
    /// the longest topic need.
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
        scratch.found.clear();
        scratch.other.clear();
        scratch.checked = 0;
        self.reserve(scratch);
        self.base.find(topic, scratch);
        if let Some(patch) = &self.patch {
            std::mem::swap(&mut scratch.found, &mut scratch.other);
            patch.engine.find(topic, scratch);
            std::mem::swap(&mut scratch.found, &mut scratch.other);
            let Scratch { found, other, .. } = &mut *scratch;
            found.retain(|id| patch.ids.binary_search(&id.0).is_err());
            found.extend(
                other
                    .iter()
                    .filter_map(|id| patch.ids.get(id.index()))
                    .map(|id| RuleId(*id)),
            );
            found.sort_unstable();
        }
        &scratch.found
    }

    /// Why each rule matches `topic`, or the first reason why it does not, in the order of the rules. Slow: for people.
    pub fn explain(&self, topic: &str) -> Vec<Explanation> {
        self.explain_bytes(topic.as_bytes())
    }

    /// As [`explain`](Self::explain), for one rule; none if the set has no rule of that id.
    pub fn explain_rule(&self, id: RuleId, topic: &str) -> Option<Explanation> {
        self.explain_rule_bytes(id, topic.as_bytes())
    }

    /// As [`explain`](Self::explain), for a topic that may not be UTF-8: the reasons for what [`matches_bytes`](Self::matches_bytes) says.
    pub fn explain_bytes(&self, topic: &[u8]) -> Vec<Explanation> {
        (0..self.len())
            .filter_map(|index| self.explain_rule_bytes(RuleId(index as u32), topic))
            .collect()
    }

    /// As [`explain_bytes`](Self::explain_bytes), for one rule; none if the set has no rule of that id.
    pub fn explain_rule_bytes(&self, id: RuleId, topic: &[u8]) -> Option<Explanation> {
        self.rule(id).map(|rule| explain::explain(id, &rule, topic))
    }
}
