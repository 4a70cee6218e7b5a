//! Conditions on payloads against a slow evaluator on `serde_json`, on payloads that are sound, cut off, garbled, nested
//! deeply, or have names twice.
//!
//! The evaluator says the same as the documentation: at a singular path is the first value, if everything up to its end is
//! well-formed; a number or literal in a container ends at a delimiter; any other query wants the whole payload well-formed,
//! and holds if any node satisfies.
#![cfg(feature = "conditions")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;

use etl_filter::conditions::{
    Condition, ConditionKind, ConditionScratch, ConditionSetBuilder, GroupId, Operator, RecordView,
    Value,
};
use proptest::prelude::*;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

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

// ---- The slow evaluator ----

#[derive(Clone, Copy, Debug)]
enum Step {
    Name(&'static str),
    Index(usize),
}

use Step::{Index, Name};

/// Paths that are singular.
const SINGULAR: &[(&str, &[Step])] = &[
    ("$", &[]),
    ("$.a", &[Name("a")]),
    ("$.b", &[Name("b")]),
    ("$['']", &[Name("")]),
    ("$['ä\"']", &[Name("ä\"")]),
    ("$.a.a", &[Name("a"), Name("a")]),
    ("$.a.b", &[Name("a"), Name("b")]),
    ("$.b.a[1]", &[Name("b"), Name("a"), Index(1)]),
    ("$.a[0]", &[Name("a"), Index(0)]),
    ("$.a[1].b", &[Name("a"), Index(1), Name("b")]),
    ("$[0]", &[Index(0)]),
    ("$[1].a", &[Index(1), Name("a")]),
    ("$[1][2]", &[Index(1), Index(2)]),
];

/// Queries that are not, each with the nodes it selects.
type Nodes = fn(&Tree) -> Vec<&Tree>;
const GENERAL: &[(&str, Nodes)] = &[
    ("$.*", |tree| tree.children().collect()),
    ("$.a[*]", |tree| {
        tree.named("a")
            .into_iter()
            .flat_map(Tree::children)
            .collect()
    }),
    ("$..a", |tree| {
        tree.descendants()
            .into_iter()
            .filter_map(|node| node.named("a"))
            .collect()
    }),
    ("$[-1]", |tree| tree.elements().last().into_iter().collect()),
    ("$.a[1:]", |tree| {
        tree.named("a")
            .into_iter()
            .flat_map(|a| a.elements().iter().skip(1))
            .collect()
    }),
    ("$['a','b']", |tree| {
        ["a", "b"]
            .iter()
            .filter_map(|name| tree.named(name))
            .collect()
    }),
    ("$[?@.a == 1]", |tree| {
        let is_one = |node: &&Tree| {
            node.named("a")
                .is_some_and(|a| a.json() == Json::Number(Written::out("1")))
        };
        tree.children().filter(is_one).collect()
    }),
];

/// A scalar as the operators see it.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    Number(Written),
    Text(String),
    Container,
}

/// A number written out without an exponent: its sign, and the digits before and behind the point without idle zeros.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    negative: bool,
    whole: String,
    fraction: String,
}

impl Written {
    fn out(text: &str) -> Written {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let (negative, whole) = whole
            .strip_prefix('-')
            .map_or((false, whole), |whole| (true, whole));
        // Beyond this nothing but zero is left, and zero needs no shifting.
        let exponent: i32 = exponent.parse().unwrap_or(0).clamp(-2000, 2000);
        let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
        for _ in 0..exponent {
            if fraction.is_empty() {
                fraction.push('0');
            }
            whole.push(fraction.remove(0));
        }
        for _ in exponent..0 {
            fraction.insert(0, whole.pop().unwrap_or('0'));
        }
        let (whole, fraction) = (
            whole.trim_start_matches('0'),
            fraction.trim_end_matches('0'),
        );
        let zero = whole.is_empty() && fraction.is_empty();
        Written {
            negative: negative && !zero,
            whole: whole.to_owned(),
            fraction: fraction.to_owned(),
        }
    }

    fn order(&self, other: &Written) -> Ordering {
        let size = self
            .whole
            .len()
            .cmp(&other.whole.len())
            .then_with(|| self.whole.cmp(&other.whole))
            .then_with(|| self.fraction.cmp(&other.fraction));
        match (self.negative, other.negative) {
            (false, false) => size,
            (true, true) => size.reverse(),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

fn scalar(raw: &str) -> Json {
    match raw.as_bytes()[0] {
        b'n' => Json::Null,
        b't' => Json::Bool(true),
        b'f' => Json::Bool(false),
        b'"' => Json::Text(serde_json::from_str(raw).unwrap()),
        b'{' | b'[' => Json::Container,
        _ => Json::Number(Written::out(raw)),
    }
}

fn holds(operator: Operator, found: &Json, constant: &Value) -> bool {
    let order = match (found, constant) {
        (Json::Number(found), Value::Number(constant)) => {
            Some(found.order(&Written::out(&constant.to_string())))
        }
        (Json::Text(found), Value::String(constant)) => Some(found.cmp(constant)),
        _ => None,
    };
    let equal = match (found, constant) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(found), Value::Bool(constant)) => found == constant,
        _ => order == Some(Ordering::Equal),
    };
    let texts = |test: fn(&str, &str) -> bool| match (found, constant) {
        (Json::Text(found), Value::String(constant)) => test(found, constant),
        _ => false,
    };
    match operator {
        Operator::Equals => equal,
        Operator::NotEquals => !equal,
        Operator::GreaterThan => order == Some(Ordering::Greater),
        Operator::LessThan => order == Some(Ordering::Less),
        Operator::GreaterThanOrEqual => order.is_some_and(Ordering::is_ge),
        Operator::LessThanOrEqual => order.is_some_and(Ordering::is_le),
        // The constants have no characters that a regular expression takes for anything but themselves.
        Operator::Contains | Operator::Matches => texts(|found, constant| found.contains(constant)),
        Operator::StartsWith => texts(|found, constant| found.starts_with(constant)),
        Operator::EndsWith => texts(|found, constant| found.ends_with(constant)),
    }
}

/// The text of the first value at a path, if everything up to its end is well-formed.
fn first_at<'p>(payload: &'p [u8], steps: &[Step]) -> Option<&'p str> {
    let found = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    deserializer.disable_recursion_limit();
    // An error may be nothing but the end of the search.
    let _ended = Search {
        steps,
        found: &found,
    }
    .deserialize(&mut deserializer);
    let raw = found.get()?.trim_ascii();
    let end = raw.as_ptr() as usize - payload.as_ptr() as usize + raw.len();
    let enclosed = !steps.is_empty();
    let closed = matches!(raw.as_bytes()[0], b'"' | b'{' | b'[');
    let delimited = match payload.get(end) {
        Some(byte) => b",}] \n\r\t".contains(byte),
        None => !enclosed,
    };
    (closed || delimited).then_some(raw)
}

struct Search<'s, 'p> {
    steps: &'s [Step],
    found: &'s Cell<Option<&'p str>>,
}

impl<'p> DeserializeSeed<'p> for Search<'_, 'p> {
    type Value = ();
    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.steps.is_empty() {
            let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
            // `RawValue` lets through what only a whole reading refuses: escapes of single surrogates.
            let mut strict = serde_json::Deserializer::from_str(raw.get());
            strict.disable_recursion_limit();
            let whole: Result<serde_json::Value, _> = serde::Deserialize::deserialize(&mut strict);
            if whole.is_ok() {
                self.found.set(Some(raw.get()));
            }
            return Err(serde::de::Error::custom("found"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'p> Visitor<'p> for Search<'_, 'p> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a container")
    }
    fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match self.steps[0] {
                Name(wanted) if wanted == name => {
                    map.next_value_seed(Search {
                        steps: &self.steps[1..],
                        found: self.found,
                    })?;
                    return Err(serde::de::Error::custom("the first member is the only one"));
                }
                _ => drop(map.next_value::<serde_json::Value>()?),
            }
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'p>>(self, mut list: A) -> Result<(), A::Error> {
        for index in 0.. {
            match self.steps[0] {
                Index(wanted) if wanted == index => {
                    list.next_element_seed(Search {
                        steps: &self.steps[1..],
                        found: self.found,
                    })?;
                    break;
                }
                _ => {
                    if list.next_element::<serde_json::Value>()?.is_none() {
                        break;
                    }
                }
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// A whole payload, names in the order of the text, all of them.
#[derive(Debug)]
enum Tree {
    Scalar(Json),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn read(payload: &[u8]) -> Option<Tree> {
        serde_json::from_slice::<serde_json::Value>(payload).ok()?;
        Some(Tree::of(std::str::from_utf8(payload).ok()?.trim_ascii()))
    }

    fn of(raw: &str) -> Tree {
        struct Members;
        impl<'p> Visitor<'p> for Members {
            type Value = Vec<(String, Tree)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    members.push((name, Tree::of(value.get())));
                }
                Ok(members)
            }
        }
        match raw.as_bytes()[0] {
            b'{' => {
                let mut deserializer = serde_json::Deserializer::from_str(raw);
                Tree::Object(deserializer.deserialize_map(Members).unwrap())
            }
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(raw).unwrap();
                Tree::Array(
                    elements
                        .into_iter()
                        .map(|element| Tree::of(element.get()))
                        .collect(),
                )
            }
            _ => Tree::Scalar(scalar(raw)),
        }
    }

    fn json(&self) -> Json {
        match self {
            Tree::Scalar(json) => json.clone(),
            _ => Json::Container,
        }
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Tree> + '_> {
        match self {
            Tree::Scalar(_) => Box::new(std::iter::empty()),
            Tree::Array(elements) => Box::new(elements.iter()),
            Tree::Object(members) => Box::new(members.iter().map(|(_, value)| value)),
        }
    }

    fn elements(&self) -> &[Tree] {
        match self {
            Tree::Array(elements) => elements,
            _ => &[],
        }
    }

    fn named(&self, wanted: &str) -> Option<&Tree> {
        match self {
            Tree::Object(members) => members
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    fn descendants(&self) -> Vec<&Tree> {
        let mut all = vec![self];
        for child in self.children() {
            all.extend(child.descendants());
        }
        all
    }
}

/// What the slow evaluator finds at a path.
fn find(path: &str, payload: &[u8]) -> Vec<Json> {
    if let Some((_, steps)) = SINGULAR.iter().find(|(known, _)| *known == path) {
        return first_at(payload, steps).map(scalar).into_iter().collect();
    }
    let (_, nodes) = GENERAL.iter().find(|(known, _)| *known == path).unwrap();
    Tree::read(payload)
        .map(|tree| nodes(&tree).into_iter().map(Tree::json).collect())
        .unwrap_or_default()
}

fn slowly(condition: &Condition, found: &[Json]) -> bool {
    let any = found
        .iter()
        .any(|found| holds(condition.operator, found, &condition.value));
    let absent = found.is_empty() && condition.operator == Operator::NotEquals;
    (any || absent) != condition.negate
}

// ---- The comparison ----

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
            for constant in &constants {
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
        let conditions = conditions();
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
        // The one thing that `serde_json` refuses and conditions take: a number beyond what a float can hold.
        let error = serde_json::from_slice::<serde_json::Value>(payload).err();
        if error.is_some_and(|error| error.to_string().contains("out of range")) {
            return Ok(());
        }
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
        prop::sample::select(vec!["null", "true", "false"]).prop_map(str::to_owned),
        number(),
        text(),
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

/// Sound JSON, or something done to it.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    (json(), 0..8, any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(json, change, place, byte)| {
            let mut bytes = json.into_bytes();
            let at = place.index(bytes.len());
            match change {
                0 => bytes.truncate(at),
                1 => bytes[at] = byte,
                2 => bytes[at] = b"{}[]\",:\\0-e.tnu \n\x01\xff"[usize::from(byte) % 19],
                3 => drop(bytes.remove(at)),
                4 => {
                    bytes.extend_from_slice([b" ", &b"x"[..], b"}", b"{}"][usize::from(byte) % 4]);
                }
                _ => {}
            }
            bytes
        },
    )
}

#[test]
fn conditions_agree_with_the_slow_evaluator() {
    let subject = Subject::new();
    let mut scratch = ConditionScratch::new();
    let cases = if cfg!(miri) { 2 } else { 1500 };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    });
    let mut compare = |payload: &[u8]| subject.compare(payload, &mut scratch);
    let cell = std::cell::RefCell::new(&mut compare);
    runner
        .run(&payload(), |payload| cell.borrow_mut()(&payload))
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_beginning_of_a_payload_agrees() {
    let subject = Subject::new();
    let mut scratch = ConditionScratch::new();
    let payload = r#" {"b": {"a": [1, "a\u00e4", null]}, "a": [{"b": 1.5}, {"a":1,"b" : "xay"}], "a": 1, "": true} "#;
    let step = if cfg!(miri) { 40 } else { 1 };
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
