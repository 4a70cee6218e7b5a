//! Configurations that only building finds wrong, and real modules from files, over reloads.

use std::path::Path;
use std::sync::Arc;

use etl_config::{LoadOptions, Loaded, Report, load};
use etl_orchestrator::{FailureKind, Options, Orchestrator, Progress, Record};

/// A v1 module that answers for every frame what the frame `answer` says; empty keeps every record.
fn module(answer: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
            (memory (export "memory") 2)
            (func (export "etl_alloc_v1") (param i32) (result i32) i32.const 65536)
            (func (export "etl_process_v1") (param i32 i32) (result i64) {answer}))"#
    ))
    .expect("WAT")
}

/// Keeps every record.
fn keep() -> Vec<u8> {
    module("i64.const 0")
}

/// Traps.
fn trap() -> Vec<u8> {
    module("unreachable")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        std::fs::create_dir(folder.path().join("modules")).expect("a folder");
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn module(&self, id: &str, bytes: &[u8]) {
        std::fs::write(
            self.path().join("modules").join(format!("{id}.wasm")),
            bytes,
        )
        .expect("written");
    }

    fn load(&self, text: &str) -> Loaded {
        let path = self.path().join("etl.toml");
        std::fs::write(&path, text).expect("written");
        load(&path, &LoadOptions::isolated())
            .unwrap_or_else(|report| panic!("{}", report.render(false)))
    }
}

fn told(report: &Report) -> Vec<(String, String)> {
    report
        .problems()
        .iter()
        .map(|problem| (problem.path().to_string(), problem.message().to_owned()))
        .collect()
}

#[test]
fn everything_that_is_wrong_is_in_one_report() {
    let folder = Folder::new();
    folder.module("good", &keep());
    folder.module("pinned", &keep());
    folder.module("text", b"this is not wasm");
    folder.module("bare", &wat::parse_str("(module)").expect("WAT"));
    let loaded = folder.load(
        r#"
        [[modules]]
        id = "pinned"
        sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

        [[pipelines]]
        pipeline_id = "p"

        [[pipelines.stages]]
        priority = 0
        modules = [
          { module_id = "good", topic_filters = [{ filter_type = "Regex", pattern = "logs\\.(" }] },
          { module_id = "good", conditional_rules = [
            { condition_type = "PayloadField", field_path = "$.a[", operator = "Equals", value = 1 },
            { condition_type = "HeaderValue", field_path = "h", operator = "Matches", value = "[" },
            { condition_type = "PayloadField", field_path = "$[?match(@, 'a{999}{999}')]", operator = "Equals", value = 1 },
            { condition_type = "HeaderValue", field_path = "h", operator = "Matches", value = "a{999}{999}" },
          ] },
          { module_id = "absent" },
          { module_id = "absent" },
          { module_id = "pinned" },
          { module_id = "text" },
          { module_id = "bare" },
        ]

        [[pipelines]]
        pipeline_id = "disabled"
        enabled = false
        memory_budget_bytes = 65536

        [[pipelines.stages]]
        priority = 0
        modules = [{ module_id = "good", topic_filters = [{ filter_type = "Regex", pattern = "*" }] }]
        "#,
    );
    let report = Orchestrator::check(&loaded).expect_err("nearly everything is wrong");
    let told = told(&report);
    let modules = "pipelines[0].stages[0].modules";
    let paths: Vec<&str> = told.iter().map(|(path, _)| path.as_str()).collect();
    for expected in [
        format!("{modules}[0].topic_filters[0].pattern"),
        format!("{modules}[1].conditional_rules[0].field_path"),
        format!("{modules}[1].conditional_rules[1].value"),
        format!("{modules}[1].conditional_rules[2].field_path"),
        format!("{modules}[1].conditional_rules[3].value"),
        format!("{modules}[2]"),
        "modules[0].sha256".to_owned(),
        format!("{modules}[5]"),
        format!("{modules}[6]"),
        "pipelines[1].memory_budget_bytes".to_owned(),
        "pipelines[1].stages[0].modules[0].topic_filters[0].pattern".to_owned(),
    ] {
        assert!(
            paths.iter().any(|path| path.starts_with(&expected)),
            "nothing at {expected} in {told:#?}"
        );
    }
    assert_eq!(told.len(), 11, "each once: {told:#?}");
    let absent = told
        .iter()
        .find(|(_, message)| message.contains("`absent`"))
        .expect("said");
    assert!(absent.1.contains("absent.wasm"), "{absent:?}");
    let regex = report.problems().iter().find(|problem| {
        problem
            .path()
            .to_string()
            .ends_with("[0].topic_filters[0].pattern")
    });
    let regex = regex.expect("said");
    assert_eq!(regex.line(), Some(12), "{regex}");
    assert!(regex.column() > Some(80), "inside the pattern: {regex}");
}

#[test]
fn a_module_runs_from_its_file_and_a_trap_is_a_trap() {
    let folder = Folder::new();
    folder.module("keep", &keep());
    folder.module("trap", &trap());
    let loaded = folder.load(
        r#"
        [[pipelines]]
        pipeline_id = "p"
        error_handling = "SendToDeadLetter"
        stages = [
          { priority = 0, modules = [{ module_id = "keep" }] },
          { priority = 1, modules = [{ module_id = "trap", topic_filters = [{ filter_type = "Exact", pattern = "bad" }] }] },
        ]
        "#,
    );
    let orchestrator = Orchestrator::start(loaded, Options::default())
        .unwrap_or_else(|report| panic!("{}", report.render(false)));
    let good = Arc::new(Record::new("good", "1"));
    let bad = Arc::new(Record::new("bad", "2"));
    let mut lane = orchestrator.lane();
    let Progress::Done(outcome) = lane.process(&good) else {
        panic!("nothing to wait for")
    };
    assert!(Arc::ptr_eq(&outcome.outputs[0].to_record(), &good));
    let Progress::Done(outcome) = lane.process(&bad) else {
        panic!("nothing to wait for")
    };
    assert!(outcome.outputs.is_empty());
    let letter = &outcome.dead_letters[0];
    assert_eq!(
        (letter.kind(), &*letter.record.topic),
        (FailureKind::Trap, "bad.dlq")
    );
    assert_eq!(
        letter
            .record
            .headers
            .first("etl-dlq-module-sha256")
            .map(<[u8]>::len),
        Some(64)
    );
    let counts = orchestrator.stats().counts;
    assert_eq!(counts.modules["trap"].errors(FailureKind::Trap), 1);
    assert_eq!(counts.modules["keep"].kept, 2);
    assert_eq!(counts.pipelines["p"].dead_lettered, 1);
}

#[test]
fn a_reload_takes_new_bytes_and_keeps_warm_what_is_the_same() {
    let folder = Folder::new();
    folder.module("same", &keep());
    folder.module("changes", &keep());
    let text = r#"
        [engine]
        lanes = 1
        [instance_pool]
        warmup_instances = 1
        [[pipelines]]
        pipeline_id = "p"
        error_handling = "StopPipeline"
        stages = [{ priority = 0, modules = [{ module_id = "same" }, { module_id = "changes" }] }]
        "#;
    let orchestrator = Orchestrator::start(folder.load(text), Options::default()).expect("good");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let process = || {
        runtime
            .block_on(orchestrator.process(Arc::new(Record::new("t", "1"))))
            .expect("running")
    };
    assert_eq!(process().stopped, 0);
    assert_eq!(orchestrator.stats().instances, 2);

    folder.module("changes", &trap());
    assert_eq!(orchestrator.reload(folder.load(text)).expect("good"), 2);
    assert_eq!(process().stopped, 1);
    assert_eq!(orchestrator.generation(), 2);

    folder.module("changes", b"rubbish");
    let report = orchestrator
        .reload(folder.load(text))
        .expect_err("not a module");
    assert_eq!(report.problems().len(), 1);
    assert_eq!(orchestrator.generation(), 2, "nothing has changed");
    assert_eq!(process().stopped, 1);

    folder.module("changes", &keep());
    assert_eq!(
        orchestrator
            .reload(folder.load(&text.replace("lanes = 1", "lanes = 3")))
            .expect("good"),
        3
    );
    assert_eq!(orchestrator.lanes(), 3);
    assert_eq!(process().stopped, 0);
    assert_eq!(orchestrator.reload(folder.load(text)).expect("good"), 4);
    assert_eq!(orchestrator.lanes(), 1);
    assert_eq!(process().stopped, 0);
    let stats = orchestrator.stats();
    assert_eq!((stats.reloads, stats.reloads_refused), (3, 1));
    runtime.block_on(orchestrator.shutdown());
}
