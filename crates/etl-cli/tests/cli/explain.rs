//! `etl explain`: what a topic selects, and what became of a record, for people and as JSON.

use crate::support::{Desk, KEEP, golden};

const CONFIGURATION: &str = r#"
[[pipelines]]
pipeline_id = "sensors"
name = "All that measures"

[[pipelines.stages]]
priority = 10
parallel_execution = true
[[pipelines.stages.modules]]
module_id = "three"
topic_filters = [{ filter_type = "Wildcard", pattern = "iot.*" }]
conditional_rules = [
  { condition_type = "PayloadField", field_path = "$.unit", operator = "Equals", value = "celsius" },
  { condition_type = "HeaderValue", field_path = "source", operator = "StartsWith", value = "web", negate = true },
]
[[pipelines.stages.modules]]
module_id = "keep"
topic_filters = [{ filter_type = "Exact", pattern = "iot.pressure" }]

[[pipelines.stages]]
priority = 0
modules = [{ module_id = "keep", topic_filters = [{ filter_type = "Prefix", pattern = "IOT.", case_sensitive = false }] }]

[[pipelines]]
pipeline_id = "broken"
order = 7
error_handling = "SendToDeadLetter"
stages = [{ priority = 0, modules = [{ module_id = "trap", topic_filters = [{ filter_type = "Suffix", pattern = ".trap" }] }] }]

[[pipelines]]
pipeline_id = "asleep"
enabled = false
stages = [{ priority = 0, modules = [{ module_id = "keep" }] }]
"#;

fn desk() -> Desk {
    let desk = Desk::new();
    let module = |body: &str| {
        format!(
            r#"(module (memory (export "memory") 16) (data (i32.const 900000) "\01\00\00\003") {body})"#
        )
    };
    desk.put("etl.toml", CONFIGURATION)
        .module("keep", KEEP)
        .module(
            "three",
            &module(
                r#"(func (export "transform") (param i32 i32) (result i32) (i32.const 900000))"#,
            ),
        )
        .module(
            "trap",
            &module(r#"(func (export "transform") (param i32 i32) (result i32) unreachable)"#),
        );
    desk
}

#[test]
fn a_topic() {
    let desk = desk();
    for topic in ["iot.temperature", "iot.pressure", "other"] {
        let said = desk
            .etl(&["explain", "etl.toml", "--topic", topic])
            .ends_with(0);
        golden(&format!("explain/{topic}.txt"), &said.stdout);
    }
    let said = desk
        .etl(&[
            "explain",
            "etl.toml",
            "--topic",
            "iot.temperature",
            "--json",
        ])
        .ends_with(0);
    golden("explain/iot.temperature.json", &said.stdout);
}

#[test]
fn a_record() {
    let desk = desk();
    let changed = r#"{"topic":"iot.temperature","headers":{"source":"probe"},"value":{"unit":"celsius","n":1e400}}"#;
    let not_selected =
        r#"{"topic":"iot.temperature","headers":{"source":"web-1"},"value":{"unit":"celsius"}}"#;
    let untouched = r#"{"topic":"other","value":1}"#;
    for (name, record) in [
        ("changed", changed),
        ("not-selected", not_selected),
        ("untouched", untouched),
    ] {
        desk.put("record", format!("\n{record}\n"));
        let said = desk
            .etl(&["explain", "etl.toml", "--record", "record"])
            .ends_with(0);
        golden(&format!("explain/{name}.txt"), &said.stdout);
    }
    desk.put("record", changed);
    let said = desk
        .etl(&["explain", "etl.toml", "--record", "record", "--json"])
        .ends_with(0);
    golden("explain/changed.json", &said.stdout);
}

#[test]
fn a_record_that_fails() {
    let arguments = [
        "explain",
        "etl.toml",
        "--record",
        "-",
        "--topic",
        "some.trap",
    ];
    let said = desk()
        .etl_with_input(&arguments, br#"{"topic":"elsewhere","value":1}"#)
        .ends_with(0);
    for part in [
        "topic some.trap\n",
        "step 1: broken, priority 0, trap: failed\n  Trap: ",
        "out\n  nothing\n\ndead letters\n  {\"topic\":\"some.trap.dlq\",",
    ] {
        assert!(
            said.stdout.contains(part),
            "no {part:?} in:\n{}",
            said.stdout
        );
    }
}

#[test]
fn what_cannot_be_explained() {
    let desk = desk();
    for (content, message) in [
        (None, "etl: cannot read record: No such file or directory"),
        (Some(""), "etl: record holds no record"),
        (
            Some("\n{}\n"),
            "etl: record:2: missing field `topic` (column 2)",
        ),
    ] {
        if let Some(content) = content {
            desk.put("record", content);
        }
        desk.etl(&["explain", "etl.toml", "--record", "record"])
            .ends_with(1)
            .complains(&[message]);
    }
    desk.put("etl.toml", "pipeline_id = 3");
    desk.etl(&["explain", "etl.toml", "--topic", "t"])
        .ends_with(78)
        .complains(&["etl.toml"]);
}
