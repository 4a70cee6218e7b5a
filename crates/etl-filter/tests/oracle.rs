//! The engine against the oracle: random rules and topics, every rule compared on every topic.
//!
//! `ETL_FILTER_COMPARISONS` sets how many comparisons are made (100,000 if unset), `ETL_FILTER_SEED` where to start.

mod support;

use etl_filter::naive::Oracle;
use etl_filter::{Rule, RuleSet};
use support::Random;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.replace('_', "").parse().ok())
        .unwrap_or(default)
}

fn compare(rules: &[Rule], topics: &[String], seed: u64) -> u64 {
    let mut builder = RuleSet::builder();
    for rule in rules {
        builder.add(rule.clone());
    }
    let set = builder.build().expect("every rule was checked");
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
                "seed {seed}: the oracle says {expected} for the rule\n  {rule}\nand the topic\n  {topic:?}"
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
    let wanted = number(
        "ETL_FILTER_COMPARISONS",
        if cfg!(miri) { 400 } else { 100_000 },
    );
    let first = number("ETL_FILTER_SEED", 1);
    let mut seed = first;
    let mut done = 0;
    while done < wanted {
        let mut random = Random::new(seed);
        let many = if cfg!(miri) { 8 } else { 1 + random.below(60) };
        let rules: Vec<Rule> = (0..many).map(|_| support::rule(&mut random, 3)).collect();
        let topics: Vec<String> = (0..20)
            .map(|_| {
                let rule = &rules[random.below(rules.len())];
                let filters = rule.filters();
                match filters.len() {
                    0 => support::text(&mut random, 6),
                    count => {
                        let near = filters[random.below(count)];
                        support::topic(&mut random, near)
                    }
                }
            })
            .collect();
        done += compare(&rules, &topics, seed);
        seed += 1;
    }
    println!("{done} comparisons, seeds {first} to {}", seed - 1);
}
