//! The naive merge of parallel modules: what each wrote compared with the stage's input, what collides, and who wins.

use etl_config::{MergePolicy, Pipeline, Stage};
use etl_orchestrator::FailureKind;
use serde_json::{Map, Value};

use crate::interpreter::{Expected, Family, Here, apply_all, failed, merged, take_back};
use crate::script::{Op, Plain};

/// What a module wrote, compared with the stage's input.
struct Wrote {
    module: String,
    value: Option<(Value, bool)>,
    text: String,
    key: Option<Option<String>>,
    topic: Option<String>,
    timestamp: Option<Option<i64>>,
    headers: Vec<(String, bool, Vec<String>)>,
}

pub fn merge(
    pipeline: &Pipeline,
    stage: &Stage,
    at: &mut Here,
    families: &mut [Family],
    expected: &mut Expected,
) {
    let input = at.record.clone();
    let written: Vec<Wrote> = at
        .written
        .iter()
        .filter_map(|(module, ops)| wrote(&input, module, ops))
        .collect();
    let mut conflicts = 0;
    for later in 1..written.len() {
        for earlier in 0..later {
            let count = conflicting(&input, &written[earlier], &written[later]);
            if count > 0 && stage.merge_policy == MergePolicy::Strict {
                take_back(at, families, expected);
                let module = written[later].module.clone();
                failed(
                    pipeline,
                    stage,
                    &module,
                    at,
                    FailureKind::InvalidOutput,
                    1,
                    families,
                    expected,
                );
                return;
            }
            conflicts += count;
        }
    }
    expected.conflicts += conflicts;
    for wrote in written {
        let record = &mut at.record;
        match &wrote.value {
            None => {}
            Some((_, false)) => record.value.clone_from(&wrote.text),
            Some((patch, true)) => {
                let seen = serde_json::from_str(&record.value)
                    .unwrap_or_else(|_| serde_json::from_str(&input.value).expect("JSON"));
                record.value = merged(&seen, patch).to_string();
            }
        }
        if let Some(key) = wrote.key {
            record.key = key;
        }
        if let Some(topic) = wrote.topic {
            record.topic = topic;
        }
        if let Some(timestamp) = wrote.timestamp {
            record.timestamp = timestamp;
        }
        for (name, only_added, values) in wrote.headers {
            let mut place = record.headers.len();
            if !only_added {
                place = record
                    .headers
                    .iter()
                    .position(|(other, _)| *other == name)
                    .unwrap_or(place);
                record.headers.retain(|(other, _)| *other != name);
                place = place.min(record.headers.len());
            }
            for value in values.into_iter().rev() {
                record.headers.insert(place, (name.clone(), value));
            }
        }
    }
}

fn of_name(record: &Plain, name: &str) -> Vec<String> {
    record
        .headers
        .iter()
        .filter(|(other, _)| other == name)
        .map(|(_, value)| value.clone())
        .collect()
}

fn wrote(input: &Plain, module: &str, ops: &[Op]) -> Option<Wrote> {
    let after = apply_all(input, ops).expect("checked when it was called");
    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
    let same_value = input.value == after.value
        || (json(&input.value).is_some()
            && json(&input.value) == json(&after.value)
            && !ops.iter().any(|op| matches!(op, Op::Value(_))));
    if same_value
        && (Plain {
            value: input.value.clone(),
            ..after.clone()
        }) == *input
    {
        return None;
    }
    let only_patches = !ops.iter().any(|op| matches!(op, Op::Value(_)));
    let value =
        (!same_value).then(
            || match (only_patches, json(&input.value), json(&after.value)) {
                (true, Some(before @ Value::Object(_)), Some(now @ Value::Object(_))) => {
                    (difference(&before, &now), true)
                }
                _ => (Value::Null, false),
            },
        );
    let mut names: Vec<String> = Vec::new();
    for op in ops {
        if let Op::Add(name, _) | Op::Set(name, _) | Op::Remove(name) = op
            && !names.contains(name)
        {
            names.push(name.clone());
        }
    }
    let headers = names.into_iter().filter_map(|name| {
        let (before, now) = (of_name(input, &name), of_name(&after, &name));
        let touches =
            |op: &&Op| matches!(op, Op::Set(other, _) | Op::Remove(other) if *other == name);
        let only_added = !ops.iter().any(|op| touches(&op));
        let values = if only_added {
            now[before.len()..].to_vec()
        } else {
            now.clone()
        };
        (before != now).then_some((name, only_added, values))
    });
    Some(Wrote {
        module: module.to_owned(),
        value,
        headers: headers.collect(),
        key: (after.key != input.key).then(|| after.key.clone()),
        topic: (after.topic != input.topic).then(|| after.topic.clone()),
        timestamp: (after.timestamp != input.timestamp).then_some(after.timestamp),
        text: after.value,
    })
}

/// The merge patch from one object to another.
fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return after.clone();
    };
    let mut patch = Map::new();
    for (key, old) in before {
        match after.get(key) {
            None => {
                patch.insert(key.clone(), Value::Null);
            }
            Some(new) if old == new => {}
            Some(new) => {
                patch.insert(key.clone(), difference(old, new));
            }
        }
    }
    for (key, new) in after {
        if !before.contains_key(key) {
            patch.insert(key.clone(), new.clone());
        }
    }
    Value::Object(patch)
}

fn collide(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => left
            .iter()
            .any(|(key, value)| right.get(key).is_some_and(|other| collide(value, other))),
        _ => left != right,
    }
}

fn conflicting(input: &Plain, earlier: &Wrote, later: &Wrote) -> u32 {
    let value = match (&earlier.value, &later.value) {
        (Some((left, true)), Some((right, true))) => collide(left, right),
        (Some((_, false)), Some((_, false))) => earlier.text != later.text,
        (Some((patch, true)), Some(_)) => {
            same_json(&later.text, &merged_text(input, patch)).is_none()
        }
        (Some(_), Some((patch, true))) => {
            same_json(&earlier.text, &merged_text(input, patch)).is_none()
        }
        _ => false,
    };
    let headers = later.headers.iter().filter(|(name, only_added, values)| {
        earlier
            .headers
            .iter()
            .any(|(other, other_added, other_values)| {
                other == name
                    && !(*only_added && *other_added)
                    && (only_added, values) != (other_added, other_values)
            })
    });
    let both = |left: bool| u32::from(left);
    both(value)
        + both(matches!((&earlier.key, &later.key), (Some(left), Some(right)) if left != right))
        + both(matches!((&earlier.topic, &later.topic), (Some(left), Some(right)) if left != right))
        + both(
            matches!((&earlier.timestamp, &later.timestamp), (Some(left), Some(right)) if left != right),
        )
        + u32::try_from(headers.count()).expect("few")
}

fn merged_text(input: &Plain, patch: &Value) -> Value {
    merged(
        &serde_json::from_str(&input.value).expect("a patch was written on JSON"),
        patch,
    )
}

fn same_json(text: &str, value: &Value) -> Option<()> {
    (serde_json::from_str::<Value>(text).ok().as_ref() == Some(value)).then_some(())
}
