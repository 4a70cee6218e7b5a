//! What a topic is run through: the literal indexes, the checks that they lead to, and the patterns without a literal.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::dispatch::Dispatch;
use crate::index::Index;
use crate::pattern::program::{self, Classes, Threads};
use crate::pattern::{mqtt, nats, wildcard};
use crate::rest::Rest;
use crate::rule::RuleId;
use crate::scratch::{BitList, Scratch};
use crate::source::Sources;
use crate::value::{Lists, Value};

/// How the whole of a pattern is compared, once a literal of it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CheckKind {
    Glob,
    Mqtt,
    Nats,
    Program,
}

/// A pattern that a literal alone does not decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    /// Where its text starts, or its program: that one starts with its length.
    pub(crate) start: u32,
    pub(crate) len: u16,
    pub(crate) kind: CheckKind,
    pub(crate) folded: bool,
    /// What to do if it matches.
    pub(crate) value: u32,
}

/// Everything that a set of rules compiles to.
#[derive(Debug)]
pub(crate) struct Engine {
    /// No two engines of a process have the same, and none has 0.
    pub(crate) number: u64,
    pub(crate) sources: Sources,
    pub(crate) plain: Index,
    pub(crate) folded: Index,
    pub(crate) checks: Vec<Check>,
    pub(crate) programs: Vec<u32>,
    pub(crate) longest_program: usize,
    pub(crate) classes: Classes,
    pub(crate) lists: Lists,
    pub(crate) rest: Rest,
    pub(crate) dispatch: Dispatch,
    /// More rules than this cannot be reported for one topic, those counted that are reported more than once.
    pub(crate) most_found: usize,
    /// Whether something is compared with the folded topic.
    pub(crate) folds: bool,
}

impl Engine {
    /// A number for a new engine.
    pub(crate) fn next_number() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes room in `scratch` for everything whose size the topic does not decide.
    pub(crate) fn reserve(&self, scratch: &mut Scratch) {
        self.dispatch.reserve(scratch);
        scratch
            .seen
            .reserve(self.plain.anywhere().max(self.folded.anywhere()));
        scratch
            .threads
            .reserve(self.longest_program, self.classes.len());
        scratch.reported.reserve(self.rest.together());
    }

    /// Puts the rules that match into `scratch`, which has room and holds no rule yet.
    pub(crate) fn find(&self, topic: &[u8], scratch: &mut Scratch) {
        let Scratch {
            folded,
            marks,
            hits,
            touched,
            seen,
            reported,
            threads,
            checked,
            found,
            ..
        } = scratch;
        if self.folds {
            crate::fold::fold_into(topic, folded);
        }
        let mut run = Run {
            engine: self,
            topic,
            folded,
            hits,
            touched,
            threads,
            checked,
            found,
        };
        let text = self.sources.text();
        if !self.plain.is_empty() {
            self.plain
                .find(text, topic, marks, seen, |value| run.perform(value));
        }
        if !self.folded.is_empty() {
            let folded = run.folded;
            self.folded
                .find(text, folded, marks, seen, |value| run.perform(value));
        }
        self.rest.find(topic, reported, |value| run.perform(value));
        self.dispatch.finish(scratch);
    }

    /// Bytes that it takes in all, the text of the patterns included.
    pub(crate) fn bytes(&self) -> usize {
        self.sources.bytes()
            + self.plain.bytes()
            + self.folded.bytes()
            + self.checks.capacity() * size_of::<Check>()
            + self.programs.capacity() * 4
            + self.classes.bytes()
            + self.lists.bytes()
            + self.rest.bytes()
            + self.dispatch.bytes()
    }

    /// Gives back what building reserved and did not use.
    pub(crate) fn shrink(&mut self) {
        self.sources.shrink();
        self.checks.shrink_to_fit();
        self.programs.shrink_to_fit();
        self.lists.shrink();
    }
}

/// One search.
struct Run<'a> {
    engine: &'a Engine,
    topic: &'a [u8],
    folded: &'a [u8],
    hits: &'a mut BitList,
    touched: &'a mut BitList,
    threads: &'a mut Threads,
    checked: &'a mut u32,
    found: &'a mut Vec<RuleId>,
}

impl Run<'_> {
    /// Does what a word says. Lists hold checks, and checks lead to lists without checks, so this goes three deep at most.
    fn perform(&mut self, word: u32) {
        match Value::of(word) {
            Value::Rule(rule) => self.found.push(RuleId(rule)),
            Value::Tree(tree) => drop(self.touched.insert(tree)),
            Value::Hit(number) => drop(self.hits.insert(number)),
            Value::List(start) => self
                .engine
                .lists
                .get(start)
                .iter()
                .for_each(|word| self.perform(*word)),
            Value::Check(index) => {
                if let Some(check) = self.engine.checks.get(index as usize)
                    && self.holds(check)
                {
                    self.perform(check.value);
                }
            }
            Value::Nothing => {}
        }
    }

    fn holds(&mut self, check: &Check) -> bool {
        *self.checked += 1;
        let start = check.start as usize;
        if check.kind == CheckKind::Program {
            let Some((len, code)) = self
                .engine
                .programs
                .get(start..)
                .and_then(<[u32]>::split_first)
            else {
                return false;
            };
            let code = code.get(..*len as usize).unwrap_or(&[]);
            return program::matches(code, &self.engine.classes, self.topic, self.threads);
        }
        let text = if check.folded {
            self.folded
        } else {
            self.topic
        };
        let Some(pattern) = self
            .engine
            .sources
            .text()
            .get(start..start + usize::from(check.len))
        else {
            return false;
        };
        match check.kind {
            CheckKind::Glob => wildcard::matches(pattern, text),
            CheckKind::Mqtt => mqtt::matches(pattern, text),
            CheckKind::Nats => nats::matches(pattern, text),
            CheckKind::Program => false,
        }
    }
}
