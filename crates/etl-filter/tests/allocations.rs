//! Matching allocates nothing: a counting allocator stands under all of it.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use etl_filter::RuleSet;
use support::Random;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator with the arguments that it came with; the counter is a plain thread-local number
// without a destructor, so counting neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

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
    let before = ALLOCATIONS.with(Cell::get);
    let found: usize = topics
        .iter()
        .map(|topic| set.matches(topic, &mut scratch).len())
        .sum();
    let after = ALLOCATIONS.with(Cell::get);
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
