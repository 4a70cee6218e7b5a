//! What a rule set holds, and which engine took how much of it.

use crate::engine::{CheckKind, Engine};
use crate::pattern::Place;

/// What a rule set holds and what it takes, as the planner decided. Counts are of distinct patterns and literals: equal ones share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Rules.
    pub rules: usize,
    /// Filters in them.
    pub filters: usize,
    /// Rules that were changed since the set was built, and are kept apart.
    pub changed_rules: usize,
    /// Rules that have to be evaluated: those with `all`, `not` or a negated filter.
    pub trees: usize,
    /// Rules that match unless a filter of theirs does: they are in the answer for nearly every topic, which takes its time.
    pub matching_by_default: usize,
    /// Literals that are looked up as the whole topic, by a hash.
    pub exact: EngineStats,
    /// Literals that are looked up as a start of the topic, in an FST.
    pub prefix: EngineStats,
    /// Literals that are looked up as an end of the topic, in an FST of reversed text.
    pub suffix: EngineStats,
    /// Literals that are looked up anywhere in the topic.
    pub contains: EngineStats,
    /// Those of them that an Aho-Corasick automaton finds, because too many have all their parts in common; the others are found by the hash of a part.
    pub contains_in_automaton: EngineStats,
    /// Wildcard patterns that are compared when a literal of theirs was found.
    pub wildcard: EngineStats,
    /// MQTT filters that are compared when a literal of theirs was found.
    pub mqtt: EngineStats,
    /// NATS subjects that are compared when a literal of theirs was found.
    pub nats: EngineStats,
    /// Regular expressions that run when a literal of theirs was found, and those that run one by one.
    pub regex: EngineStats,
    /// Regular expressions without a literal that run together, in automata.
    pub automata: EngineStats,
    /// Automata in which they run: each reads every topic once.
    pub automata_count: usize,
    /// Patterns of any kind without a literal that are compared with every topic, one by one.
    pub one_by_one: usize,
    /// Bytes of the patterns as written.
    pub pattern_bytes: usize,
    /// Bytes that the set takes in all, the text of the patterns included.
    pub memory_bytes: usize,
}

/// What one engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Distinct literals or patterns: what can become a candidate for a topic.
    pub patterns: usize,
    /// Bytes of its tables, without the text that it shares with the rules as written.
    pub bytes: usize,
}

impl Stats {
    pub(crate) fn of(engine: &Engine) -> Self {
        let place = |place| {
            let (plain, folded) = (engine.plain.stats(place), engine.folded.stats(place));
            EngineStats {
                patterns: plain.0 + folded.0,
                bytes: plain.1 + folded.1,
            }
        };
        let mut contains_in_automaton = EngineStats::default();
        for index in [&engine.plain, &engine.folded] {
            let (patterns, bytes) = index.automaton();
            contains_in_automaton.patterns += patterns;
            contains_in_automaton.bytes += bytes;
        }
        let kind = |kind| {
            let patterns = engine
                .checks
                .iter()
                .filter(|check| check.kind == kind)
                .count();
            EngineStats {
                patterns,
                bytes: patterns * size_of::<crate::engine::Check>(),
            }
        };
        let mut regex = kind(CheckKind::Program);
        regex.patterns -= engine.rest.together();
        regex.bytes += engine.programs.capacity() * 4 + engine.classes.bytes();
        Self {
            rules: engine.sources.rules(),
            changed_rules: 0,
            filters: engine.sources.filters(),
            trees: engine.dispatch.trees(),
            matching_by_default: engine.dispatch.defaults(),
            exact: place(Place::Whole),
            prefix: place(Place::Start),
            suffix: place(Place::End),
            contains: place(Place::Anywhere),
            contains_in_automaton,
            wildcard: kind(CheckKind::Glob),
            mqtt: kind(CheckKind::Mqtt),
            nats: kind(CheckKind::Nats),
            regex,
            automata: EngineStats {
                patterns: engine.rest.together(),
                bytes: engine.rest.bytes(),
            },
            automata_count: engine.rest.automata(),
            one_by_one: engine.rest.single(),
            pattern_bytes: engine.sources.pattern_bytes(),
            memory_bytes: engine.bytes(),
        }
    }
}
