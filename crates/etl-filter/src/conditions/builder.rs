//! Compiles the conditions of many modules into one set, sharing what is equal.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

use super::GroupId;
use super::compare::Test;
use super::condition::{Condition, ConditionKind, Operator};
use super::error::{BuildError, Fault, Problem, ProblemKind};
use super::path::{self, Query, Step};
use super::reader::Reader;
use super::set::{ConditionSet, Group, Predicate, Target, Term};

/// Collects groups of conditions; a group is what one module asks, all of which must hold.
///
/// ```
/// use etl_filter::conditions::{Condition, ConditionKind, ConditionSetBuilder, Operator};
/// let mut builder = ConditionSetBuilder::new();
/// let alerts = builder.add(vec![
///     Condition::new(ConditionKind::payload("$.level"), Operator::Equals, "error"),
///     Condition::new(ConditionKind::MessageSize, Operator::LessThan, 65_536),
/// ]);
/// let set = builder.build()?;
/// assert_eq!(set.predicates(), 2);
/// # let _ = alerts;
/// # Ok::<(), etl_filter::conditions::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConditionSetBuilder {
    groups: Vec<Vec<Condition>>,
    regex_bytes: usize,
}

impl Default for ConditionSetBuilder {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            regex_bytes: 1 << 30,
        }
    }
}

impl ConditionSetBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many bytes the regular expressions of all conditions may take together: 1 GiB, if this is not called.
    pub fn regex_bytes(&mut self, bytes: usize) -> &mut Self {
        self.regex_bytes = bytes;
        self
    }

    /// Adds a group; without conditions it always holds.
    pub fn add(&mut self, conditions: Vec<Condition>) -> GroupId {
        self.groups.push(conditions);
        GroupId(self.groups.len() as u32 - 1)
    }

    /// Compiles everything.
    ///
    /// # Errors
    ///
    /// Names every condition that cannot be compiled: its path or regular expression is wrong or too large, or its constant
    /// is of a type that its operator or field can never meet. Nothing is looked at behind the one that brings the regular expressions of all
    /// over what they may take.
    pub fn build(self) -> Result<ConditionSet, BuildError> {
        static SETS: AtomicU64 = AtomicU64::new(1);
        let mut compiler = Compiler {
            most_regex_bytes: self.regex_bytes,
            ..Compiler::default()
        };
        let mut groups = Vec::with_capacity(self.groups.len());
        let mut problems = Vec::new();
        'groups: for (number, conditions) in self.groups.into_iter().enumerate() {
            let mut terms = Vec::with_capacity(conditions.len());
            for (place, condition) in conditions.into_iter().enumerate() {
                let negate = condition.negate;
                match compiler.predicate(condition) {
                    Ok(predicate) => terms.push(Term {
                        predicate,
                        negate,
                        place: place as u32,
                    }),
                    Err(fault) => problems.push(Problem {
                        group: GroupId(number as u32),
                        condition: place,
                        fault,
                    }),
                }
                if compiler.regex_bytes > compiler.most_regex_bytes {
                    break 'groups;
                }
            }
            groups.push(compiler.group(terms));
        }
        if !problems.is_empty() {
            return Err(BuildError { problems });
        }
        Ok(ConditionSet {
            id: SETS.fetch_add(1, Ordering::Relaxed),
            groups: groups.into(),
            predicates: compiler.predicates.into(),
            paths: compiler.paths.into(),
            readers: compiler.readers.into(),
            regexes: compiler.regexes as usize,
        })
    }
}

#[derive(Default)]
struct Compiler {
    predicates: Vec<Predicate>,
    /// Conditions without their `negate`.
    known: HashMap<Condition, u32>,
    paths: Vec<Box<[Step]>>,
    known_paths: HashMap<Box<[Step]>, u32>,
    /// Queries that are not singular paths, by their text.
    queries: HashMap<String, std::sync::Arc<Query>>,
    readers: Vec<Reader>,
    known_readers: HashMap<Box<[u32]>, u32>,
    regexes: u32,
    regex_bytes: usize,
    most_regex_bytes: usize,
}

impl Compiler {
    /// Counts what the regular expressions of a condition take.
    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        self.regex_bytes += bytes;
        let (all, most) = (self.regex_bytes, self.most_regex_bytes);
        if all <= most {
            return Ok(());
        }
        let message = format!(
            "with this one the regular expressions of all conditions take {all} bytes or more, and {most} are allowed"
        );
        Err(Fault::new(ProblemKind::TooLarge, message))
    }

    fn predicate(&mut self, condition: Condition) -> Result<u32, Fault> {
        let condition = Condition {
            negate: false,
            ..condition
        };
        if let Some(&known) = self.known.get(&condition) {
            return Ok(known);
        }
        let target = match &condition.kind {
            ConditionKind::HeaderValue { name } => Target::Header(name.as_str().into()),
            ConditionKind::PayloadField { jsonpath } => {
                let fault_of_path = |fault| Fault {
                    in_path: true,
                    ..fault
                };
                self.target(jsonpath).map_err(fault_of_path)?
            }
            ConditionKind::MessageSize => Target::Size,
            ConditionKind::MessageAge => Target::Age,
        };
        let test = Test::new(
            &condition.kind,
            condition.operator,
            &condition.value,
            &mut self.regexes,
        )?;
        self.take(test.regex_bytes())?;
        let predicate = self.predicates.len() as u32;
        let not_equals = condition.operator == Operator::NotEquals;
        self.predicates.push(Predicate {
            target,
            test,
            not_equals,
            condition: condition.clone(),
        });
        self.known.insert(condition, predicate);
        Ok(predicate)
    }

    fn target(&mut self, jsonpath: &str) -> Result<Target, Fault> {
        if let Some(query) = self.queries.get(jsonpath) {
            return Ok(Target::Query(query.clone()));
        }
        let query = path::parse(jsonpath)?;
        self.take(query.regex_bytes())?;
        let Some(steps) = query.steps() else {
            let query = std::sync::Arc::new(query);
            self.queries.insert(jsonpath.to_owned(), query.clone());
            return Ok(Target::Query(query));
        };
        let next = self.paths.len() as u32;
        Ok(Target::Path(match self.known_paths.entry(steps) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                self.paths.push(vacant.key().clone());
                *vacant.insert(next)
            }
        }))
    }

    fn group(&mut self, mut terms: Vec<Term>) -> Group {
        // What needs no payload first; nothing depends on the order but the time that it takes.
        terms.sort_by_key(|term| self.predicates[term.predicate as usize].target.cost());
        let mut paths: Vec<u32> = terms
            .iter()
            .filter_map(|term| self.predicates[term.predicate as usize].target.path())
            .collect();
        paths.sort_unstable();
        paths.dedup();
        let reader = if paths.is_empty() {
            None
        } else {
            let next = self.readers.len() as u32;
            Some(match self.known_readers.entry(paths.into()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(vacant) => {
                    self.readers.push(Reader::new(
                        vacant
                            .key()
                            .iter()
                            .map(|&path| (path, &*self.paths[path as usize])),
                    ));
                    *vacant.insert(next)
                }
            })
        };
        Group {
            terms: terms.into(),
            reader,
        }
    }
}
