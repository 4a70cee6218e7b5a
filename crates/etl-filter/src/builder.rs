//! From rules to a [`RuleSet`]: patterns are checked, equal ones meet in one slot, and rules become what the engine runs.

use std::num::NonZeroUsize;

use crate::engine::Engine;
use crate::error::{BuildError, BuildErrorKind, Problem};
use crate::index::CROWD;
use crate::limits::{Limits, MAX_RULES};
use crate::pattern::{Literal, Pattern};
use crate::planner::{self, Planner};
use crate::rule::{Kind, Node, Rule, RuleId, TopicFilter};
use crate::set::RuleSet;
use crate::source::Sources;
use crate::tree::Tree;

/// Rules whose patterns are read at a time: enough to keep threads busy, few enough that what is read stays small.
const BATCH: usize = 1 << 14;
/// Bytes of expressions that are read at a time: a byte can be two kilobytes when it is read.
const BATCH_OF_EXPRESSIONS: usize = 64 << 10;
/// Fewer filters than this are read on the spot.
const WORTH_A_THREAD: usize = 256;

/// Collects rules and builds a [`RuleSet`].
#[derive(Clone, Debug, Default)]
pub struct RuleSetBuilder {
    rules: Vec<Rule>,
    limits: Limits,
    threads: Option<NonZeroUsize>,
    crowd: Option<usize>,
}

/// A pattern that was read, or what is wrong with it.
type Parsed = Result<(Pattern, Vec<Vec<Literal>>), Problem>;

impl RuleSetBuilder {
    /// A builder without rules; the same as [`RuleSet::builder`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bounds that the set must keep.
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.limits = limits;
        self
    }

    /// Sets how many threads read patterns while the set is built; as many as there are processors, up to eight, if this is not
    /// called. The set does not depend on it.
    pub fn threads(&mut self, threads: NonZeroUsize) -> &mut Self {
        self.threads = Some(threads);
        self
    }

    /// Sets how many literals may share a window before an automaton takes them, 0 for all of them: for tests of both, and for
    /// comparing them.
    #[doc(hidden)]
    pub fn crowd(&mut self, literals: usize) -> &mut Self {
        self.crowd = Some(literals);
        self
    }

    /// Adds a rule and tells under which id it will be found: ids count from 0 in the order of addition.
    ///
    /// Nothing is checked yet; [`build`](Self::build) and [`check`](Self::check) do that.
    pub fn add(&mut self, rule: impl Into<Rule>) -> RuleId {
        let id = id(self.rules.len());
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
            errors.extend(self.check_place(index, rule).err());
            for (place, filter) in rule.filters().into_iter().enumerate() {
                let read = Pattern::parse(filter, &self.limits)
                    .and_then(|pattern| planner::check(&pattern, &self.limits));
                if let Err(problem) = read {
                    errors.push(BuildError::of_filter(
                        id(index),
                        place,
                        filter.clone(),
                        problem,
                    ));
                }
            }
        }
        errors
    }

    fn check_place(&self, index: usize, rule: &Rule) -> Result<(), BuildError> {
        let cap = self.limits.rules.min(MAX_RULES);
        // The first one too many says it for all.
        if index == cap {
            let message = format!(
                "the set has {} rules, more than the {cap} allowed",
                self.rules.len()
            );
            return Err(BuildError::of_rule(
                id(index),
                Problem::new(BuildErrorKind::TooManyRules, message),
            ));
        }
        if rule.is_too_deep() {
            let message = format!("any, all and not nest deeper than {}", crate::MAX_DEPTH);
            return Err(BuildError::of_rule(
                id(index),
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
        Ok(RuleSet::new(self.limits, self.build_engine(0)?))
    }

    /// Builds the engine of a set that takes `taken` bytes elsewhere.
    pub(crate) fn build_engine(&self, taken: usize) -> Result<Engine, BuildError> {
        let mut sources = Sources::default();
        for (index, rule) in self.rules.iter().enumerate() {
            self.check_place(index, rule)?;
            sources.add(rule);
            if let Some(problem) =
                planner::over_budget(taken + sources.pattern_bytes(), &self.limits)
            {
                return Err(BuildError::of_rule(id(index), problem));
            }
        }
        let threads = self
            .threads
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get)
            .min(8);
        let mut planner = Planner::new(self.limits);
        let mut trees = Vec::with_capacity(self.rules.len());
        let mut filter_number = 0;
        let mut written = 0;
        for batch in batches(&self.rules) {
            let filters: Vec<&TopicFilter> = batch.iter().flat_map(Rule::filters).collect();
            let mut parsed = parse_all(&filters, &self.limits, threads).into_iter();
            for rule in batch {
                let index = id(trees.len());
                let mut place = 0;
                let mut slot = |filter: &TopicFilter| {
                    let slot = match parsed.next() {
                        Some(Ok((pattern, guards))) => {
                            planner.slot(&pattern, &guards, filter_number, &mut sources)
                        }
                        Some(Err(problem)) => Err(problem),
                        None => Ok(None),
                    };
                    place += 1;
                    filter_number += 1;
                    written += filter.pattern().len();
                    slot.map_err(|problem| {
                        BuildError::of_filter(index, place - 1, filter.clone(), problem)
                    })
                };
                trees.push(simplify(rule, false, &mut slot)?);
                // What the engine looks for need not stand in a pattern as it was written: `(((x{9}){9}){9})` has none of its literal.
                let added = sources.text().len() - sources.pattern_bytes();
                let so_far = taken + written + added + planner.bytes();
                if let Some(problem) = planner::over_budget(so_far, &self.limits) {
                    return Err(BuildError::of_rule(index, problem));
                }
            }
        }
        let crowd = self.crowd.unwrap_or(CROWD);
        let (engine, left_out) = planner.build(&trees, sources, crowd, threads);
        let problem = planner::over_budget(taken + engine.bytes(), &self.limits);
        match (problem, left_out) {
            (None, _) => Ok(engine),
            (Some(problem), Some(filter)) => Err(self.of_filter(filter, problem)),
            (Some(problem), None) => Err(self.of_last(problem)),
        }
    }

    /// The problem of a filter, by its number among all.
    fn of_filter(&self, number: usize, problem: Problem) -> BuildError {
        let mut before = 0;
        for (index, rule) in self.rules.iter().enumerate() {
            let filters = rule.filters();
            if let Some(filter) = filters.get(number - before) {
                let filter = (*filter).clone();
                return BuildError::of_filter(id(index), number - before, filter, problem);
            }
            before += filters.len();
        }
        self.of_last(problem)
    }

    /// The problem of all rules together.
    fn of_last(&self, problem: Problem) -> BuildError {
        BuildError::of_rule(id(self.rules.len().saturating_sub(1)), problem)
    }
}

impl<R: Into<Rule>> Extend<R> for RuleSetBuilder {
    /// Adds rules in their order.
    fn extend<I: IntoIterator<Item = R>>(&mut self, rules: I) {
        self.rules.extend(rules.into_iter().map(Into::into));
    }
}

fn id(index: usize) -> RuleId {
    RuleId(u32::try_from(index).unwrap_or(u32::MAX))
}

fn parse(filter: &TopicFilter, limits: &Limits) -> Parsed {
    let pattern = Pattern::parse(filter, limits)?;
    let guards = planner::guards(&pattern);
    Ok((pattern, guards))
}

/// The rules in parts that are read at a time.
fn batches(mut rules: &[Rule]) -> impl Iterator<Item = &[Rule]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut fits = |rule: &Rule| {
            let filters = rule.filters();
            let expressions = filters.iter().filter(|filter| filter.kind() == Kind::Regex);
            bytes += expressions
                .map(|filter| filter.pattern().len())
                .sum::<usize>();
            bytes <= BATCH_OF_EXPRESSIONS
        };
        let count = rules
            .iter()
            .take(BATCH)
            .take_while(|rule| fits(rule))
            .count();
        let (batch, rest) = rules.split_at(count.max(1).min(rules.len()));
        rules = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Reads patterns, on several threads where there are enough of them.
fn parse_all(filters: &[&TopicFilter], limits: &Limits, threads: usize) -> Vec<Parsed> {
    let part = filters.len().div_ceil(threads.max(1));
    if threads < 2 || part < WORTH_A_THREAD {
        return until_wrong(filters, limits);
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = filters
            .chunks(part)
            .map(|part| (part, scope.spawn(|| until_wrong(part, limits))))
            .collect();
        // A thread that died is done again here, where a panic has an owner.
        workers
            .into_iter()
            .flat_map(|(part, worker)| worker.join().unwrap_or_else(|_| until_wrong(part, limits)))
            .collect()
    })
}

/// Reads patterns up to the first that is wrong: nobody asks for those behind it.
fn until_wrong(filters: &[&TopicFilter], limits: &Limits) -> Vec<Parsed> {
    let mut all = Vec::with_capacity(filters.len());
    for filter in filters {
        let parsed = parse(filter, limits);
        let wrong = parsed.is_err();
        all.push(parsed);
        if wrong {
            break;
        }
    }
    all
}

/// The simplest form of `rule`, or of its opposite if `negate`. Asks `slot` for every filter, in order.
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
