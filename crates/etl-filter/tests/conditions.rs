//! What is promised about conditions beside their answers: sharing, laziness, memory of a record, errors, explanations.
#![cfg(feature = "conditions")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;

use etl_filter::conditions::{
    Condition, ConditionKind, ConditionScratch, ConditionSet, ConditionSetBuilder, Evidence,
    GroupId, Number, Operator, Problem, ProblemKind, RecordView, Value,
};

#[derive(Default)]
struct Record {
    headers: Vec<(&'static str, &'static [u8])>,
    value: String,
    timestamp: Option<i64>,
    /// How often the payload was asked for.
    read: Cell<u32>,
}

impl RecordView for Record {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }
    fn value(&self) -> &[u8] {
        self.read.set(self.read.get() + 1);
        self.value.as_bytes()
    }
    fn length(&self) -> usize {
        self.value.len()
    }
    fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
}

fn json(value: &str) -> Record {
    Record {
        value: value.to_owned(),
        ..Record::default()
    }
}

fn payload(path: &str, operator: Operator, value: impl Into<Value>) -> Condition {
    Condition::new(ConditionKind::payload(path), operator, value)
}

fn header(operator: Operator, value: impl Into<Value>) -> Condition {
    Condition::new(ConditionKind::header("h"), operator, value)
}

fn one(condition: Condition) -> (ConditionSet, GroupId) {
    let mut builder = ConditionSetBuilder::new();
    let group = builder.add(vec![condition]);
    (builder.build().unwrap(), group)
}

fn holds(condition: Condition, record: &Record) -> bool {
    let (set, group) = one(condition);
    let mut scratch = ConditionScratch::new();
    scratch.begin_record(0);
    set.evaluate(group, record, &mut scratch)
}

#[test]
fn equal_predicates_are_evaluated_once_and_payloads_read_once() {
    let mut builder = ConditionSetBuilder::new();
    let groups: Vec<GroupId> = (0..1000)
        .map(|n| {
            let shared = payload("$.a", Operator::Equals, 1);
            let shared = if n % 2 == 0 { shared } else { shared.negated() };
            builder.add(vec![
                shared,
                payload("$['b']", Operator::GreaterThan, n % 3),
            ])
        })
        .collect();
    let set = builder.build().unwrap();
    assert_eq!((set.groups(), set.predicates()), (1000, 4));
    let selection = set.select(&groups);
    let record = json(r#"{"a": 1, "b": 2}"#);
    let mut scratch = ConditionScratch::new();
    scratch.begin_record(0);
    for (n, &group) in groups.iter().enumerate() {
        let expected = n % 2 == 0 && n % 3 < 2;
        assert_eq!(
            set.evaluate_in(&selection, group, &record, &mut scratch),
            expected
        );
    }
    let counts = scratch.take_counts();
    assert_eq!((counts.evaluated, counts.payload_passes), (4, 1));
    assert_eq!(scratch.counts().evaluated, 0);
}

#[test]
fn a_payload_is_not_asked_for_where_something_cheaper_decides() {
    let mut builder = ConditionSetBuilder::new();
    let group = builder.add(vec![
        payload("$..a", Operator::Equals, 1),
        payload("$.a", Operator::Equals, 1),
        header(Operator::Equals, "yes"),
        Condition::new(ConditionKind::MessageSize, Operator::LessThan, 100),
    ]);
    let set = builder.build().unwrap();
    let mut record = json(r#"{"a": 1}"#);
    record.headers = vec![("h", b"no")];
    let mut scratch = ConditionScratch::new();
    scratch.begin_record(0);
    assert!(!set.evaluate(group, &record, &mut scratch));
    assert_eq!(record.read.get(), 0);
    record.headers = vec![("h", b"yes"), ("h", b"no")];
    scratch.headers_changed();
    assert!(set.evaluate(group, &record, &mut scratch));
    assert!(record.read.get() > 0);
}

#[test]
fn what_was_read_is_kept_where_a_payload_changed_behind_it() {
    let mut builder = ConditionSetBuilder::new();
    let field = builder.add(vec![payload("$.a", Operator::Equals, 1)]);
    let size = builder.add(vec![Condition::new(
        ConditionKind::MessageSize,
        Operator::GreaterThan,
        10,
    )]);
    let query = builder.add(vec![payload("$.*", Operator::Equals, 7)]);
    let set = builder.build().unwrap();
    let mut scratch = ConditionScratch::new();
    // Before, after, whether $.a is 1 afterwards, and how often payloads are read for it.
    let cases = [
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":7}"#, true, 1),
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"#, true, 1),
        (r#"{"a":1}"#, r#"{"a":1,"b":7}"#, true, 1),
        (r#"{"a":1 "#, r#"{"a":1]"#, true, 1),
        (r#"{"a":1}"#, r#"{"a":1.0}"#, true, 2),
        (r#"{"a":1,"b":2}"#, r#"{"a":1"#, false, 2),
        (r#"{"a":"1"}"#, r#"{"a":"1""#, false, 1),
        (r#"{"a":{}}"#, r#"{"a":{}"#, false, 1),
        (r#"{"a":"1"}"#, r#"{"a":"1"#, false, 2),
        (r#"{"b":1}"#, r#"{"b":1}}"#, false, 1),
        (r#"{"a":1,"b":2}"#, r#"{"a":12"b":2}"#, false, 2),
        (r#"{"a":1,"b":2}"#, r#"{"a":3,"b":2}"#, false, 2),
        (r#"{"b":1}"#, r#"{"b":1,"a":1}"#, true, 2),
        (r#"{"a"#, r#"{"a":1}"#, true, 2),
        (r#"1"#, r#"{"a":1}"#, true, 2),
    ];
    for (before, after, holds, passes) in cases {
        scratch.begin_record(0);
        scratch.take_counts();
        let _ = set.evaluate(field, &json(before), &mut scratch);
        scratch.payload_replaced(before.as_bytes(), after.as_bytes());
        assert_eq!(
            set.evaluate(field, &json(after), &mut scratch),
            holds,
            "{after}"
        );
        assert_eq!(scratch.counts().payload_passes, passes, "{before} {after}");
    }
    // The size and queries look at all of it.
    scratch.begin_record(0);
    let (before, after) = (r#"{"a":1  }"#, r#"{"a":1,"b":7}"#);
    for group in [field, size, query] {
        let _ = set.evaluate(group, &json(before), &mut scratch);
    }
    scratch.payload_replaced(before.as_bytes(), after.as_bytes());
    assert!(set.evaluate(size, &json(after), &mut scratch));
    assert!(set.evaluate(query, &json(after), &mut scratch));
}

#[test]
fn what_is_known_lasts_until_its_part_of_the_record_changes() {
    let mut builder = ConditionSetBuilder::new();
    let group = builder.add(vec![payload("$.a", Operator::Equals, 1)]);
    let age = builder.add(vec![Condition::new(
        ConditionKind::MessageAge,
        Operator::LessThan,
        10,
    )]);
    let query = builder.add(vec![payload("$.*", Operator::Equals, 1)]);
    let set = builder.build().unwrap();
    let mut scratch = ConditionScratch::new();
    scratch.begin_record(100);
    let mut record = json(r#"{"a": 1}"#);
    record.timestamp = Some(95);
    assert!(set.evaluate(group, &record, &mut scratch));
    assert!(set.evaluate(query, &record, &mut scratch));
    assert!(set.evaluate(age, &record, &mut scratch));
    record.value = r#"{"a": 2}"#.to_owned();
    record.timestamp = None;
    scratch.headers_changed();
    assert!(
        set.evaluate(group, &record, &mut scratch),
        "nobody said that the payload changed"
    );
    assert!(
        set.evaluate(age, &record, &mut scratch),
        "nobody said that the timestamp changed"
    );
    scratch.payload_changed();
    assert!(!set.evaluate(group, &record, &mut scratch));
    assert!(!set.evaluate(query, &record, &mut scratch));
    scratch.timestamp_changed();
    assert!(!set.evaluate(age, &record, &mut scratch));
}

#[test]
fn a_scratch_goes_from_set_to_set() {
    let (first, group) = one(payload("$.a", Operator::Equals, 1));
    let (second, other) = one(payload("$.b", Operator::Matches, "^x"));
    assert_eq!(group, other);
    let record = json(r#"{"a": 1, "b": "y"}"#);
    let mut scratch = ConditionScratch::new();
    for _ in 0..3 {
        assert!(first.evaluate(group, &record, &mut scratch));
        assert!(!second.evaluate(group, &record, &mut scratch));
    }
    // A selection of one set says nothing about another.
    let selection = first.select(&[group]);
    assert!(!second.evaluate_in(&selection, group, &record, &mut scratch));
    assert_eq!(ConditionSetBuilder::new().build().unwrap().groups(), 0);
    assert!(
        !ConditionSetBuilder::new()
            .build()
            .unwrap()
            .evaluate(group, &record, &mut scratch)
    );
}

#[test]
fn a_selection_and_a_group_beside_it_agree() {
    let mut builder = ConditionSetBuilder::new();
    let inside = builder.add(vec![payload("$.a.b", Operator::Equals, 1)]);
    let outside = builder.add(vec![
        payload("$.a", Operator::NotEquals, 1),
        payload("$.z", Operator::Equals, 3),
    ]);
    let set = builder.build().unwrap();
    let selection = set.select(&[inside]);
    let record = json(r#"{"a": {"b": 1}, "z": 3"#);
    let mut scratch = ConditionScratch::new();
    scratch.begin_record(0);
    assert!(set.evaluate_in(&selection, inside, &record, &mut scratch));
    // `3` may have been cut off.
    assert!(!set.evaluate_in(&selection, outside, &record, &mut scratch));
    assert_eq!(scratch.counts().not_json, 1);
}

#[test]
fn a_group_without_conditions_always_holds() {
    let mut builder = ConditionSetBuilder::new();
    let group = builder.add(Vec::new());
    let set = builder.build().unwrap();
    assert!(set.evaluate(group, &json("no JSON"), &mut ConditionScratch::new()));
}

#[test]
fn numbers_compare_exactly() {
    let number = |text: &str| -> Value { Value::Number(text.parse().unwrap()) };
    for (json_text, operator, constant, expected) in [
        (
            "9007199254740993",
            Operator::Equals,
            "9007199254740992",
            false,
        ),
        (
            "9007199254740993",
            Operator::GreaterThan,
            "9007199254740992",
            true,
        ),
        (
            "9007199254740993.0",
            Operator::Equals,
            "9007199254740993",
            true,
        ),
        (
            "18446744073709551616",
            Operator::GreaterThan,
            "18446744073709551615",
            true,
        ),
        (
            "-9223372036854775809",
            Operator::LessThan,
            "-9223372036854775808",
            true,
        ),
        ("1e400", Operator::GreaterThan, "1e308", true),
        ("1e400", Operator::Equals, "10e399", true),
        ("0.1", Operator::Equals, "0.1", true),
        ("0.30000000000000004", Operator::Equals, "0.3", false),
        ("-0.0", Operator::Equals, "0", true),
        ("0e5", Operator::LessThan, "1e-300", true),
        ("1e-99999999999999999999", Operator::GreaterThan, "0", true),
    ] {
        let condition = payload("$.n", operator, number(constant));
        assert_eq!(
            holds(condition.clone(), &json(&format!("{{\"n\":{json_text}}}"))),
            expected,
            "{condition}: {json_text}"
        );
        let record = format!("[{json_text}]");
        let query = payload("$[?@ == 1 || @ != 1]", operator, number(constant));
        assert_eq!(
            holds(query, &json(&record)),
            expected,
            "{condition}: {json_text} by a query"
        );
    }
}

#[test]
fn constants_print_as_numbers_that_read_back() {
    for text in [
        "0",
        "-1",
        "1.5",
        "0.001",
        "123456789012345678901234567890",
        "1e400",
        "-2.5e-30",
    ] {
        let number: Number = text.parse().unwrap();
        assert_eq!(number.to_string(), text);
    }
    assert_eq!(Number::from(u64::MAX).to_string(), u64::MAX.to_string());
    assert_eq!(Number::from(i64::MIN).to_string(), i64::MIN.to_string());
    assert_eq!(Number::from_f64(0.1).unwrap().to_string(), "0.1");
    assert!(Number::from_f64(f64::NAN).is_none());
    for text in ["", "-", ".", "1.2.3", "1e", "1e+", "0x10", " 1", "inf"] {
        assert!(text.parse::<Number>().is_err(), "{text:?}");
    }
}

#[test]
fn headers_are_read_as_what_they_meet() {
    let with = |value: &'static [u8]| Record {
        headers: vec![("h", value)],
        ..Record::default()
    };
    assert!(holds(header(Operator::GreaterThan, 9), &with(b"10")));
    assert!(holds(header(Operator::Equals, 7), &with(b" +007.0 ")));
    assert!(holds(header(Operator::Equals, true), &with(b"true")));
    assert!(!holds(header(Operator::Equals, true), &with(b"TRUE")));
    assert!(
        holds(header(Operator::LessThan, "9"), &with(b"10")),
        "as texts"
    );
    assert!(
        holds(header(Operator::NotEquals, "x"), &with(b"\xff")),
        "not UTF-8 is as good as missing"
    );
    assert!(!holds(header(Operator::Contains, "x"), &with(b"x\xff")));
}

#[test]
fn a_query_holds_if_any_node_satisfies() {
    let record = json(r#"{"tags": ["a", "b"], "none": []}"#);
    assert!(holds(payload("$.tags[*]", Operator::Equals, "b"), &record));
    assert!(
        holds(payload("$.tags[*]", Operator::NotEquals, "b"), &record),
        "there is another one"
    );
    assert!(!holds(
        payload("$.tags[*]", Operator::Equals, "b").negated(),
        &record
    ));
    assert!(
        holds(payload("$.none[*]", Operator::NotEquals, "b"), &record),
        "missing"
    );
    assert!(!holds(payload("$.none[*]", Operator::Equals, "b"), &record));
    assert!(holds(payload("$.tags[-1]", Operator::Equals, "b"), &record));
    assert!(
        !holds(payload("$.tags", Operator::Contains, "a"), &record),
        "a list is no text"
    );
}

#[test]
fn names_and_trees_are_compared_by_what_they_say() {
    let value = r#"[
        {"\u0061": {"b\n": [1, "x", {"\ud834\udd1e": null}], "c": true}},
        {"a": {"c": true, "b\u000a": [1.0, "\u0078", {"𝄞": null}]}},
        {"a": {"c": true, "b\n": [1, "x", {"𝄞": 0}]}},
        {"a": {"c": true, "b\n": [1, "x"]}},
        {"a": {"d": true, "b\n": [1, "x", {"𝄞": null}]}}
    ]"#;
    for (path, count) in [
        ("$[?@.a == $[0].a]", 2),
        ("$[?@ == $[0]]", 2),
        ("$[?@.a != $[0]['a']]", 3),
        ("$[?@.a['b\\n'] == $[2].a['b\\n']]", 1),
        ("$[?@.a['b\\n'][2]['𝄞'] == null]", 3),
        ("$[?@['aa'] || @['']]", 0),
    ] {
        let (set, group) = one(payload(path, Operator::NotEquals, "x"));
        let evidence = set.explain(group, &json(value), 0).conditions()[0]
            .evidence()
            .clone();
        let found = match evidence {
            Evidence::Missing => 0,
            Evidence::Value(_) => 1,
            Evidence::Values { count, .. } => count,
            other => panic!("{path}: {other}"),
        };
        assert_eq!(found, count, "{path}");
    }
}

#[test]
fn a_scratch_that_was_told_of_a_change_before_a_record_knows_nothing() {
    let record = Record {
        value: "xyz".to_owned(),
        timestamp: Some(-5),
        headers: vec![("h", b"x")],
        ..Record::default()
    };
    let changes: [fn(&mut ConditionScratch); 4] = [
        |_| {},
        ConditionScratch::headers_changed,
        ConditionScratch::payload_changed,
        ConditionScratch::timestamp_changed,
    ];
    for change in changes {
        for condition in [
            Condition::new(ConditionKind::MessageSize, Operator::Equals, 3),
            Condition::new(ConditionKind::MessageAge, Operator::Equals, 5),
            header(Operator::Equals, "x"),
            payload("$.a", Operator::NotEquals, 1),
            payload("$.*", Operator::NotEquals, 1),
        ] {
            let (set, group) = one(condition.clone());
            let mut scratch = ConditionScratch::new();
            change(&mut scratch);
            assert!(set.evaluate(group, &record, &mut scratch), "{condition}");
        }
    }
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let mut builder = ConditionSetBuilder::new();
    builder.add(vec![payload("$.fine", Operator::Equals, 1)]);
    let group = builder.add(vec![
        payload("$.a[", Operator::Equals, 1),
        payload("$.a", Operator::Matches, "a(b"),
        payload("$.a", Operator::Matches, "(a{1000}){1000}"),
        payload("$.a", Operator::Contains, 5),
        payload("$.a", Operator::GreaterThan, true),
        Condition::new(ConditionKind::MessageSize, Operator::Equals, "1024"),
        header(Operator::Equals, Value::Null),
        payload(&format!("${}", ".a".repeat(3000)), Operator::Equals, 1),
        payload(&format!("${}", ".a".repeat(300)), Operator::Equals, 1),
        payload(&format!("${}", "[?@".repeat(300)), Operator::Equals, 1),
        payload("$.a", Operator::Matches, "a".repeat(5000)),
        payload("$.a", Operator::Matches, "[ab]*a[ab]{4000}c"),
        payload("$[?@ && search(@.a, 'a[ab]{4000}c')]", Operator::Equals, 1),
        payload("$[?match(@.a, '.{9999}{9999}')]", Operator::Equals, 1),
    ]);
    let error = builder.build().unwrap_err();
    let problems = error.problems();
    let kinds: Vec<ProblemKind> = problems.iter().map(Problem::kind).collect();
    use ProblemKind::{Path, Regex, TooLarge, Value as Constant};
    assert_eq!(
        kinds,
        [
            Path, Regex, TooLarge, Constant, Constant, Constant, Constant, TooLarge, TooLarge,
            TooLarge, TooLarge, TooLarge, TooLarge, TooLarge
        ]
    );
    assert!(
        problems
            .iter()
            .enumerate()
            .all(|(n, problem)| problem.group() == group && problem.condition() == n)
    );
    let in_path = problems.iter().map(Problem::is_in_path);
    let in_path: Vec<usize> = in_path
        .enumerate()
        .filter(|(_, it)| *it)
        .map(|(n, _)| n)
        .collect();
    assert_eq!(in_path, [0, 7, 8, 9, 12, 13]);
    assert_eq!(problems[12].span(), Some(8..35));
    assert_eq!(problems[0].span(), Some(4..4));
    assert_eq!(problems[1].span(), Some(1..2));
    assert_eq!(
        problems[0].to_string(),
        "group 1, condition 0: expected a quoted name, an index, a slice, * or ?filter (at byte 4)"
    );
}

#[test]
fn an_explanation_says_what_was_found() {
    let mut builder = ConditionSetBuilder::new();
    let group = builder.add(vec![
        payload("$.a", Operator::Equals, 1),
        payload("$.list[*]", Operator::Equals, 9),
        header(Operator::Equals, "x"),
        payload("$.none", Operator::Equals, 1).negated(),
        Condition::new(ConditionKind::MessageAge, Operator::LessThan, 10),
    ]);
    let set = builder.build().unwrap();
    let mut record = json(r#"{"a": 1, "list": [4, 5]}"#);
    record.headers = vec![("h", b"y")];
    let explanation = set.explain(group, &record, 0);
    assert_eq!(
        explanation.to_string(),
        "yes: $.a Equals 1: found 1\n\
         no: $.list[*] Equals 9: found 4 and 1 more\n\
         no: header \"h\" Equals \"x\": found \"y\"\n\
         yes: not $.none Equals 1: found nothing\n\
         no: message age LessThan 10: found nothing\n"
    );
    assert_eq!(explanation.first_failure().unwrap().0, 1);
    assert!(!explanation.holds());
    let explanation = set.explain(group, &json("{"), 0);
    assert_eq!(*explanation.conditions()[0].evidence(), Evidence::NotJson);
    assert_eq!(*explanation.conditions()[1].evidence(), Evidence::NotJson);
}
