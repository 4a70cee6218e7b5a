//! What the rules cost: `etl match --stats`.

use std::fmt::Write as _;
use std::time::Duration;

use etl_filter::{EngineStats, Stats};
use serde_json::{Map, Value, json};

use crate::output::{duration, grouped};

/// For programs: one JSON object.
pub fn as_json(stats: &Stats, built_in: Duration, topics: u64) -> Value {
    let engines: Map<String, Value> = engines(stats)
        .into_iter()
        .map(|(name, engine)| {
            (
                name.to_owned(),
                json!({ "patterns": engine.patterns, "bytes": engine.bytes }),
            )
        })
        .collect();
    json!({
        "rules": stats.rules,
        "filters": stats.filters,
        "trees": stats.trees,
        "matching_by_default": stats.matching_by_default,
        "engines": engines,
        "automata": stats.automata_count,
        "one_by_one": stats.one_by_one,
        "pattern_bytes": stats.pattern_bytes,
        "memory_bytes": stats.memory_bytes,
        "built_in_seconds": built_in.as_secs_f64(),
        "topics": topics,
    })
}

/// For people: what is not there is not mentioned.
pub fn as_text(stats: &Stats, built_in: Duration, topics: u64) -> String {
    let mut text = format!(
        "{} rules with {} filters, {} bytes, built in {}; {} topics\n",
        grouped(stats.rules as u64),
        grouped(stats.filters as u64),
        grouped(stats.memory_bytes as u64),
        duration(built_in),
        grouped(topics)
    );
    let mut line = |count: usize, what: &str| {
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {:>10} {what}", grouped(count as u64));
        }
    };
    for (name, engine) in engines(stats) {
        line(
            engine.patterns,
            &format!(
                "{}, {} bytes",
                name.replace('_', " "),
                grouped(engine.bytes as u64)
            ),
        );
    }
    line(
        stats.trees,
        "rules that are evaluated: they have all, not or negated filters",
    );
    line(
        stats.matching_by_default,
        "rules that match unless a filter does: they are in nearly every answer",
    );
    line(stats.automata_count, "automata that read every topic");
    line(
        stats.one_by_one,
        "patterns without a literal, compared with every topic",
    );
    text
}

fn engines(stats: &Stats) -> [(&'static str, EngineStats); 10] {
    [
        ("exact", stats.exact),
        ("prefix", stats.prefix),
        ("suffix", stats.suffix),
        ("contains", stats.contains),
        ("contains_in_automaton", stats.contains_in_automaton),
        ("wildcard", stats.wildcard),
        ("mqtt", stats.mqtt),
        ("nats", stats.nats),
        ("regex", stats.regex),
        ("automata", stats.automata),
    ]
}
