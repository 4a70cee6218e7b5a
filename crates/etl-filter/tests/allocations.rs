//! Matching allocates nothing: a counting allocator stands under all of it.

#[path = "support/counting.rs"]
mod counting;
mod support;

use counting::{Counting, allocations};
use etl_filter::{RuleId, RuleSet};
use support::Random;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn matching_allocates_nothing() {
    let mut random = Random::new(7);
    let many = if cfg!(miri) { 8 } else { 1_000 };
    let rules: Vec<_> = (0..many).map(|_| support::rule(&mut random, 3)).collect();
    let mut builder = RuleSet::builder();
    builder.extend(rules.iter().cloned());
    let set = builder.build().expect("every rule was checked");
    let changes: Vec<_> = (0..many / 10 + 1)
        .map(|id| (RuleId::new(id), support::rule(&mut random, 3)))
        .collect();
    let changed = set.with_changes(changes).expect("every rule was checked");
    assert!(cfg!(miri) || changed.stats().changed_rules > 0);
    let mut topics = Vec::new();
    for rule in &rules {
        if let Some(filter) = rule.filters().first() {
            let topic = support::topic(&mut random, filter);
            // As it is, and cut inside of a character, where it has one at its end that is more than a byte.
            topics.push(topic.as_bytes()[..topic.len().saturating_sub(1)].to_vec());
            topics.push(topic.into_bytes());
        }
    }
    for set in [set, changed] {
        let mut scratch = set.scratch();
        // The scratch knows the size of the set; only the length of the longest topic is new to it.
        let longest = "K".repeat(topics.iter().map(Vec::len).max().unwrap_or(0));
        set.matches(&longest, &mut scratch);
        let before = allocations();
        let found: usize = topics
            .iter()
            .map(|topic| set.matches_bytes(topic, &mut scratch).len())
            .sum();
        let after = allocations();
        assert!(
            found > topics.len(),
            "the test must match something, and found {found}"
        );
        assert_eq!(
            after - before,
            0,
            "allocations while {} topics were matched",
            topics.len()
        );
    }
}
