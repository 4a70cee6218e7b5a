//! What a made-up module does: a pure function of its script, the record and the attempt, for the engine and the interpreter alike.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use etl_orchestrator::{
    Change, Delta, FailureKind, Headers, NewRecord, Reply, TransformError, View,
};
use serde_json::{Value, json};

/// A record as the interpreter sees it: everything owned and plain.
#[derive(Clone, Debug, PartialEq)]
pub struct Plain {
    pub topic: String,
    pub partition: u32,
    pub offset: u64,
    pub key: Option<String>,
    pub value: String,
    pub headers: Vec<(String, String)>,
    pub timestamp: Option<i64>,
}

/// One change, as scripts write it.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Value(String),
    Patch(String),
    /// Appends to the key, so that keys stay different from each other.
    Key(char),
    Topic(String),
    Add(String, String),
    Set(String, String),
    Remove(String),
    Timestamp(Option<i64>),
    /// So many records.
    Emit(u32),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Keep,
    Drop,
    Change(Vec<Op>),
    /// Fails so many times.
    Fail {
        kind: FailureKind,
        retryable: bool,
        times: u32,
    },
}

/// A small generator, the same on every machine.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("small")].clone()
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// What the module of this script does with this record at this attempt, counted from 1.
pub fn decide(script: u64, wild: u64, record: &Plain, attempt: u32) -> Action {
    // By what it says: only the engine keeps the text of JSON that it does not touch.
    let value = serde_json::from_str::<Value>(&record.value)
        .map_or_else(|_| record.value.clone(), |value| value.to_string());
    let mut dice =
        Dice(script ^ hash(&value) ^ hash(record.key.as_deref().unwrap_or("")).rotate_left(7));
    let action = match dice.below(100) {
        0..12 => Action::Keep,
        12..17 => Action::Drop,
        17..62 => Action::Change((0..=dice.below(2)).map(|_| op(&mut dice)).collect()),
        62..70 => Action::Change(vec![Op::Emit(
            1 + u32::try_from(dice.below(2)).expect("small"),
        )]),
        70..74 => Action::Change(vec![op(&mut dice), Op::Emit(1)]),
        _ if dice.below(100) >= wild => Action::Change(vec![op(&mut dice)]),
        _ => {
            let kind = dice.pick(&FailureKind::ALL);
            // A record that timed out in a batch is called again alone, which a script that counts attempts would see.
            let times = if kind == FailureKind::Timeout {
                u32::MAX
            } else {
                dice.pick(&[1, 2, 3, u32::MAX])
            };
            Action::Fail {
                kind,
                retryable: dice.chance(60),
                times,
            }
        }
    };
    match action {
        Action::Fail { times, .. } if attempt > times => {
            Action::Change(vec![Op::Add("recovered".into(), attempt.to_string())])
        }
        action => action,
    }
}

fn op(dice: &mut Dice) -> Op {
    match dice.below(14) {
        0 => Op::Value(json!({ "a": dice.below(3), "b": { "c": dice.below(2) } }).to_string()),
        1 => Op::Value("text".into()),
        2..5 => Op::Patch(json!({ dice.pick(&["a", "b", "d"]): dice.below(3) }).to_string()),
        5 => Op::Patch(json!({ "b": { dice.pick(&["c", "e"]): dice.pick(&[Value::Null, json!(1)]) }, "a": Value::Null }).to_string()),
        6 => Op::Key(dice.pick(&['k', 'l'])),
        7 => Op::Topic(dice.pick(&["t.one".to_owned(), "elsewhere".to_owned()])),
        8 | 9 => Op::Add(dice.pick(&["h".to_owned(), "i".to_owned()]), dice.below(2).to_string()),
        10 => Op::Set(dice.pick(&["h".to_owned(), "i".to_owned()]), dice.below(2).to_string()),
        11 => Op::Remove(dice.pick(&["h".to_owned(), "i".to_owned()])),
        12 => Op::Timestamp(dice.pick(&[None, Some(1), Some(2)])),
        _ => Op::Patch("{ not JSON".into()),
    }
}

/// The record that is emitted as number `index`.
///
/// Its key is like no other's, so that attempts can be counted by record.
pub fn emitted(parent: &Plain, script: u64, index: u32) -> Plain {
    Plain {
        topic: if index.is_multiple_of(2) {
            parent.topic.clone()
        } else {
            "emitted".to_owned()
        },
        partition: parent.partition,
        offset: parent.offset,
        key: Some(format!(
            "{}.{}.{index}",
            parent.key.as_deref().unwrap_or(""),
            script % 10_000
        )),
        value: json!({ "a": index, "from": parent.key }).to_string(),
        headers: vec![("h".to_owned(), "1".to_owned())],
        timestamp: None,
    }
}

pub fn plain(view: &View) -> Plain {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Plain {
        topic: view.topic().to_string(),
        partition: view.original().partition,
        offset: view.original().offset,
        key: view.key().map(|key| text(key)),
        value: text(view.value()),
        headers: view
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        timestamp: view.timestamp(),
    }
}

/// Attempts so far, by script and record.
pub type Attempts = Arc<Mutex<HashMap<(u64, String), u32>>>;

/// The module of a script, as the engine calls it.
pub fn transform(
    script: u64,
    wild: u64,
    attempts: Attempts,
) -> impl Fn(&View) -> Reply + Send + Sync {
    move |view| {
        let record = plain(view);
        let attempt = {
            let mut attempts = attempts.lock().expect("not poisoned");
            let count = attempts
                .entry((
                    script,
                    format!("{:?}", (record.offset, &record.key, &record.value)),
                ))
                .or_default();
            *count += 1;
            *count
        };
        match decide(script, wild, &record, attempt) {
            Action::Keep => Reply::Keep,
            Action::Drop => Reply::Drop,
            Action::Fail {
                kind, retryable, ..
            } => Reply::Fail(
                TransformError::new(kind, format!("script {script}")).retryable(retryable),
            ),
            Action::Change(ops) => match &ops[..] {
                // A value alone has an answer of its own, which must come to the same as a list of it.
                [Op::Value(value)] => Reply::Value(value.clone().into()),
                _ => Reply::Change(delta(&record, script, ops)),
            },
        }
    }
}

fn delta(record: &Plain, script: u64, ops: Vec<Op>) -> Delta {
    let mut delta = Delta::new();
    for op in ops {
        delta.push(match op {
            Op::Value(value) => Change::SetValue(value.into()),
            Op::Patch(patch) => Change::MergePatch(patch.into()),
            Op::Key(letter) => {
                Change::SetKey(format!("{}{letter}", record.key.as_deref().unwrap_or("")).into())
            }
            Op::Topic(topic) => Change::SetTopic(topic.into()),
            Op::Add(name, value) => Change::AddHeader(name.into(), value.into()),
            Op::Set(name, value) => Change::SetHeader(name.into(), value.into()),
            Op::Remove(name) => Change::RemoveHeader(name.into()),
            Op::Timestamp(Some(timestamp)) => Change::SetTimestamp(timestamp),
            Op::Timestamp(None) => Change::ClearTimestamp,
            Op::Emit(count) => {
                for index in 0..count {
                    let emitted = emitted(record, script, index);
                    delta.push(Change::Emit(Box::new(NewRecord {
                        topic: (index % 2 == 1).then(|| emitted.topic.into()),
                        key: emitted.key.map(Into::into),
                        value: emitted.value.into(),
                        headers: emitted.headers.into_iter().collect::<Headers>(),
                        timestamp: emitted.timestamp,
                    })));
                }
                continue;
            }
        });
    }
    delta
}
