//! From rules to a [`RuleSet`]: patterns are checked, equal ones meet in one slot, and rules become what the engine runs.

use crate::dispatch::Dispatch;
use crate::engine::{self, EngineBuilder};
use crate::error::{BuildError, BuildErrorKind, Problem};
use crate::limits::{Limits, MAX_RULES};
use crate::pattern::Pattern;
use crate::rule::{Node, Rule, RuleId, TopicFilter};
use crate::set::RuleSet;
use crate::tree::Tree;

/// Collects rules and builds a [`RuleSet`].
#[derive(Clone, Debug, Default)]
pub struct RuleSetBuilder {
    rules: Vec<Rule>,
    limits: Limits,
}

impl RuleSetBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sets the bounds that the set must keep.
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.limits = limits;
        self
    }

    /// Adds a rule and tells under which id it will be found: ids count from 0 in the order of addition.
    ///
    /// Nothing is checked yet; [`build`](Self::build) and [`check`](Self::check) do that.
    pub fn add(&mut self, rule: impl Into<Rule>) -> RuleId {
        let id = RuleId(u32::try_from(self.rules.len()).unwrap_or(u32::MAX));
        self.rules.push(rule.into());
        id
    }

    /// The number of rules so far.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule yet.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Everything that is wrong with the rules one by one, in their order. What only the whole can be over (memory) is found by
    /// [`build`](Self::build).
    pub fn check(&self) -> Vec<BuildError> {
        let mut errors = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let id = RuleId(u32::try_from(index).unwrap_or(u32::MAX));
            if let Err(error) = self.check_place(index, rule) {
                errors.push(error);
            }
            for (place, filter) in rule.filters().into_iter().enumerate() {
                let compiled = Pattern::parse(filter, &self.limits)
                    .and_then(|pattern| engine::check(&pattern, &self.limits));
                if let Err(problem) = compiled {
                    errors.push(BuildError::of_filter(id, place, filter.clone(), problem));
                }
            }
        }
        errors
    }

    fn check_place(&self, index: usize, rule: &Rule) -> Result<(), BuildError> {
        let id = RuleId(u32::try_from(index).unwrap_or(u32::MAX));
        let cap = self.limits.rules.min(MAX_RULES);
        if index >= cap {
            let message = format!(
                "the set has {} rules, more than the {cap} allowed",
                self.rules.len()
            );
            return Err(BuildError::of_rule(
                id,
                Problem::new(BuildErrorKind::TooManyRules, message),
            ));
        }
        if rule.is_too_deep() {
            let message = format!("any, all and not nest deeper than {}", crate::MAX_DEPTH);
            return Err(BuildError::of_rule(
                id,
                Problem::new(BuildErrorKind::NestedTooDeeply, message),
            ));
        }
        Ok(())
    }

    /// Builds the set.
    ///
    /// # Errors
    ///
    /// The first rule that is invalid or that brings the set over its [`Limits`].
    pub fn build(&self) -> Result<RuleSet, BuildError> {
        let mut engine = EngineBuilder::new(self.limits);
        let mut trees = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.iter().enumerate() {
            self.check_place(index, rule)?;
            let id = RuleId(index as u32);
            let mut place = 0;
            let mut slot = |filter: &TopicFilter| {
                let slot =
                    Pattern::parse(filter, &self.limits).and_then(|pattern| engine.slot(pattern));
                place += 1;
                slot.map_err(|problem| {
                    BuildError::of_filter(id, place - 1, filter.clone(), problem)
                })
            };
            trees.push(simplify(rule, false, &mut slot)?);
        }
        let engine = engine.build();
        let dispatch = Dispatch::new(&trees, engine.slots());
        Ok(RuleSet::new(self.rules.clone(), dispatch, engine))
    }
}

/// The simplest form of `rule`, or of its opposite if `negate`.
fn simplify<E>(
    rule: &Rule,
    negate: bool,
    slot: &mut impl FnMut(&TopicFilter) -> Result<Option<u32>, E>,
) -> Result<Tree, E> {
    Ok(match &rule.node {
        Node::Filter(filter) => {
            let negate = negate != filter.is_negated();
            match slot(filter)? {
                Some(slot) => Tree::Leaf { slot, negate },
                None => Tree::Constant(!negate),
            }
        }
        Node::Not(rule) => simplify(rule, !negate, slot)?,
        Node::Any(rules) | Node::All(rules) => {
            let children = rules
                .iter()
                .map(|rule| simplify(rule, negate, slot))
                .collect::<Result<_, E>>()?;
            // By De Morgan, the opposite of `any` is `all` of the opposites.
            if matches!(rule.node, Node::Any(_)) != negate {
                Tree::any(children)
            } else {
                Tree::all(children)
            }
        }
        Node::TooDeep => Tree::Constant(false),
    })
}
