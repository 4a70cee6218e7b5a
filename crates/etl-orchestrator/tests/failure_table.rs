//! The table of failures, cell by cell: each strategy, with and without `continue_on_error`, with each kind of failure, one that a retry may cure and one that none will,
//! in sequential and parallel stages, alone, in a batch and on the engine's own lanes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    Change, Clock, Delta, FailureKind, Headers, Options, Orchestrator, Outcome, Progress, Record,
    Reply, TransformError, TransformFor, View,
};

const RETRIES: u32 = 2;

#[derive(Clone, Copy, Debug)]
struct Cell {
    strategy: &'static str,
    continues: bool,
    kind: FailureKind,
    retryable: bool,
    parallel: bool,
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for strategy in [
        "StopPipeline",
        "SkipModule",
        "RetryWithBackoff",
        "SendToDeadLetter",
    ] {
        for kind in FailureKind::ALL {
            for bits in 0..8 {
                cells.push(Cell {
                    strategy,
                    continues: bits & 1 > 0,
                    kind,
                    retryable: bits & 2 > 0,
                    parallel: bits & 4 > 0,
                });
            }
        }
    }
    cells
}

/// Marks the record, or fails where it is bad.
fn module(name: &str, cell: Cell, view: &View) -> Reply {
    if name == "fail" {
        if view.value() != "bad" {
            return Reply::Keep;
        }
        let error = TransformError::new(cell.kind, format!("a made-up {}", cell.kind));
        return Reply::Fail(error.retryable(cell.retryable));
    }
    Reply::Change(Delta::from_iter([Change::AddHeader(
        "path".into(),
        name.to_owned().into(),
    )]))
}

fn start(cell: Cell, clock: &Clock) -> Arc<Orchestrator> {
    let Cell {
        strategy,
        continues,
        parallel,
        ..
    } = cell;
    let text = format!(
        r#"
        [[pipelines]]
        pipeline_id = "p"
        error_handling = "{strategy}"
        max_retries = {RETRIES}
        [[pipelines.stages]]
        priority = 3
        modules = [{{ module_id = "a" }}]
        [[pipelines.stages]]
        priority = 7
        parallel_execution = {parallel}
        continue_on_error = {continues}
        modules = [{{ module_id = "b" }}, {{ module_id = "fail" }}, {{ module_id = "c" }}]
        "#
    );
    let loaded = load_text("etl.toml", &text, &LoadOptions::isolated()).expect("it loads");
    let mut options = Options::default();
    options.lanes = Some(2);
    options.clock = clock.clone();
    options.transforms = Some(TransformFor::new(move |usage| {
        let name = usage.module_id.clone();
        Arc::new(move |view: &View| module(&name, cell, view))
    }));
    Orchestrator::start(loaded, options).expect("good")
}

fn records() -> Vec<Arc<Record>> {
    ["good", "bad", "fine"]
        .into_iter()
        .zip(40..)
        .map(|(value, offset)| {
            Arc::new(Record {
                offset,
                partition: 1,
                headers: Headers::from_iter([("own", "x")]),
                ..Record::new("t", value)
            })
        })
        .collect()
}

fn path(headers: &Headers) -> Vec<String> {
    headers
        .all("path")
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

fn check(cell: Cell, way: &str, records: &[Arc<Record>], outcomes: &[Outcome]) {
    let told = format!("{cell:?} {way}: {outcomes:?}");
    assert_eq!(outcomes.len(), 3, "{told}");
    for (record, outcome) in records.iter().zip(outcomes) {
        if record.value == "bad" {
            check_bad(cell, record, outcome, &told);
            continue;
        }
        assert_eq!(
            path(outcome.outputs[0].headers()),
            ["a", "b", "c"],
            "{told}"
        );
        assert_eq!(
            (outcome.skipped, outcome.stopped, outcome.retries),
            (0, 0, 0),
            "{told}"
        );
        assert!(outcome.dead_letters.is_empty(), "{told}");
    }
}

/// What the page says of the cell.
fn check_bad(cell: Cell, record: &Arc<Record>, outcome: &Outcome, told: &str) {
    let retries = match cell.strategy {
        "RetryWithBackoff" if cell.retryable => RETRIES,
        _ => 0,
    };
    assert_eq!(outcome.retries, retries, "{told}");
    let skipped = cell.continues || cell.strategy == "SkipModule";
    assert_eq!(outcome.skipped, u32::from(skipped), "{told}");
    let is_sent = cell.strategy == "SendToDeadLetter";
    let stopped = !skipped && !is_sent;
    assert_eq!(outcome.stopped, u32::from(stopped), "{told}");
    match &outcome.outputs[..] {
        [output] if skipped => assert_eq!(path(output.headers()), ["a", "b", "c"], "{told}"),
        [output] if stopped => assert!(Arc::ptr_eq(&output.to_record(), record), "{told}"),
        [] => assert!(is_sent && !skipped, "{told}"),
        _ => panic!("{told}"),
    }
    assert_eq!(outcome.dead_letters.len(), usize::from(is_sent), "{told}");
    let Some(letter) = outcome.dead_letters.first() else {
        return;
    };
    assert_eq!((letter.kind(), letter.copy), (cell.kind, skipped), "{told}");
    let sent = &letter.record;
    assert_eq!(
        (&*sent.topic, &*sent.value),
        ("t.dlq", b"bad".as_slice()),
        "{told}"
    );
    // As the failing module saw it: in a parallel stage that is the stage's input.
    let seen = if cell.parallel {
        vec!["a"]
    } else {
        vec!["a", "b"]
    };
    assert_eq!(path(&sent.headers), seen, "{told}");
    let header = |name: &str| {
        let value = sent.headers.first(name);
        String::from_utf8_lossy(value.unwrap_or_else(|| panic!("no {name}: {told}"))).into_owned()
    };
    let message = format!("a made-up {}", cell.kind);
    for (name, expected) in [
        ("own", "x"),
        ("etl-dlq-topic", "t"),
        ("etl-dlq-partition", "1"),
        ("etl-dlq-offset", "41"),
        ("etl-dlq-pipeline", "p"),
        ("etl-dlq-stage", "7"),
        ("etl-dlq-module", "fail"),
        ("etl-dlq-generation", "1"),
        ("etl-dlq-error", cell.kind.name()),
        ("etl-dlq-message", &message),
        ("etl-dlq-attempts", "1"),
    ] {
        assert_eq!(header(name), expected, "{told}");
    }
    assert!(header("etl-dlq-failed-at").parse::<i64>().is_ok(), "{told}");
    assert_eq!(header("etl-dlq-trace"), letter.trace, "{told}");
}

#[test]
fn every_cell_does_what_the_table_says() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let cells = cells();
    assert_eq!(cells.len(), 4 * 7 * 8);
    for cell in cells {
        let clock = Clock::manual();
        let orchestrator = start(cell, &clock);
        let mut lane = orchestrator.lane();
        let records = records();
        let mut alone = Vec::new();
        for record in &records {
            let mut progress = lane.process(record);
            while let Progress::Deferred(deferred) = progress {
                progress = lane.resume(deferred);
            }
            alone.extend(progress.done());
        }
        check(cell, "alone", &records, &alone);
        let mut together = Vec::new();
        for mut progress in lane.process_batch(&records) {
            while let Progress::Deferred(deferred) = progress {
                progress = lane.resume(deferred);
            }
            together.extend(progress.done());
        }
        check(cell, "in a batch", &records, &together);
        let stop = AtomicBool::new(false);
        let given = std::thread::scope(|scope| {
            scope.spawn(|| {
                // Retries wait by a clock that somebody has to move.
                while !stop.load(Ordering::Relaxed) {
                    clock.advance(Duration::from_millis(50));
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            let given = runtime.block_on(orchestrator.process_batch(records.clone()));
            stop.store(true, Ordering::Relaxed);
            given.expect("running")
        });
        check(cell, "by own lanes", &records, &given);
    }
}

/// Each of a great many records is undone for itself, at no more cost than a few would be.
#[test]
fn any_number_of_records_may_fail_together() {
    let text = r#"
        [engine]
        max_emitted_per_record = 100000
        [[pipelines]]
        pipeline_id = "a"
        stages = [{ priority = 0, modules = [{ module_id = "emit" }] }]
        [[pipelines]]
        pipeline_id = "b"
        error_handling = "StopPipeline"
        stages = [{ priority = 0, modules = [{ module_id = "mark" }, { module_id = "fail" }] }]
        "#;
    const EMITTED: usize = 99_999;
    let mut options = Options::default();
    options.lanes = Some(1);
    options.transforms = Some(TransformFor::new(|usage| {
        let name = usage.module_id.clone();
        Arc::new(move |_: &View| match name.as_str() {
            "emit" => Reply::Change(Delta::from_iter(vec![
                Change::Emit(Box::default());
                EMITTED
            ])),
            "mark" => Reply::Value("marked".into()),
            _ => Reply::Fail(TransformError::new(FailureKind::Trap, "it trapped")),
        })
    }));
    let loaded = load_text("etl.toml", text, &LoadOptions::isolated()).expect("it loads");
    let orchestrator = Orchestrator::start(loaded, options).expect("good");
    let progress = orchestrator
        .lane()
        .process(&Arc::new(Record::new("t", "x")));
    let outcome = progress.done().expect("done");
    assert_eq!(outcome.stopped as usize, EMITTED + 1);
    assert_eq!(outcome.outputs.len(), EMITTED + 1);
    assert_eq!(outcome.outputs[0].value(), "x");
    assert!(
        outcome.outputs[1..]
            .iter()
            .all(|output| output.value().is_empty())
    );
}
