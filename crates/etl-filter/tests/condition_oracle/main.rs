//! Conditions on payloads against a slow evaluator on `serde_json`, on payloads that are sound, cut off, garbled, nested
//! deeply, or have names twice.
//!
//! The evaluator says the same as the documentation: at a singular path is the first value, if everything up to its end is
//! well-formed; a number or literal in a container ends at a delimiter; any other query wants the whole payload well-formed,
//! and holds if any node satisfies.
#![cfg(feature = "conditions")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/effort.rs"]
mod effort;
mod slow;

use std::cell::RefCell;

use etl_filter::conditions::{
    Condition, ConditionKind, ConditionScratch, ConditionSetBuilder, GroupId, Operator, RecordView,
    Value,
};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use slow::{GENERAL, SINGULAR, find, slowly};

struct Payload<'a>(&'a [u8]);

impl RecordView for Payload<'_> {
    fn header(&self, _name: &str) -> Option<&[u8]> {
        None
    }
    fn value(&self) -> &[u8] {
        self.0
    }
    fn length(&self) -> usize {
        self.0.len()
    }
    fn timestamp(&self) -> Option<i64> {
        None
    }
}

/// Every path, operator and fitting constant.
fn conditions() -> Vec<Condition> {
    let constants: Vec<Value> = vec![
        Value::Null,
        true.into(),
        1.into(),
        Value::Number("1.5".parse().unwrap()),
        9_007_199_254_740_993_i64.into(),
        Value::Number("170141183460469231731687".parse().unwrap()),
        "a".into(),
        "ä\"".into(),
        "".into(),
    ];
    let paths = SINGULAR
        .iter()
        .map(|(path, _)| path)
        .chain(GENERAL.iter().map(|(path, _)| path));
    let mut all = Vec::new();
    for path in paths {
        for &operator in Operator::ALL {
            for constant in constants.iter().step_by(if cfg!(miri) { 4 } else { 1 }) {
                let condition =
                    Condition::new(ConditionKind::payload(*path), operator, constant.clone());
                let mut builder = ConditionSetBuilder::new();
                builder.add(vec![condition.clone()]);
                if builder.build().is_ok() {
                    all.push(condition.clone());
                    all.push(condition.negated());
                }
            }
        }
    }
    all
}

/// One set of all conditions, a group for each, and the ways to ask it.
struct Subject {
    conditions: Vec<Condition>,
    set: etl_filter::conditions::ConditionSet,
    groups: Vec<GroupId>,
}

impl Subject {
    fn new() -> Self {
        // Miri is a thousand times slower: a sample of the conditions.
        let sample = if cfg!(miri) { 97 } else { 1 };
        let conditions: Vec<Condition> = conditions().into_iter().step_by(sample).collect();
        let mut builder = ConditionSetBuilder::new();
        let groups = conditions
            .iter()
            .map(|condition| builder.add(vec![condition.clone()]))
            .collect();
        Subject {
            conditions,
            set: builder.build().unwrap(),
            groups,
        }
    }

    fn compare(&self, payload: &[u8], scratch: &mut ConditionScratch) -> Result<(), TestCaseError> {
        let together = self.set.select(&self.groups);
        scratch.begin_record(0);
        let mut answers = Vec::new();
        for &group in &self.groups {
            answers.push(
                self.set
                    .evaluate_in(&together, group, &Payload(payload), scratch),
            );
        }
        // Each path on its own: what is read beside it makes no difference.
        scratch.begin_record(0);
        let mut found = ("", Vec::new());
        for ((condition, &group), answer) in self.conditions.iter().zip(&self.groups).zip(answers) {
            let alone = self.set.evaluate(group, &Payload(payload), scratch);
            let path = path(condition);
            if found.0 != path {
                found = (path, find(path, payload));
            }
            let expected = slowly(condition, &found.1);
            if alone != expected || answer != expected {
                let payload = String::from_utf8_lossy(payload);
                let message =
                    format!("{condition} on {payload:?}: alone {alone}, together {answer}");
                return Err(TestCaseError::fail(message));
            }
        }
        Ok(())
    }
}

impl Subject {
    /// The second payload takes the place of the first, of which some conditions have been asked: what is kept of that must not show.
    fn compare_replaced(
        &self,
        (before, asked): (&[u8], usize),
        after: &[u8],
        scratch: &mut ConditionScratch,
    ) -> Result<(), TestCaseError> {
        let mut anew = ConditionScratch::new();
        anew.begin_record(0);
        scratch.begin_record(0);
        for &group in self.groups.iter().skip(asked).step_by(asked + 1) {
            self.set.evaluate(group, &Payload(before), scratch);
        }
        scratch.payload_replaced(before, after);
        for (condition, &group) in self.conditions.iter().zip(&self.groups) {
            let kept = self.set.evaluate(group, &Payload(after), scratch);
            let expected = self.set.evaluate(group, &Payload(after), &mut anew);
            if kept != expected {
                let [before, after] = [before, after].map(String::from_utf8_lossy);
                let message = format!("{condition} on {after:?} after {before:?}: {kept}");
                return Err(TestCaseError::fail(message));
            }
        }
        Ok(())
    }
}

fn path(condition: &Condition) -> &str {
    match &condition.kind {
        ConditionKind::PayloadField { jsonpath } => jsonpath,
        other => panic!("{other} is not compared here"),
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "", "ä\"", "xay", "abcdefghijk"]).prop_map(str::to_owned),
        1 => "[a-cä𝄞\\\\\"\n]{0,12}",
    ]
    .prop_flat_map(|text| (Just(text), any::<u8>()))
    .prop_map(|(text, escaping)| {
        // Some characters are written as escapes, though they need not be.
        let mut json = String::from("\"");
        for (place, letter) in text.chars().enumerate() {
            let needed = letter < ' ' || letter == '"' || letter == '\\';
            if needed || escaping >> (place % 8) & 1 == 1 && escaping & 0x40 != 0 {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    json.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                json.push(letter);
            }
        }
        json + "\""
    })
}

/// Strings that are escaped wrongly, or as few escape them.
fn odd_text() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        r#""\ud800""#,
        r#""\udc00a""#,
        r#""\ud800\ud800""#,
        r#""\ud834\udd1e""#,
        r#""\uD834\u0061""#,
        r#""\u0000""#,
        r#""\u00zz""#,
        r#""\x""#,
        r#""\/\b\f""#,
        "\"\0\"",
        "\"\u{7f}\u{80}\"",
        "\"\u{feff}a\"",
    ])
    .prop_map(str::to_owned)
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "0",
            "-0",
            "1",
            "1.0",
            "10e-1",
            "0.1E+1",
            "1.5",
            "15e-1",
            "-1.5",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993.0",
            "18446744073709551615",
            "170141183460469231731687",
            "170141183460469231731688",
            "1e20",
            "0.000000000001",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "1e400",
            "-1e400",
            "10e399",
            "1e-400",
            "0e999999999999",
            "01",
            "1.",
            "-",
            "+1",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|value| value.to_string()),
    ]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just("\n\t\r ")]
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        6 => prop::sample::select(vec!["null", "true", "false"]).prop_map(str::to_owned),
        6 => number(),
        6 => text(),
        1 => odd_text(),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let member =
            (text(), space(), inner.clone(), space()).prop_map(|(name, before, value, behind)| {
                format!("{before}{name}{behind}:{before}{value}{behind}")
            });
        prop_oneof![
            (prop::collection::vec(inner, 0..5), space()).prop_map(|(elements, space)| format!(
                "[{space}{}{space}]",
                elements.join(&format!("{space},"))
            )),
            (prop::collection::vec(member, 0..6), space())
                .prop_map(|(members, space)| format!("{{{space}{}}}", members.join(","))),
        ]
    })
}

/// Something that may be done to a payload.
type Damage = (u8, prop::sample::Index, u8);

fn damage() -> impl Strategy<Value = Damage> {
    (0..12_u8, any::<prop::sample::Index>(), any::<u8>())
}

fn damaged(mut bytes: Vec<u8>, (change, place, byte): Damage) -> Vec<u8> {
    let at = place.index(bytes.len().max(1));
    match change {
        _ if bytes.is_empty() => {}
        0 => bytes.truncate(at),
        1 => bytes[at] = byte,
        2 => bytes[at] = b"{}[]\",:\\0-e.tnu \n\x01\xff"[usize::from(byte) % 19],
        3 => drop(bytes.remove(at)),
        4 => {
            bytes.extend_from_slice([b" ", &b"x"[..], b"}", b"{}"][usize::from(byte) % 4]);
        }
        // Not UTF-8: a byte by itself, one that is cut off, one in too many bytes, half a surrogate pair.
        5 => {
            let odd = [&b"\xff"[..], b"\xc3", b"\xc0\x80", b"\xed\xa0\x80"];
            bytes.splice(at..at, odd[usize::from(byte) % 4].iter().copied());
        }
        6 => drop(bytes.splice(0..0, "\u{feff}".bytes())),
        // Where a value ends: what is behind a number decides whether it is one.
        7 | 8 => {
            let rest = bytes[at..].iter();
            let end = at + rest.take_while(|byte| !b",}]".contains(byte)).count();
            if change == 7 {
                bytes.truncate(end);
            } else {
                bytes.insert(end, byte);
            }
        }
        _ => {}
    }
    bytes
}

/// Sound JSON, or something done to it.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    (json(), damage()).prop_map(|(json, damage)| damaged(json.into_bytes(), damage))
}

/// Each payload with every condition, asked alone and together: `cargo xtask fuzz --only conditions` does more of them.
#[test]
fn conditions_agree_with_the_slow_evaluator() {
    let (cases, at_once) = if cfg!(miri) { (2, 1) } else { (1_500, 25) };
    let subject = Subject::new();
    effort::run(cases, |seed| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(at_once)
        };
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let scratch = RefCell::new(ConditionScratch::new());
        TestRunner::new_with_rng(config, random)
            .run(
                &(payload(), damage(), 0..40_usize),
                |(payload, damage, asked)| {
                    let scratch = &mut scratch.borrow_mut();
                    let after = damaged(payload.clone(), damage);
                    subject.compare(&payload, scratch)?;
                    subject.compare_replaced((&payload, asked), &after, scratch)
                },
            )
            .unwrap_or_else(|error| panic!("{error}"));
        at_once.into()
    });
}

#[test]
fn every_beginning_of_a_payload_agrees() {
    let subject = Subject::new();
    let mut scratch = ConditionScratch::new();
    let payload = r#" {"b": {"a": [1, "a\u00e4", null]}, "a": [{"b": 1.5}, {"a":1,"b" : "xay"}], "a": 1, "": true} "#;
    let step = if cfg!(miri) { 90 } else { 1 };
    for end in (0..=payload.len()).step_by(step) {
        subject
            .compare(&payload.as_bytes()[..end], &mut scratch)
            .unwrap();
    }
}

#[test]
fn ten_thousand_levels_agree() {
    if cfg!(miri) {
        println!("skipped: ten_thousand_levels_agree: needs a large stack");
        return;
    }
    // The slow evaluator recurses; the conditions do not.
    let run = || {
        let subject = Subject::new();
        let mut scratch = ConditionScratch::new();
        const DEPTH: usize = 10_000;
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"x\":[", "]}")] {
            let nested = format!("{}1{}", open.repeat(DEPTH), close.repeat(DEPTH));
            let cut = &nested[..nested.len() - 1];
            for payload in [
                format!("{{\"x\":{nested},\"a\":1,\"b\":\"a\"}}"),
                format!("{{\"x\":{cut},\"a\":1}}"),
                nested.clone(),
                cut.to_owned(),
            ] {
                let together = subject.set.select(&subject.groups);
                scratch.begin_record(0);
                let mut found = ("", Vec::new());
                for (condition, &group) in subject.conditions.iter().zip(&subject.groups) {
                    let record = Payload(payload.as_bytes());
                    let answer = subject
                        .set
                        .evaluate_in(&together, group, &record, &mut scratch);
                    let path = path(condition);
                    // The whole tree is too deep for the slow evaluator's limit: singular paths only.
                    if !SINGULAR.iter().any(|(known, _)| *known == path) {
                        continue;
                    }
                    if found.0 != path {
                        found = (path, find(path, payload.as_bytes()));
                    }
                    assert_eq!(answer, slowly(condition, &found.1), "{condition}");
                }
            }
        }
    };
    std::thread::Builder::new()
        .stack_size(1 << 29)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn conditions_do_not_recurse_into_payloads() {
    // On a small stack, with a query that goes everywhere.
    let run = || {
        let mut builder = ConditionSetBuilder::new();
        let deep = builder.add(vec![
            Condition::new(ConditionKind::payload("$..b"), Operator::Equals, 1),
            Condition::new(
                ConditionKind::payload("$[?@..x == $..y]"),
                Operator::NotEquals,
                1,
            ),
        ]);
        let broken = builder.build().unwrap_err();
        assert_eq!(broken.problems()[0].condition(), 1, "{broken}");
        let mut builder = ConditionSetBuilder::new();
        assert_eq!(
            builder.add(vec![Condition::new(
                ConditionKind::payload("$..b"),
                Operator::Equals,
                1
            )]),
            deep
        );
        let set = builder.build().unwrap();
        let depth = if cfg!(miri) { 100 } else { 100_000 };
        let payload = format!("{}{{\"b\":1}}{}", "[".repeat(depth), "]".repeat(depth));
        let mut scratch = ConditionScratch::new();
        scratch.begin_record(0);
        assert!(set.evaluate(deep, &Payload(payload.as_bytes()), &mut scratch));
    };
    std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}
