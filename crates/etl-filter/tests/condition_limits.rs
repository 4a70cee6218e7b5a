//! What conditions may cost: queries that never end, filters that compare everything with everything, expressions that are large.
#![cfg(feature = "conditions")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use etl_filter::conditions::{
    Condition, ConditionKind, ConditionScratch, ConditionSet, ConditionSetBuilder, Evidence,
    GroupId, Operator, ProblemKind, RecordView, Value,
};

struct Payload(String);

impl RecordView for Payload {
    fn header(&self, _name: &str) -> Option<&[u8]> {
        None
    }
    fn value(&self) -> &[u8] {
        self.0.as_bytes()
    }
    fn length(&self) -> usize {
        self.0.len()
    }
    fn timestamp(&self) -> Option<i64> {
        None
    }
}

fn json(value: &str) -> Payload {
    Payload(value.to_owned())
}

fn payload(path: &str, operator: Operator, value: impl Into<Value>) -> Condition {
    Condition::new(ConditionKind::payload(path), operator, value)
}

fn one(condition: Condition) -> (ConditionSet, GroupId) {
    let mut builder = ConditionSetBuilder::new();
    let group = builder.add(vec![condition]);
    (builder.build().unwrap(), group)
}

fn holds(condition: Condition, record: &Payload) -> bool {
    let (set, group) = one(condition);
    let mut scratch = ConditionScratch::new();
    scratch.begin_record(0);
    set.evaluate(group, record, &mut scratch)
}

#[test]
fn a_query_that_never_ends_is_given_up() {
    let (set, group) = one(payload("$..*..*..*..*", Operator::Equals, "nowhere"));
    let depth = if cfg!(miri) { return } else { 600 };
    let record = json(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    let mut scratch = ConditionScratch::new();
    scratch.begin_record(0);
    assert!(!set.evaluate(group, &record, &mut scratch));
    assert_eq!(scratch.counts().abandoned, 1);
    assert_eq!(
        *set.explain(group, &record, 0).conditions()[0].evidence(),
        Evidence::Abandoned
    );
}

#[test]
fn nothing_that_is_long_is_a_way_around_the_budget() {
    if cfg!(miri) {
        return;
    }
    let list = |count: usize, item: &str| format!("[{}]", vec![item; count].join(","));
    let text = format!("\"{}\"", "x".repeat(2_000));
    let escaped = format!("\"\\u0078{}\"", "x".repeat(2_000));
    let number = "1".repeat(2_000);
    let numbers = list(300, "7").replacen("]", ",8]", 1);
    let cases = [
        // Everything is compared with everything: texts, what they hold, numbers, lists, members.
        ("$[?$[?length(@) == 1]]", list(500, &text)),
        ("$[?$[?@ == 'y']]", list(500, &escaped)),
        ("$[?$[?search(@, 'y')]]", list(500, &text)),
        ("$[?$[?@ < 0]]", list(500, &number)),
        (
            "$[?$[?@ == $[300]]]",
            format!(
                "{},{numbers}]",
                list(300, &list(301, "7")).trim_end_matches(']').to_owned() + "]"
            ),
        ),
        // What a slice passes over.
        ("$[?$[1::100000].x]", list(3_000, "0")),
        // Selectors and terms that select nothing.
        (
            &format!("$..[{}]", ["0"; 1_000].join(",")),
            format!("{}0{}", "{\"a\":".repeat(6_000), "}".repeat(6_000)),
        ),
        (
            &format!("$[?{}]", ["1==2"; 500].join("||")),
            list(12_000, "0"),
        ),
    ];
    for (path, value) in cases {
        let (set, group) = one(payload(path, Operator::Equals, "nowhere"));
        let mut scratch = ConditionScratch::new();
        scratch.begin_record(0);
        assert!(!set.evaluate(group, &json(&value), &mut scratch));
        let counts = scratch.counts();
        assert_eq!((counts.not_json, counts.abandoned), (0, 1), "{path:.60}");
    }
}

#[test]
fn expressions_count_against_the_memory_of_the_set() {
    // What it takes is memory, and nothing that Miri could see elsewhere.
    if cfg!(miri) {
        return;
    }
    let mut builder = ConditionSetBuilder::new();
    builder.regex_bytes(1 << 20);
    // Some of them in filters, and one of them many times.
    for number in 0..1_000 {
        builder.add(vec![
            match number % 2 {
                0 => payload("$.a", Operator::Matches, format!("^\\w+-{number}$")),
                _ => payload(
                    &format!("$[?!(1 == count($[?@ || match(@, '\\\\w-{number}')]))]"),
                    Operator::Equals,
                    1,
                ),
            },
            payload("$.b", Operator::Matches, r"^\w+$"),
        ]);
    }
    let error = builder.build().unwrap_err();
    let [problem] = error.problems() else {
        panic!("{error}")
    };
    assert_eq!(problem.kind(), ProblemKind::TooLarge);
    assert!((2..100).contains(&problem.group().index()), "{problem}");
    let mut builder = ConditionSetBuilder::new();
    builder.regex_bytes(1 << 20);
    for _ in 0..1_000 {
        builder.add(vec![payload("$.b", Operator::Matches, r"^\w+$")]);
    }
    builder.build().unwrap();
}

#[test]
fn patterns_from_a_payload_are_small() {
    // Nothing here is anything but the library's work, which takes Miri long.
    if cfg!(miri) {
        return;
    }
    let record = |pattern: &str| json(&format!(r#"[{{"text": "aaa", "pattern": "{pattern}"}}]"#));
    let condition = payload("$[?match(@.text, @.pattern)].text", Operator::Equals, "aaa");
    for (pattern, expected) in [
        ("a+".to_owned(), true),
        (r"\\p{L}+".to_owned(), true),
        (format!("{}a+", "b?".repeat(127)), true),
        (format!("{}aa+", "b?".repeat(127)), false),
        ("a{1,99}{1,99}{1,99}".to_owned(), false),
        ("(".to_owned(), false),
    ] {
        assert_eq!(
            holds(condition.clone(), &record(&pattern)),
            expected,
            "{pattern}"
        );
    }
}
