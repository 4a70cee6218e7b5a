//! `conditions_three_fields`: three conditions on fields of a JSON payload of 256 B and of 4 KiB, the fields before or behind the others.
//!
//! Beside it, in turns, what else one would do: parse the payload with `serde_json` and look at the tree, or let `sonic-rs` find the three fields
//! without parsing the rest. Only the former has a target. Neither promises as much: conditions compare numbers exactly, and hold only where
//! all that precedes a field is well-formed.

use std::hint::black_box;

use etl_filter::conditions::{
    Condition, ConditionKind, ConditionScratch, ConditionSet, ConditionSetBuilder, GroupId,
    Operator, RecordView,
};
use etl_tests::bench::{Bench, Target};
use sonic_rs::{JsonValueTrait, PointerTree, pointer};

/// Runs the scenario.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let (set, group) = conditions()?;
    let tree = fields();
    let parse = |most| Target {
        ratio: Some(most),
        ..Target::default()
    };
    for (name, payload, target) in [
        ("256 B, fields first", payload(256, false), parse(0.25)),
        ("256 B, fields last", payload(256, true), parse(0.25)),
        ("4 KiB, fields first", payload(4096, false), parse(0.1)),
        ("4 KiB, fields last", payload(4096, true), Target::default()),
    ] {
        let mut scratch = ConditionScratch::new();
        let mut ours = || {
            scratch.begin_record(0);
            set.evaluate(group, black_box(&payload), &mut scratch)
        };
        let serde_json = || by_serde_json(black_box(&payload));
        let sonic_rs = || by_sonic_rs(black_box(&payload), &tree);
        if !(ours() && serde_json() && sonic_rs()) {
            return Err(format!(
                "{name}: the conditions hold, and one of the three does not say so"
            ));
        }
        for (rival, target) in [("serde_json", target), ("sonic-rs", Target::default())] {
            let other = || {
                let holds = if rival == "serde_json" {
                    serde_json()
                } else {
                    sonic_rs()
                };
                black_box(holds);
            };
            let subject = || {
                black_box(ours());
            };
            bench.beside(
                rival,
                &format!("{name}, beside {rival}"),
                target,
                subject,
                other,
            );
        }
    }
    Ok(())
}

/// The conditions on a payload of so many bytes, the fields last, as a call that says whether they hold.
pub fn evaluation(bytes: usize) -> Result<impl FnMut() -> bool, String> {
    let (set, group) = conditions()?;
    let payload = payload(bytes, true);
    let mut scratch = ConditionScratch::new();
    Ok(move || {
        scratch.begin_record(0);
        set.evaluate(group, black_box(&payload), &mut scratch)
    })
}

/// The condition that a field of this payload is greater than ten, as a call that says whether it holds.
pub fn one(field: &str, payload: &[u8]) -> Result<impl FnMut() -> bool, String> {
    let mut builder = ConditionSetBuilder::new();
    let group = builder.add(vec![Condition::new(
        ConditionKind::payload(field),
        Operator::GreaterThan,
        10,
    )]);
    let set = builder.build().map_err(|error| error.to_string())?;
    let payload = Payload(payload.to_vec());
    let mut scratch = ConditionScratch::new();
    let mut holds = move || {
        scratch.begin_record(0);
        set.evaluate(group, black_box(&payload), &mut scratch)
    };
    if holds() {
        Ok(holds)
    } else {
        Err("the condition does not hold".to_owned())
    }
}

struct Payload(Vec<u8>);

impl RecordView for Payload {
    fn header(&self, _name: &str) -> Option<&[u8]> {
        None
    }
    fn value(&self) -> &[u8] {
        &self.0
    }
    fn length(&self) -> usize {
        self.0.len()
    }
    fn timestamp(&self) -> Option<i64> {
        None
    }
}

/// A sensor's record of about `bytes` bytes: the three fields that conditions ask for, among and before others.
fn payload(bytes: usize, fields_last: bool) -> Payload {
    let wanted =
        r#""sensor":{"type":"seismometer","id":61345682},"magnitude":4.31,"status":"reviewed""#;
    let mut others = Vec::new();
    let mut length = wanted.len() + 2;
    while length < bytes {
        let n = others.len();
        let other = match n % 4 {
            0 => format!(r#""place{n}":"37km NNE of Amboy, Washington""#),
            1 => format!(r#""time{n}":1517363399650"#),
            2 => format!(r#""longitude{n}":-122.197"#),
            _ => format!(r#""tags{n}":["a","b",{{"deep":true}}]"#),
        };
        length += other.len() + 1;
        others.push(other);
    }
    let others = others.join(",");
    Payload(
        match (others.is_empty(), fields_last) {
            (true, _) => format!("{{{wanted}}}"),
            (false, false) => format!("{{{wanted},{others}}}"),
            (false, true) => format!("{{{others},{wanted}}}"),
        }
        .into_bytes(),
    )
}

fn conditions() -> Result<(ConditionSet, GroupId), String> {
    let mut builder = ConditionSetBuilder::new();
    let group = builder.add(vec![
        Condition::new(
            ConditionKind::payload("$.sensor.type"),
            Operator::Equals,
            "seismometer",
        ),
        Condition::new(
            ConditionKind::payload("$.magnitude"),
            Operator::GreaterThan,
            3,
        ),
        Condition::new(
            ConditionKind::payload("$.status"),
            Operator::NotEquals,
            "deleted",
        ),
    ]);
    let set = builder.build().map_err(|error| error.to_string())?;
    Ok((set, group))
}

/// Parses the whole payload, as most do.
fn by_serde_json(payload: &Payload) -> bool {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&payload.0) else {
        return false;
    };
    value["sensor"]["type"] == "seismometer"
        && value["magnitude"]
            .as_f64()
            .is_some_and(|magnitude| magnitude > 3.0)
        && value["status"] != "deleted"
}

fn fields() -> PointerTree {
    let mut tree = PointerTree::new();
    tree.add_path(pointer!["sensor", "type"].iter());
    tree.add_path(pointer!["magnitude"].iter());
    tree.add_path(pointer!["status"].iter());
    tree
}

/// Finds the three fields and skips the rest, checked.
fn by_sonic_rs(payload: &Payload, fields: &PointerTree) -> bool {
    let Ok(found) = sonic_rs::get_many(payload.0.as_slice(), fields) else {
        return false;
    };
    let [Some(kind), Some(magnitude), Some(status)] = found.as_slice() else {
        return false;
    };
    kind.as_str() == Some("seismometer")
        && magnitude.as_f64().is_some_and(|magnitude| magnitude > 3.0)
        && status.as_str() != Some("deleted")
}
