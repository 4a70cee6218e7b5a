//! Which patterns match a topic.

use std::collections::HashMap;

use crate::error::Problem;
use crate::limits::Limits;
use crate::pattern::program::{self, Classes, Compiler};
use crate::pattern::{Pattern, Shape, mqtt, nats, wildcard};
use crate::scratch::Scratch;

/// Says what only compiling a pattern can find.
pub(crate) fn check(pattern: &Pattern, limits: &Limits) -> Result<(), Problem> {
    match &pattern.shape {
        Shape::Regex(hir) => Compiler::default()
            .compile(hir, limits.regex_bytes)
            .map(drop),
        _ => Ok(()),
    }
}

/// Collects patterns; equal ones share a slot.
pub(crate) struct EngineBuilder {
    limits: Limits,
    known: HashMap<String, u32>,
    slots: Vec<(Pattern, Vec<u32>)>,
    compiler: Compiler,
}

impl EngineBuilder {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            known: HashMap::new(),
            slots: Vec::new(),
            compiler: Compiler::default(),
        }
    }

    /// The slot of a pattern; none if it matches every topic.
    pub(crate) fn slot(&mut self, pattern: Pattern) -> Result<Option<u32>, Problem> {
        if pattern.shape == Shape::Everything {
            return Ok(None);
        }
        let next = self.slots.len() as u32;
        let slot = *self.known.entry(format!("{pattern:?}")).or_insert(next);
        if slot == next {
            let code = match &pattern.shape {
                Shape::Regex(hir) => self
                    .compiler
                    .compile(hir, self.limits.regex_bytes)?
                    .to_vec(),
                _ => Vec::new(),
            };
            self.slots.push((pattern, code));
        }
        Ok(Some(slot))
    }

    pub(crate) fn build(self) -> Engine {
        Engine {
            slots: self.slots,
            classes: self.compiler.into_classes(),
        }
    }
}

/// All patterns of a set.
#[derive(Debug)]
pub(crate) struct Engine {
    slots: Vec<(Pattern, Vec<u32>)>,
    classes: Classes,
}

impl Engine {
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Calls `hit` for every slot whose pattern matches.
    pub(crate) fn find(
        &self,
        topic: &[u8],
        scratch: &mut Scratch,
        hit: impl Fn(u32, &mut Scratch),
    ) {
        let mut folded = std::mem::take(&mut scratch.folded);
        crate::fold::fold_into(topic, &mut folded);
        for (slot, (pattern, code)) in self.slots.iter().enumerate() {
            let text = if pattern.folded { &folded } else { topic };
            let matched = match &pattern.shape {
                Shape::Everything => true,
                Shape::Literals(literals) => literals.iter().any(|literal| literal.holds(text)),
                Shape::Glob(glob) => wildcard::matches(glob.as_bytes(), text),
                Shape::Mqtt(filter) => mqtt::matches(filter.as_bytes(), text),
                Shape::Nats(subject) => nats::matches(subject.as_bytes(), text),
                Shape::Regex(_) => {
                    program::matches(code, &self.classes, topic, &mut scratch.threads)
                }
            };
            if matched {
                hit(slot as u32, scratch);
            }
        }
        scratch.folded = folded;
    }
}
