//! Matching allocates nothing: a counting allocator stands under all of it.

#[path = "support/counting.rs"]
mod counting;
mod support;

use counting::{Counting, allocations};
use etl_filter::RuleSet;
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
    let mut topics = Vec::new();
    for rule in &rules {
        if let Some(filter) = rule.filters().first() {
            topics.push(support::topic(&mut random, filter));
        }
    }
    let mut scratch = set.scratch();
    // The scratch knows the size of the set; only the length of the longest topic is new to it.
    let longest = "K".repeat(topics.iter().map(String::len).max().unwrap_or(0));
    set.matches(&longest, &mut scratch);
    let before = allocations();
    let found: usize = topics
        .iter()
        .map(|topic| set.matches(topic, &mut scratch).len())
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
