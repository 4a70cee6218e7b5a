//! The engine against the oracle: random rules and topics, every rule compared on every topic.
//!
//! 100,000 comparisons, or as many as `cargo xtask fuzz --only rules` asks for.

mod support;

use etl_filter::naive::Oracle;
use etl_filter::{Rule, RuleSet};
use support::Random;

/// Every rule on every topic, with literals inside topics in an automaton, as crowds of them are, and by windows, as others are; returns how
/// many comparisons that is.
fn compare(rules: &[Rule], topics: &[String]) -> u64 {
    let compare = |crowd| {
        let mut builder = RuleSet::builder();
        builder.crowd(crowd);
        for rule in rules {
            builder.add(rule.clone());
        }
        let set = builder.build().expect("every rule was checked");
        compare_set(&set, rules, topics)
    };
    compare(usize::MAX) + compare(0)
}

fn compare_set(set: &RuleSet, rules: &[Rule], topics: &[String]) -> u64 {
    let mut scratch = set.scratch();
    let mut oracle = Oracle::default();
    for topic in topics {
        let found: Vec<usize> = set
            .matches(topic, &mut scratch)
            .iter()
            .map(|id| id.index())
            .collect();
        for (index, rule) in rules.iter().enumerate() {
            let expected = oracle.matches(rule, topic);
            assert_eq!(
                found.contains(&index),
                expected,
                "the oracle says {expected} for the rule\n  {rule}\nand the topic\n  {topic:?}"
            );
        }
        assert!(
            found.is_sorted_by(|left, right| left < right),
            "ascending, each once: {found:?}"
        );
    }
    (rules.len() * topics.len()) as u64
}

#[test]
fn the_engine_agrees_with_the_oracle() {
    let cases = if cfg!(miri) { 40 } else { 100_000 };
    support::effort::run(cases, |seed| {
        let mut random = Random::new(seed);
        let (many, asked) = if cfg!(miri) {
            (4, 4)
        } else {
            (1 + random.below(60), 20)
        };
        let rules: Vec<Rule> = (0..many).map(|_| support::rule(&mut random, 3)).collect();
        let mut topics: Vec<String> = (0..asked).map(|_| topic_for(&rules, &mut random)).collect();
        // Now and then one of the greatest length: the oracle takes its time over those.
        if random.below(500) == 0 && !cfg!(miri) {
            let piece = format!("{}{}", topic_for(&rules, &mut random), random.below(10));
            topics.push(piece.repeat((64 << 10) / piece.len()));
        }
        compare(&rules, &topics)
    });
}

fn topic_for(rules: &[Rule], random: &mut Random) -> String {
    let filters = rules[random.below(rules.len())].filters();
    match filters.len() {
        0 => support::text(random, 6),
        count => {
            let near = filters[random.below(count)];
            support::topic(random, near)
        }
    }
}
