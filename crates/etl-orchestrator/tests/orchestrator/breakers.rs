//! Circuit breakers, across calls and reloads.

use super::*;

#[test]
fn a_circuit_opens_and_closes_and_survives_a_reload() {
    let text = r#"
        [[pipelines]]
        pipeline_id = "p"
        error_handling = "SendToDeadLetter"
        [[pipelines.stages]]
        priority = 0
        [[pipelines.stages.modules]]
        module_id = "sick"
        circuit_breaker = { failure_rate = 0.5, window_ms = 10000, min_calls = 4, open_ms = 5000, half_open_probes = 2 }
        "#;
    let well = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let clock = Clock::manual();
    let (is_well, counted) = (well.clone(), calls.clone());
    let mut options = options(1, move |_| {
        let (well, calls) = (is_well.clone(), counted.clone());
        Arc::new(move |_: &View| {
            calls.fetch_add(1, Ordering::SeqCst);
            if well.load(Ordering::SeqCst) {
                Reply::Keep
            } else {
                Reply::Fail(TransformError::new(FailureKind::Trap, "ill"))
            }
        })
    });
    options.clock = clock.clone();
    let orchestrator = Orchestrator::start(load(text), options).expect("good");
    let mut lane = orchestrator.lane();
    let mut kind = || {
        let Progress::Done(outcome) = lane.process(&record("t", 0, 0)) else {
            panic!("nothing to wait for")
        };
        outcome
            .dead_letters
            .first()
            .map(etl_orchestrator::DeadLetter::kind)
    };
    let state = || orchestrator.stats().circuits[0].state;
    for _ in 0..4 {
        assert_eq!(kind(), Some(FailureKind::Trap));
    }
    assert_eq!(state(), CircuitState::Open);
    assert_eq!(kind(), Some(FailureKind::CircuitOpen));
    assert_eq!(
        calls.load(Ordering::SeqCst),
        4,
        "an open circuit calls nothing"
    );
    orchestrator.reload(load(text)).expect("good");
    assert_eq!(
        state(),
        CircuitState::Open,
        "the same settings: the same breaker"
    );
    assert_eq!(kind(), Some(FailureKind::CircuitOpen));
    clock.advance(Duration::from_secs(5));
    well.store(true, Ordering::SeqCst);
    assert_eq!(kind(), None);
    assert_eq!(state(), CircuitState::HalfOpen);
    assert_eq!(kind(), None);
    assert_eq!(state(), CircuitState::Closed);
    orchestrator
        .reload(load(&text.replace("min_calls = 4", "min_calls = 5")))
        .expect("good");
    assert_eq!(state(), CircuitState::Closed);
}

/// Both records of a family want the module, one of them is let through, and the refusal of the other undoes both.
#[test]
fn leave_that_an_open_circuit_gave_in_vain_comes_back() {
    let text = r#"
        [[pipelines]]
        pipeline_id = "p"
        error_handling = "StopPipeline"
        [[pipelines.stages]]
        priority = 0
        modules = [{ module_id = "twice" }]
        [[pipelines.stages]]
        priority = 1
        [[pipelines.stages.modules]]
        module_id = "sick"
        circuit_breaker = { failure_rate = 0.5, window_ms = 10000, min_calls = 2, open_ms = 5000, half_open_probes = 1 }
        "#;
    let well = Arc::new(AtomicBool::new(false));
    let clock = Clock::manual();
    let is_well = well.clone();
    let mut options = options(1, move |id| {
        let (well, is_twice) = (is_well.clone(), id == "twice");
        Arc::new(move |view: &View| {
            if is_twice && view.original().offset == 2 {
                Reply::Change(Delta::from_iter([Change::Emit(Box::default())]))
            } else if is_twice || well.load(Ordering::SeqCst) {
                Reply::Keep
            } else {
                Reply::Fail(TransformError::new(FailureKind::Trap, "ill"))
            }
        })
    });
    options.clock = clock.clone();
    let orchestrator = Orchestrator::start(load(text), options).expect("good");
    let mut lane = orchestrator.lane();
    let mut stopped = |offset| {
        let progress = lane.process(&record("t", 0, offset));
        progress.done().expect("nothing to wait for").stopped
    };
    let state = || orchestrator.stats().circuits[0].state;
    assert_eq!((stopped(1), stopped(1)), (1, 1));
    assert_eq!(state(), CircuitState::Open);
    clock.advance(Duration::from_secs(5));
    well.store(true, Ordering::SeqCst);
    assert_eq!(stopped(2), 1, "one of two is not let through");
    assert_eq!(state(), CircuitState::HalfOpen);
    assert_eq!(stopped(1), 0, "the one probe has still to be made");
    assert_eq!(state(), CircuitState::Closed);
}

/// A call that panics is a failure like any other: leave to probe does not stay with it.
#[test]
fn a_probe_that_panics_opens_the_circuit_again() {
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
    let mut options = options(1, |_| {
        Arc::new(|view: &View| {
            assert!(view.value() != "panic", "as this test wants");
            if view.value() == "bad" {
                return Reply::Fail(TransformError::new(FailureKind::Trap, "it trapped"));
            }
            Reply::Keep
        })
    });
    options.clock = clock.clone();
    let orchestrator = Orchestrator::start(load(text), options).expect("good");
    let runtime = runtime();
    let process = |value: &'static str| {
        let record = Arc::new(Record::new("t", value));
        runtime.block_on(orchestrator.process(record)).is_ok()
    };
    let state = || orchestrator.stats().circuits[0].state;
    assert!(process("bad") && process("bad"));
    assert_eq!(state(), CircuitState::Open);
    clock.advance(Duration::from_secs(5));
    assert!(!process("panic"), "the lane broke, and says so");
    assert_eq!(state(), CircuitState::Open);
    clock.advance(Duration::from_secs(5));
    assert!(process("good"));
    assert_eq!(state(), CircuitState::Closed);
}
