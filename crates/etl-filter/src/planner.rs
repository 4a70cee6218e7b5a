//! Decides which engine takes which pattern, and builds the engines.
//!
//! Equal patterns share a slot. A slot is decided by literals alone, or is *checked* where one of its guards is found: of all
//! guards of a pattern the one is taken that costs least, which is the one that the fewest literals of the set share, and that topics
//! hold most seldom. Which literals are shared is known only when all patterns were read, so planning has two passes.

use std::cmp::Reverse;
use std::hash::{BuildHasher, RandomState};

use regex_syntax::hir::Hir;
use rustc_hash::FxHashMap;

use crate::dispatch::Dispatch;
use crate::engine::{Check, CheckKind, Engine};
use crate::error::{BuildErrorKind, Problem};
use crate::index::{IndexBuilder, Keys, Sketch};
use crate::limits::Limits;
use crate::pattern::program::Compiler;
use crate::pattern::{Literal, Pattern, Place, Shape, mqtt, nats, regex, wildcard};
use crate::rest::Rest;
use crate::rule::TopicFilter;
use crate::source::Sources;
use crate::tree::Tree;
use crate::value::{Lists, Value};

/// A literal of a slot: where it must stand, and where its text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Text {
    place: Place,
    start: u32,
    len: u16,
}

/// A pattern, in as few bytes as the first pass can leave behind.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The filter that brought it.
    filter: u32,
    /// Its sets of literals: one that decides, or guards to choose from.
    sets: (u32, u32),
    /// The check, if literals do not decide.
    check: Option<(CheckKind, u32, u16)>,
    folded: bool,
}

/// Reads patterns, one after the other.
#[derive(Debug)]
pub(crate) struct Planner {
    limits: Limits,
    keys: Keys,
    slots: Vec<Slot>,
    known: Interner,
    /// Where each set of literals starts.
    sets: Vec<u32>,
    texts: Vec<Text>,
    programs: Vec<u32>,
    compiler: Compiler,
    longest_program: usize,
    canonical: Vec<u8>,
}

impl Planner {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            keys: Keys::new(),
            slots: Vec::new(),
            known: Interner::default(),
            sets: Vec::new(),
            texts: Vec::new(),
            programs: Vec::new(),
            compiler: Compiler::default(),
            longest_program: 0,
            canonical: Vec::new(),
        }
    }

    /// The slot of a pattern, which `filter` of `sources` brings; none if it matches every topic.
    pub(crate) fn slot(
        &mut self,
        pattern: &Pattern,
        guards: &[Vec<Literal>],
        filter: usize,
        sources: &mut Sources,
    ) -> Result<Option<u32>, Problem> {
        let folded = pattern.folded;
        let code = match &pattern.shape {
            Shape::Everything => return Ok(None),
            Shape::Regex(hir) => self.compiler.compile(hir, &self.limits)?,
            _ => &[],
        };
        canonical_form(pattern, code, &mut self.canonical);
        let (slot, new) = self.known.intern(&self.canonical);
        if !new {
            return Ok(Some(slot));
        }
        let check = match &pattern.shape {
            Shape::Glob(text) => Some((
                CheckKind::Glob,
                sources.intern(filter, text),
                text.len() as u16,
            )),
            Shape::Mqtt(text) => Some((
                CheckKind::Mqtt,
                sources.intern(filter, text),
                text.len() as u16,
            )),
            Shape::Nats(text) => Some((
                CheckKind::Nats,
                sources.intern(filter, text),
                text.len() as u16,
            )),
            Shape::Regex(_) => {
                let start = self.programs.len() as u32;
                self.longest_program = self.longest_program.max(code.len());
                self.programs.push(code.len() as u32);
                self.programs.extend_from_slice(code);
                Some((CheckKind::Program, start, 0))
            }
            Shape::Everything | Shape::Literals(_) => None,
        };
        let first = self.sets.len() as u32;
        for set in guards {
            self.sets.push(self.texts.len() as u32);
            for literal in set {
                let start = sources.intern(filter, &literal.text);
                self.texts.push(Text {
                    place: literal.place,
                    start,
                    len: literal.text.len() as u16,
                });
            }
        }
        self.slots.push(Slot {
            filter: filter as u32,
            sets: (first, self.sets.len() as u32),
            check,
            folded,
        });
        Ok(Some(slot))
    }

    /// Bytes that the patterns so far will take at least.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.len() * 24 + self.programs.len() * 4 + self.compiler.bytes()
    }

    fn set(&self, set: u32) -> &[Text] {
        let start = self.sets[set as usize] as usize;
        let end = self
            .sets
            .get(set as usize + 1)
            .map_or(self.texts.len(), |end| *end as usize);
        &self.texts[start..end]
    }

    /// Builds the engine for rules whose leaves are slots. Where expressions without a literal take more than the whole set may, some are left out,
    /// and the filter that brought the first of them comes too.
    pub(crate) fn build(
        mut self,
        trees: &[Tree],
        sources: Sources,
        crowd: usize,
        threads: usize,
    ) -> (Engine, Option<usize>) {
        self.known = Interner::default();
        let mut lists = Lists::default();
        let (dispatch, values) = Dispatch::new(trees, self.slots.len(), &mut lists);
        let guards = self.choose_guards(sources.text());
        let mut checks = Vec::new();
        let mut single = Vec::new();
        let mut expressions: Vec<(String, (Slot, u32, u32))> = Vec::new();
        let mut indexed = [LiteralMap::default(), LiteralMap::default()];
        let mut most_found = trees.len();
        for ((slot, guard), value) in self.slots.iter().zip(guards).zip(values) {
            let rules = match Value::of(value) {
                Value::List(list) => lists.get(list).len(),
                _ => 1,
            };
            let word = match slot.check {
                None => value,
                Some((kind, start, len)) => {
                    checks.push(Check {
                        start,
                        len,
                        kind,
                        folded: slot.folded,
                        value,
                    });
                    Value::Check(checks.len() as u32 - 1).word()
                }
            };
            match (guard, slot.check) {
                (Some(set), _) => {
                    let texts = self.set(set);
                    most_found += rules * texts.len();
                    let map = &mut indexed[usize::from(slot.folded)];
                    texts
                        .iter()
                        .for_each(|text| map.add(*text, word, sources.text()));
                }
                (None, Some((CheckKind::Program, ..))) => {
                    most_found += rules;
                    match sources.filter(slot.filter as usize) {
                        Some(filter) => {
                            let text = filter.pattern().to_owned();
                            expressions.push((text, (*slot, value, word)));
                        }
                        None => single.push(word),
                    }
                }
                (None, _) => {
                    most_found += rules;
                    single.push(word);
                }
            }
        }
        let folds = self.slots.iter().any(|slot| slot.folded);
        let [plain, folded] = indexed.map(|map| {
            map.index(&mut lists)
                .build(self.keys, sources.text(), crowd, threads)
        });
        // Those that start alike go into one automaton, which is the smaller for it.
        expressions.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        let read = expressions
            .iter()
            .map(|(_, (slot, value, word))| (self.expression(slot, &sources), *value, *word));
        let (rest, left_out) = Rest::new(read, single, self.limits.memory_bytes);
        let left_out = left_out.and_then(|place| expressions.get(place));
        let left_out = left_out.map(|(_, (slot, ..))| slot.filter as usize);
        let mut this = Engine {
            number: Engine::next_number(),
            sources,
            plain,
            folded,
            checks,
            programs: self.programs,
            longest_program: self.longest_program,
            classes: self.compiler.into_classes(),
            lists,
            rest,
            dispatch,
            most_found,
            folds,
        };
        this.shrink();
        (this, left_out)
    }

    /// The expression of a slot, read once more: keeping all of them from the first pass would take kilobytes for each.
    fn expression(&self, slot: &Slot, sources: &Sources) -> Option<Hir> {
        let filter: TopicFilter = sources.filter(slot.filter as usize)?;
        match Pattern::parse(&filter, &self.limits).ok()?.shape {
            Shape::Regex(hir) => Some(*hir),
            _ => None,
        }
    }

    /// For each slot the set of literals to look for; none where no set is worth it.
    fn choose_guards(&self, text: &[u8]) -> Vec<Option<u32>> {
        let bytes = |literal: &Text| {
            &text[literal.start as usize..literal.start as usize + usize::from(literal.len)]
        };
        // Two sketches, for the text and for the folded text: they are two indexes.
        let mut sketches = [Sketch::new(self.texts.len()), Sketch::new(self.texts.len())];
        for slot in &self.slots {
            let sketch = &mut sketches[usize::from(slot.folded)];
            for literal in (slot.sets.0..slot.sets.1).flat_map(|set| self.set(set)) {
                match literal.place {
                    Place::Anywhere => sketch.add_windows(bytes(literal), &self.keys),
                    place => sketch.add(self.keys.text_at(place as u8, bytes(literal))),
                }
            }
        }
        let cost = |slot: &Slot, literal: &Text| {
            let sketch = &sketches[usize::from(slot.folded)];
            let bytes = bytes(literal);
            let shared = match literal.place {
                Place::Anywhere => sketch.count(sketch.rarest(bytes, &self.keys).1),
                place => sketch.count(self.keys.text_at(place as u8, bytes)),
            };
            // A short literal is in many topics, most of all where it may stand anywhere.
            let seldom = match (literal.place, bytes.len()) {
                (Place::Whole, _) => 0.01,
                (Place::Anywhere, 1) => 1.0,
                (Place::Anywhere, 2) => 0.3,
                (Place::Start | Place::End, 1) => 0.2,
                (_, 2..=3) => 0.1,
                _ => 0.05,
            };
            f64::from(shared) * seldom
        };
        self.slots
            .iter()
            .map(|slot| {
                let sets = slot.sets.0..slot.sets.1;
                if slot.check.is_none() {
                    return sets.into_iter().next();
                }
                let costs = sets.map(|set| {
                    (
                        set,
                        self.set(set)
                            .iter()
                            .map(|literal| cost(slot, literal))
                            .sum::<f64>(),
                    )
                });
                let (set, _) = costs.min_by(|left, right| left.1.total_cmp(&right.1))?;
                // An expression behind a literal that most topics hold is better off in an automaton.
                let weak = |literal: &Text| literal.place == Place::Anywhere && literal.len < 3;
                let expression = matches!(slot.check, Some((CheckKind::Program, ..)));
                (!expression || !self.set(set).iter().any(weak)).then_some(set)
            })
            .collect()
    }
}

/// What a pattern can be told by: equal in effect as far as the planner sees.
fn canonical_form(pattern: &Pattern, code: &[u32], out: &mut Vec<u8>) {
    out.clear();
    out.push(u8::from(pattern.folded));
    let (tag, text) = match &pattern.shape {
        Shape::Everything => (0, ""),
        Shape::Literals(literals) => {
            out.push(1);
            for literal in literals {
                out.push(literal.place as u8);
                out.extend_from_slice(&(literal.text.len() as u32).to_le_bytes());
                out.extend_from_slice(literal.text.as_bytes());
            }
            return;
        }
        Shape::Glob(text) => (2, text.as_str()),
        Shape::Mqtt(text) => (3, text.as_str()),
        Shape::Nats(text) => (4, text.as_str()),
        Shape::Regex(_) => {
            // The code says everything, case too, and a guard follows from it.
            out.push(5);
            code.iter()
                .for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
            return;
        }
    };
    out.push(tag);
    out.extend_from_slice(text.as_bytes());
}

/// Of more guards of one pattern than this the longest are chosen from: `a*b*c*…` has thousands, none of them better for being one of many.
const MAX_GUARDS: usize = 16;

/// The guards of a pattern that literals do not decide, or the one set that does.
pub(crate) fn guards(pattern: &Pattern) -> Vec<Vec<Literal>> {
    let each = |literals: Vec<Literal>| literals.into_iter().map(|literal| vec![literal]).collect();
    let mut guards: Vec<Vec<Literal>> = match &pattern.shape {
        Shape::Everything => Vec::new(),
        Shape::Literals(literals) => vec![literals.clone()],
        Shape::Glob(text) => each(wildcard::guards(text)),
        Shape::Mqtt(text) => each(mqtt::guards(text)),
        Shape::Nats(text) => each(nats::guards(text)),
        Shape::Regex(hir) => regex::guards(hir, pattern.folded),
    };
    if guards.len() > MAX_GUARDS {
        guards.sort_by_key(|set| Reverse(regex::shortest(set)));
        guards.truncate(MAX_GUARDS);
    }
    guards
}

/// Says what only compiling a pattern can find.
pub(crate) fn check(pattern: &Pattern, limits: &Limits) -> Result<(), Problem> {
    match &pattern.shape {
        Shape::Regex(hir) => Compiler::default().compile(hir, limits).map(drop),
        _ => Ok(()),
    }
}

/// The problem of a set that takes more than it may.
pub(crate) fn over_budget(bytes: usize, limits: &Limits) -> Option<Problem> {
    let cap = limits.memory_bytes.min(u32::MAX as usize);
    (bytes > cap).then(|| {
        let message =
            format!("with this rule the set takes {bytes} bytes or more, and {cap} are allowed");
        Problem::new(BuildErrorKind::OutOfMemoryBudget, message)
    })
}

/// Numbers byte strings, equal ones alike.
#[derive(Debug, Default)]
struct Interner {
    random: RandomState,
    by_hash: FxHashMap<u64, u32>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Interner {
    /// The number of `bytes`, and whether it is new.
    fn intern(&mut self, bytes: &[u8]) -> (u32, bool) {
        let mut hash = self.random.hash_one(bytes);
        loop {
            match self.by_hash.get(&hash) {
                None => {
                    let number = self.ends.len() as u32;
                    self.by_hash.insert(hash, number);
                    self.bytes.extend_from_slice(bytes);
                    self.ends.push(self.bytes.len());
                    return (number, true);
                }
                Some(number) if self.get(*number) == bytes => return (*number, false),
                Some(_) => hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1),
            }
        }
    }

    fn get(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 {
            0
        } else {
            self.ends[number - 1]
        };
        &self.bytes[start..self.ends[number]]
    }
}

/// Literals with what to do when they are found; equal ones meet.
#[derive(Debug, Default)]
struct LiteralMap {
    random: RandomState,
    by_hash: FxHashMap<u64, u32>,
    literals: Vec<(Text, u32)>,
    /// What else to do, for literals that have more than one user.
    more: Vec<(u32, u32)>,
}

impl LiteralMap {
    fn add(&mut self, literal: Text, word: u32, text: &[u8]) {
        let bytes = |literal: &Text| {
            &text[literal.start as usize..literal.start as usize + usize::from(literal.len)]
        };
        let mut hash = self.random.hash_one((literal.place, bytes(&literal)));
        loop {
            match self.by_hash.get(&hash) {
                None => {
                    self.by_hash.insert(hash, self.literals.len() as u32);
                    self.literals.push((literal, word));
                    return;
                }
                Some(number) => {
                    let (known, _) = &self.literals[*number as usize];
                    if known.place == literal.place && bytes(known) == bytes(&literal) {
                        self.more.push((*number, word));
                        return;
                    }
                    hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
                }
            }
        }
    }

    fn index(mut self, lists: &mut Lists) -> IndexBuilder {
        self.by_hash = FxHashMap::default();
        self.more.sort_unstable();
        let mut words = Vec::new();
        for same in self.more.chunk_by(|left, right| left.0 == right.0) {
            let first = &mut self.literals[same[0].0 as usize].1;
            words.clear();
            words.push(*first);
            words.extend(same.iter().map(|(_, word)| *word));
            words.sort_unstable();
            words.dedup();
            *first = lists.join(&words);
        }
        let mut builder = IndexBuilder::default();
        for (literal, word) in self.literals {
            builder.add(literal.place, literal.start, literal.len, word);
        }
        builder
    }
}
