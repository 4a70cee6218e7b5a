//! Evaluating conditions on headers, singular paths, size and age allocates nothing once the scratch has grown.
#![cfg(feature = "conditions")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/counting.rs"]
mod counting;

use counting::{Counting, allocations};
use etl_filter::conditions::{
    Condition, ConditionKind, ConditionScratch, ConditionSetBuilder, Operator, RecordView,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Record {
    value: String,
    header: String,
}

impl RecordView for Record {
    fn header(&self, name: &str) -> Option<&[u8]> {
        (name == "h").then_some(self.header.as_bytes())
    }
    fn value(&self) -> &[u8] {
        self.value.as_bytes()
    }
    fn length(&self) -> usize {
        self.value.len()
    }
    fn timestamp(&self) -> Option<i64> {
        Some(0)
    }
}

#[test]
fn evaluating_allocates_nothing_after_warm_up() {
    let payload = |path: &str| ConditionKind::payload(path);
    let mut builder = ConditionSetBuilder::new();
    let mut groups = Vec::new();
    for n in 0..20 {
        groups.push(builder.add(vec![
            Condition::new(ConditionKind::MessageSize, Operator::GreaterThan, n),
            Condition::new(ConditionKind::MessageAge, Operator::GreaterThan, n),
            Condition::new(ConditionKind::header("h"), Operator::GreaterThan, n),
            Condition::new(payload("$.n"), Operator::GreaterThan, n),
            Condition::new(payload("$.text"), Operator::Matches, "ä+[0-9]+$"),
            Condition::new(payload("$.text"), Operator::Contains, "ä"),
            Condition::new(payload("$.escaped"), Operator::StartsWith, "\u{1}ä"),
            Condition::new(payload("$['escaped name']"), Operator::NotEquals, "x"),
            Condition::new(payload(&format!("$.list[{n}]")), Operator::Equals, n).negated(),
        ]));
    }
    let set = builder.build().unwrap();
    let together = set.select(&groups);
    // Miri does the same with less of everything.
    let (depth, last) = if cfg!(miri) { (70, 102) } else { (5000, 120) };
    let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let records: Vec<Record> = (100..last)
        .map(|n| Record {
            value: format!(
                r#"{{"skip": {deep}, "n": {n}.5, "text": "aää{n}", "escaped": "\u0001\u00e4 {n}", "escaped\u0020name": {n}, "list": [5, 4]}}"#
            ),
            header: n.to_string(),
        })
        .chain([Record { value: "{\"n\": 1, ".to_owned(), header: "no number".to_owned() }])
        .collect();
    let mut scratch = ConditionScratch::new();
    let mut round = || {
        let mut held = 0;
        for record in &records {
            scratch.begin_record(1000);
            for &group in &groups {
                held += u32::from(set.evaluate_in(&together, group, record, &mut scratch));
            }
            scratch.payload_changed();
            scratch.headers_changed();
            scratch.timestamp_changed();
            for &group in &groups {
                held += u32::from(set.evaluate(group, record, &mut scratch));
            }
        }
        held
    };
    let warm_up = round();
    assert!(warm_up > 0, "the groups hold for the records");
    let before = allocations();
    let held = round();
    assert_eq!(allocations() - before, 0);
    assert_eq!(held, warm_up);
}

#[test]
fn what_expressions_work_with_goes_from_scratch_to_scratch() {
    let mut builder = ConditionSetBuilder::new();
    let group = builder.add(vec![Condition::new(
        ConditionKind::header("h"),
        Operator::Matches,
        "([a-zä]+ )+x$",
    )]);
    let set = builder.build().unwrap();
    let record = Record {
        value: String::new(),
        header: "ä bc x".to_owned(),
    };
    let ask = |scratch: &mut ConditionScratch| {
        scratch.begin_record(0);
        let before = allocations();
        assert!(set.evaluate(group, &record, scratch));
        allocations() - before
    };
    let mut first = ConditionScratch::new();
    let alone = ask(&mut first);
    let held = first.memory_bytes();
    let mut second = ConditionScratch::new();
    second.take_over(&mut first);
    assert!(first.memory_bytes() < held / 10, "{}", first.memory_bytes());
    let warm = ask(&mut second);
    assert!(warm < alone, "{warm} allocations, and {alone} by itself");
    assert_eq!(ask(&mut second), 0);
    // What another set worked with is of no use, and does no harm.
    let mut builder = ConditionSetBuilder::new();
    builder.add(vec![
        Condition::new(ConditionKind::header("h"), Operator::Matches, "a"),
        Condition::new(ConditionKind::header("h"), Operator::Matches, "ä"),
    ]);
    let other = builder.build().unwrap();
    assert!(!other.evaluate(group, &record, &mut first));
    second.take_over(&mut first);
    ask(&mut second);
}
