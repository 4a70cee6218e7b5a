//! What survives: circuit breakers where an earlier configuration comes back, and trials where a shadow panics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_config::{LoadOptions, Loaded, load_text};
use etl_orchestrator::{
    ChangeOptions, CircuitState, FailureKind, Options, Orchestrator, Record, Reply, Transform,
    TransformError, TransformFor, View,
};

fn load(text: &str) -> Loaded {
    load_text("etl.toml", text, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{}", report.render(false)))
}

fn options(make: impl Fn(&str) -> Arc<dyn Transform> + Send + Sync + 'static) -> Options {
    let mut options = Options::default();
    options.lanes = Some(1);
    options.transforms = Some(TransformFor::new(move |usage| make(&usage.module_id)));
    options
}

const WITH_BREAKER: &str = r#"
[[pipelines]]
pipeline_id = "p"
error_handling = "SkipModule"
stages = [{ priority = 0, modules = [{ module_id = "m", circuit_breaker = { min_calls = 1, open_ms = 3600000 } }] }]
"#;

const WITHOUT: &str = r#"
[[pipelines]]
pipeline_id = "p"
stages = [{ priority = 0, modules = [{ module_id = "m" }] }]
"#;

#[test]
fn a_configuration_that_comes_back_brings_its_circuit_breakers() {
    let fails = || {
        let error = TransformError::new(FailureKind::Trap, "it traps");
        Arc::new(move |_: &View| Reply::Fail(error.clone()))
    };
    let orchestrator =
        Orchestrator::start(load(WITH_BREAKER), options(move |_| fails())).expect("good");
    let states = || -> Vec<CircuitState> {
        let circuits = orchestrator.stats().circuits;
        circuits.iter().map(|circuit| circuit.state).collect()
    };
    orchestrator
        .lane()
        .process(&Arc::new(Record::new("t", "x")));
    assert_eq!(states(), [CircuitState::Open]);
    orchestrator.reload(load(WITHOUT)).expect("good");
    assert_eq!(states(), []);
    orchestrator
        .roll_back(1, &ChangeOptions::default())
        .expect("it is kept");
    assert_eq!(states(), [CircuitState::Open]);
    // The same once more, from its file: nothing about the use has changed.
    orchestrator.reload(load(WITH_BREAKER)).expect("good");
    assert_eq!(states(), [CircuitState::Open]);
}

const SHADOW: &str = r#"
[[modules]]
id = "m"
canary = { path = "new.wasm", mode = "shadow", percent = 100, min_samples = 10, max_error_increase = 0.05 }

[[pipelines]]
pipeline_id = "p"
stages = [{ priority = 0, modules = [{ module_id = "m" }] }]
"#;

#[test]
fn a_shadow_that_panics_fails_for_its_record_and_its_trial_goes_on() {
    let orchestrator = Orchestrator::start(
        load(SHADOW),
        options(|module| {
            let is_shadow = module != "m";
            Arc::new(move |view: &View| {
                assert!(
                    !is_shadow || view.value() != "bad",
                    "the new version panics, as this test wants"
                );
                Reply::Value("seen".into())
            })
        }),
    )
    .expect("good");
    let mut lane = orchestrator.lane();
    let mut process = |value: &str| {
        let progress = lane.process(&Arc::new(Record::new("t", value.to_owned())));
        let outcome = progress.done().expect("nothing is deferred");
        assert_eq!(outcome.outputs[0].value(), "seen");
    };
    let canary = || orchestrator.canaries()[0].clone();
    let wait_until = |holds: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < deadline, "{:?}", canary());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    process("bad");
    process("good");
    wait_until(&|| canary().canary.records == 2);
    assert_eq!((canary().canary.failed, canary().different), (1, 1));
    assert!(canary().running);
    // It is judged like any that fails.
    for _ in 0..20 {
        process("bad");
    }
    wait_until(&|| orchestrator.generation() == 2);
    assert!(!canary().running);
}
