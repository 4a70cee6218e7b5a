//! Configurations that cannot be used: the whole message, word for word, and exit code 78, from `validate` and from `run`.

use crate::support::{Desk, KEEP, golden};

/// One pipeline of one stage with one module, and more for that module.
fn pipeline(module: &str) -> String {
    format!(
        r#"pipeline_id = "orders"
[[stages]]
priority = 0
[[stages.modules]]
module_id = "keep"
{module}
"#
    )
}

/// A desk with this configuration as `etl.toml`, and a module that works.
fn desk(configuration: &str) -> Desk {
    let desk = Desk::new();
    desk.put("etl.toml", configuration).module("keep", KEEP);
    desk
}

/// `validate` refuses it with the golden text, `validate --json` with as many problems, `run` with the same text and
/// without touching its output.
#[track_caller]
fn refused(name: &str, desk: &Desk) {
    let said = desk.etl(&["validate", "etl.toml"]).ends_with(78);
    golden(&format!("refused/{name}.txt"), &said.stderr);
    assert_eq!(said.stdout, "");

    let json = desk.etl(&["validate", "etl.toml", "--json"]).ends_with(78);
    let report: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let problems = report["problems"].as_array().expect("a list");
    assert!(report["errors"].as_u64().expect("a number") > 0);
    for problem in problems {
        assert!(
            problem["file"].is_string() && problem["message"].is_string(),
            "{problem}"
        );
    }
    assert_eq!(json.stderr, "");

    desk.put("in", "{\"topic\":\"t\"}\n").put("out", "precious");
    let run = desk
        .etl(&["run", "etl.toml", "--from", "file:in", "--to", "file:out"])
        .ends_with(78);
    assert_eq!(run.stderr, said.stderr);
    assert_eq!(desk.read("out"), "precious");
}

#[test]
fn a_missing_file() {
    refused("missing-file", &Desk::new());
}

#[test]
fn a_text_that_is_no_toml() {
    refused("syntax", &desk("pipeline_id = \"orders\"\nstages = [\n"));
}

#[test]
fn a_text_that_is_not_utf_8() {
    let desk = Desk::new();
    desk.put("etl.toml", b"pipeline_id = \"\xff\"\n");
    refused("not-utf-8", &desk);
}

#[test]
fn an_unknown_field_near_a_known_one() {
    refused(
        "unknown-field",
        &desk(&pipeline("instance_confg = { memory_limit_bytes = 1 }")),
    );
}

#[test]
fn a_wrong_type() {
    refused(
        "wrong-type",
        &desk(&pipeline(
            "instance_config = { execution_timeout_ms = \"fast\" }",
        )),
    );
}

#[test]
fn a_regular_expression_that_is_none() {
    refused(
        "invalid-regex",
        &desk(&pipeline(
            r#"topic_filters = [{ filter_type = "Regex", pattern = "^(web|mobile\\." }]"#,
        )),
    );
}

#[test]
fn patterns_of_brokers_that_are_none() {
    refused(
        "invalid-glob",
        &desk(&pipeline(
            r#"topic_filters = [
  { filter_type = "Mqtt", pattern = "sensors/#/raw" },
  { filter_type = "Nats", pattern = "orders.>.eu" },
]"#,
        )),
    );
}

#[test]
fn conditions_that_are_none() {
    refused(
        "invalid-conditions",
        &desk(&pipeline(
            r#"conditional_rules = [
  { condition_type = "PayloadField", field_path = "$.a[", operator = "Equals", value = 1 },
  { condition_type = "HeaderValue", field_path = "h", operator = "Matches", value = "(" },
]"#,
        )),
    );
}

#[test]
fn a_module_file_that_is_absent() {
    let desk = Desk::new();
    desk.put("etl.toml", pipeline(""));
    refused("module-absent", &desk);
}

#[test]
fn a_module_file_that_is_no_wasm() {
    let desk = Desk::new();
    desk.put("etl.toml", pipeline(""))
        .put("modules/keep.wasm", "#!/bin/sh\nexit 0\n");
    refused("not-wasm", &desk);
}

#[test]
fn a_module_without_the_exports() {
    let desk = Desk::new();
    desk.put("etl.toml", pipeline("")).module(
        "keep",
        r#"(module (func (export "transform") (param i32) (result i32) local.get 0))"#,
    );
    refused("no-exports", &desk);
}

#[test]
fn a_module_that_wants_what_there_is_not() {
    let desk = Desk::new();
    desk.put("etl.toml", pipeline("")).module(
        "keep",
        &KEEP.replace(
            "(module",
            r#"(module (import "env" "open_file" (func (param i32) (result i32)))"#,
        ),
    );
    refused("unknown-import", &desk);
}

#[test]
fn a_pin_that_differs() {
    let pin = "00".repeat(32);
    refused(
        "sha256-differs",
        &desk(&format!(
            r#"[[modules]]
id = "keep"
path = "modules/keep.wasm"
sha256 = "{pin}"

[[pipelines]]
pipeline_id = "orders"
[[pipelines.stages]]
priority = 0
modules = [{{ module_id = "keep" }}]
"#
        )),
    );
}

#[test]
fn a_pipeline_id_twice() {
    refused(
        "duplicate-pipeline",
        &desk(
            r#"[[pipelines]]
pipeline_id = "orders"
stages = [{ priority = 0, modules = [{ module_id = "keep" }] }]

[[pipelines]]
pipeline_id = "orders"
stages = [{ priority = 0, modules = [{ module_id = "keep" }] }]
"#,
        ),
    );
}

#[test]
fn a_variable_that_is_not_set() {
    refused(
        "undefined-variable",
        &desk(&pipeline(
            r#"topic_filters = [{ filter_type = "Prefix", pattern = "${REGION}." }]"#,
        )),
    );
}

#[test]
fn everything_at_once_in_one_report() {
    let desk = desk(
        r#"[[pipelines]]
pipeline_id = "orders"
stages = [
  { priority = 0, modules = [
    { module_id = "keep", topic_filters = [{ filter_type = "Regex", pattern = "(" }] },
    { module_id = "absent" },
    { module_id = "broken" },
  ] },
]
"#,
    );
    desk.put("modules/broken.wasm", "not wasm");
    refused("everything", &desk);
}

#[test]
fn warnings_are_shown_and_can_be_denied() {
    let desk = desk(&pipeline(
        r#"topic_filters = [{ filter_type = "Exact", pattern = "*" }]"#,
    ));
    let said = desk.etl(&["validate", "etl.toml"]).ends_with(0);
    golden("refused/warning.txt", &said.stderr);
    assert_eq!(said.stdout, "etl.toml: 1 pipeline, 1 module\n");
    let json = desk.etl(&["validate", "etl.toml", "--json"]).ends_with(0);
    let report: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(
        (&report["errors"], &report["warnings"]),
        (&0.into(), &1.into())
    );

    desk.etl(&["validate", "etl.toml", "--deny-warnings"])
        .ends_with(78);
    desk.put("in", "");
    let run = ["run", "etl.toml", "--from", "file:in", "--to", "file:out"];
    desk.etl(&run).ends_with(0);
    desk.etl(&[&run[..], &["--deny-warnings"]].concat())
        .ends_with(78);
}

/// A module that takes no configuration is given one: only its bytes tell.
#[test]
fn a_setting_without_an_effect_is_a_warning() {
    let desk = desk(&pipeline(
        "instance_config = { custom_config = { strict = true } }",
    ));
    let said = desk.etl(&["validate", "etl.toml"]).ends_with(0);
    golden("warned/no-effect.txt", &said.stderr);
    desk.put("in", "");
    let run = ["run", "etl.toml", "--from", "file:in", "--to", "file:out"];
    let ran = desk.etl(&run).ends_with(0);
    assert!(ran.stderr.starts_with(&said.stderr), "{}", ran.stderr);
    for command in [&["validate", "etl.toml"][..], &run] {
        desk.etl(&[command, &["--deny-warnings"]].concat())
            .ends_with(78);
    }
}

#[test]
fn modules_may_lie_elsewhere() {
    let desk = Desk::new();
    desk.put("etl.toml", pipeline("")).module("keep", KEEP);
    std::fs::rename(desk.path("modules"), desk.path("elsewhere")).expect("renames");
    desk.etl(&["validate", "etl.toml"]).ends_with(78);
    desk.etl(&["validate", "etl.toml", "--modules", "elsewhere"])
        .ends_with(0);
}
