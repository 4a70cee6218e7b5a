//! `conditions_three_fields`: three conditions on fields of a JSON payload, beside parsing it with `serde_json`.
//!
//! Both sides take turns in one run, so that a busy machine slows both. Each figure is the median of the turns; the ratio is
//! of the medians.

use std::hint::black_box;
use std::time::Instant;

use etl_filter::conditions::{
    Condition, ConditionKind, ConditionScratch, ConditionSet, ConditionSetBuilder, GroupId,
    Operator, RecordView,
};

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

fn conditions() -> (ConditionSet, GroupId) {
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
    (builder.build().expect("the conditions compile"), group)
}

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

const TURNS: usize = 101;
const CALLS: u32 = 2_000;

fn turn(mut call: impl FnMut() -> bool) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        assert!(black_box(call()));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let (set, group) = conditions();
    let mut scratch = ConditionScratch::new();
    println!("payload                 bytes  conditions  serde_json   ratio");
    for (name, payload) in [
        ("256 B, fields first", payload(256, false)),
        ("256 B, fields last", payload(256, true)),
        ("4 KiB, fields first", payload(4096, false)),
        ("4 KiB, fields last", payload(4096, true)),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            ours.push(turn(|| {
                scratch.begin_record(0);
                set.evaluate(group, black_box(&payload), &mut scratch)
            }));
            theirs.push(turn(|| by_serde_json(black_box(&payload))));
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{name:<22} {:>6} {ours:>8.0} ns {theirs:>8.0} ns {:>6.1}×",
            payload.0.len(),
            theirs / ours
        );
    }
}
