//! A record that is only explained goes through the modules as any other, and leaves nothing behind: no count, no circuit and no trial moves, nothing is
//! said to have been dead-lettered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    CircuitState, Clock, FailureKind, Happened, Options, Orchestrator, Record, Reply,
    TransformError, TransformFor, View,
};

/// Modules that trap where the value is `bad`, and how often those whose id ends so were called.
fn start(text: &str, clock: Clock, counted: &'static str) -> (Arc<Orchestrator>, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let count = calls.clone();
    let mut options = Options::default();
    options.lanes = Some(1);
    options.clock = clock;
    options.transforms = Some(TransformFor::new(move |usage| {
        let count = usage.module_id.ends_with(counted).then(|| count.clone());
        Arc::new(move |view: &View| {
            if let Some(count) = &count {
                count.fetch_add(1, Ordering::SeqCst);
            }
            if view.value() == "bad" {
                return Reply::Fail(TransformError::new(FailureKind::Trap, "it trapped"));
            }
            Reply::Value("seen".into())
        })
    }));
    let loaded = load_text("etl.toml", text, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{}", report.render(false)));
    (Orchestrator::start(loaded, options).expect("good"), calls)
}

fn record(value: &'static str) -> Arc<Record> {
    Arc::new(Record::new("t", value))
}

#[test]
fn it_moves_no_circuit() {
    let text = r#"
        [[pipelines]]
        pipeline_id = "p"
        [[pipelines.stages]]
        priority = 0
        [[pipelines.stages.modules]]
        module_id = "m"
        circuit_breaker = { failure_rate = 0.5, window_ms = 10000, min_calls = 2, open_ms = 5000, half_open_probes = 1 }
        "#;
    let clock = Clock::manual();
    let (orchestrator, _) = start(text, clock.clone(), "m");
    let state = || orchestrator.stats().circuits[0].state;
    let explained = |value| {
        let (_, steps) = orchestrator.process_traced(&record(value));
        match &steps[..] {
            [step] => match &step.happened {
                Happened::Failed(error) => Some(error.kind()),
                _ => None,
            },
            steps => panic!("{steps:?}"),
        }
    };
    for _ in 0..10 {
        assert_eq!(explained("bad"), Some(FailureKind::Trap));
    }
    assert_eq!(state(), CircuitState::Closed);

    // It meets an open circuit like any other, and is no probe of one that may close.
    let mut lane = orchestrator.lane();
    for _ in 0..2 {
        lane.process(&record("bad")).done().expect("done");
    }
    assert_eq!(state(), CircuitState::Open);
    assert_eq!(explained("good"), Some(FailureKind::CircuitOpen));
    clock.advance(Duration::from_secs(5));
    assert_eq!(explained("good"), None);
    assert_eq!(explained("bad"), Some(FailureKind::Trap));
    assert_eq!(state(), CircuitState::Open, "still as it was");
    let probe = lane.process(&record("good")).done().expect("done");
    assert_eq!(probe.stopped, 0);
    assert_eq!(state(), CircuitState::Closed);
}

fn on_trial(mode: &str) -> String {
    format!(
        r#"
        [[modules]]
        id = "m"
        canary = {{ path = "new.wasm", {mode}, max_error_increase = 0.0, min_samples = 1 }}
        [[pipelines]]
        pipeline_id = "p"
        stages = [{{ priority = 0, modules = [{{ module_id = "m" }}] }}]
        "#
    )
}

#[test]
fn it_says_nothing_for_or_against_a_canary() {
    let text = on_trial("percent = 100");
    let (orchestrator, calls) = start(&text, Clock::system(), "@canary");
    for _ in 0..5 {
        let _ = orchestrator.process_traced(&record("bad"));
    }
    assert_eq!(
        calls.load(Ordering::SeqCst),
        5,
        "it meets what records meet"
    );
    let canary = &orchestrator.canaries()[0];
    assert_eq!((canary.canary.records, canary.canary.failed), (0, 0));
    assert!(canary.running);
}

#[test]
fn it_is_not_shown_to_a_shadow() {
    let text = on_trial("percent = 100, mode = \"shadow\"");
    let (orchestrator, calls) = start(&text, Clock::system(), "@canary");
    for _ in 0..5 {
        let _ = orchestrator.process_traced(&record("bad"));
    }
    assert_eq!(orchestrator.canaries()[0].stable.records, 0);
    // Whatever is shown to the shadow is shown in order.
    orchestrator
        .lane()
        .process(&record("good"))
        .done()
        .expect("done");
    let until = Instant::now() + Duration::from_secs(30);
    while orchestrator.canaries()[0].canary.records == 0 {
        assert!(Instant::now() < until, "the shadow saw nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
