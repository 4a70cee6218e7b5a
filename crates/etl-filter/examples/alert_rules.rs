//! Alert rules on JSON records: which rules does each reading of a sensor set off, and why not the others?
//!
//! `cargo run -p etl-filter --features conditions --example alert_rules`

use etl_filter::conditions::{
    BuildError, Condition, ConditionKind, ConditionScratch, ConditionSetBuilder, Operator,
    RecordView,
};

/// What an application has anyway; four methods make it a record.
struct Reading {
    headers: &'static [(&'static str, &'static str)],
    json: &'static str,
    received: i64,
}

impl RecordView for Reading {
    fn header(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.headers.iter().find(|(known, _)| *known == name)?;
        Some(value.as_bytes())
    }
    fn value(&self) -> &[u8] {
        self.json.as_bytes()
    }
    fn length(&self) -> usize {
        self.json.len()
    }
    fn timestamp(&self) -> Option<i64> {
        Some(self.received)
    }
}

fn main() -> Result<(), BuildError> {
    let celsius = || ConditionKind::payload("$.sensor.celsius");
    let mut builder = ConditionSetBuilder::new();
    let rules = [
        (
            "overheating",
            builder.add(vec![
                Condition::new(celsius(), Operator::GreaterThan, 90),
                // Calibration runs are hot on purpose.
                Condition::new(
                    ConditionKind::header("mode"),
                    Operator::Equals,
                    "calibration",
                )
                .negated(),
            ]),
        ),
        (
            "sensor in a cold store",
            builder.add(vec![
                Condition::new(celsius(), Operator::LessThan, -18),
                Condition::new(
                    ConditionKind::payload("$.sensor.place"),
                    Operator::Matches,
                    "^store-[0-9]+$",
                ),
            ]),
        ),
        (
            "any fault that is not minor",
            builder.add(vec![Condition::new(
                ConditionKind::payload("$.faults[?@.level != 'minor'].code"),
                Operator::GreaterThanOrEqual,
                100,
            )]),
        ),
        (
            "late",
            builder.add(vec![Condition::new(
                ConditionKind::MessageAge,
                Operator::GreaterThan,
                60_000,
            )]),
        ),
    ];
    let set = builder.build()?;
    // All rules are asked about every reading, so their fields are read together.
    let every_rule = set.select(&rules.map(|(_, group)| group));

    let now = 1_700_000_000_000;
    let readings = [
        Reading {
            headers: &[],
            json: r#"{"sensor": {"place": "boiler", "celsius": 93.5}}"#,
            received: now,
        },
        Reading {
            headers: &[("mode", "calibration")],
            json: r#"{"sensor": {"place": "boiler", "celsius": 120}}"#,
            received: now - 90_000,
        },
        Reading {
            headers: &[],
            json: r#"{"sensor": {"place": "store-7", "celsius": -21}, "faults": [{"code": 3, "level": "minor"}, {"code": 401, "level": "major"}]}"#,
            received: now,
        },
    ];

    let mut scratch = ConditionScratch::new();
    for reading in &readings {
        println!("{}", reading.json);
        scratch.begin_record(now);
        for (name, group) in rules {
            if set.evaluate_in(&every_rule, group, reading, &mut scratch) {
                println!("  ALERT {name}");
            } else if let Some((_, why)) = set.explain(group, reading, now).first_failure() {
                println!("        {name}: {why}");
            }
        }
    }
    let counts = scratch.counts();
    println!(
        "{} predicates evaluated, {} found nothing",
        counts.evaluated, counts.missing
    );
    Ok(())
}
