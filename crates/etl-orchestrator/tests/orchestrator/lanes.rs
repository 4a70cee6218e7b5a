//! Lanes of the orchestrator's own: ended, drained, broken; and what one explains.

use super::*;

#[test]
fn a_lane_that_has_to_end_while_it_works_can_be_wanted_again() {
    let text = |lanes: usize| {
        load(&format!(
            r#"
            engine = {{ lanes = {lanes} }}
            [[pipelines]]
            pipeline_id = "p"
            stages = [{{ priority = 0, modules = [{{ module_id = "m" }}] }}]
            "#
        ))
    };
    let door = Arc::new(Door::default());
    let at_door = door.clone();
    let mut options = options(2, move |_| {
        let door = at_door.clone();
        Arc::new(move |_: &View| {
            if std::thread::current().name() == Some("etl-lane-1") {
                door.pass();
            }
            Reply::Keep
        })
    });
    options.lanes = None;
    let orchestrator = Orchestrator::start(text(2), options).expect("good");
    let mut submitted = Vec::new();
    while door.waiting.load(Ordering::SeqCst) == 0 {
        let partition = u32::try_from(submitted.len()).expect("few");
        let record = record("t", partition, 0);
        submitted.push(orchestrator.try_process(&record).expect("there is room"));
        std::thread::sleep(Duration::from_millis(1));
    }
    orchestrator.reload(text(1)).expect("good");

    let (done, is_done) = std::sync::mpsc::channel();
    let (reloading, wanted) = (orchestrator.clone(), text(2));
    std::thread::spawn(move || {
        let generation = reloading.reload(wanted).expect("good");
        done.send(generation).expect("somebody waits");
    });
    // It waits for the lane, whose record is not finished.
    let early = is_done.recv_timeout(Duration::from_millis(200));
    assert_eq!(early.ok(), None);
    door.open();
    let generation = is_done.recv_timeout(Duration::from_secs(20));
    assert_eq!(generation, Ok(3), "the lane neither ended nor went on");
    assert_eq!(orchestrator.lanes(), 2);
    runtime().block_on(async {
        for outcome in submitted {
            assert_eq!(outcome.await.expect("handled").outputs.len(), 1);
        }
        orchestrator.shutdown().await;
    });
}

#[test]
fn shutdown_finishes_what_was_taken_and_takes_no_more() {
    let text = r#"
        [[pipelines]]
        pipeline_id = "p"
        error_handling = "RetryWithBackoff"
        stages = [{ priority = 0, modules = [{ module_id = "twice" }] }]
        "#;
    let orchestrator = Orchestrator::start(
        load(text),
        options(2, |_| {
            let seen: Mutex<HashMap<u64, u32>> = Mutex::default();
            Arc::new(move |view: &View| {
                let mut seen = seen.lock().expect("not poisoned");
                let count = seen.entry(view.original().offset).or_default();
                *count += 1;
                if *count == 1 {
                    Reply::Fail(TransformError::new(FailureKind::PoolExhausted, "later"))
                } else {
                    Reply::Keep
                }
            })
        }),
    )
    .expect("good");
    runtime().block_on(async {
        let taken: Vec<_> = (0..20)
            .map(|offset| {
                orchestrator
                    .try_process(&record("t", 0, offset))
                    .expect("room")
            })
            .collect();
        orchestrator.shutdown().await;
        for outcome in taken {
            let outcome = outcome.await.expect("finished");
            assert_eq!((outcome.outputs.len(), outcome.retries), (1, 1));
        }
        let closed = orchestrator
            .process(record("t", 0, 99))
            .await
            .expect_err("closed");
        assert_eq!(closed.kind(), ProcessErrorKind::Closed);
    });
}

#[test]
fn a_lane_that_breaks_tells_whom_it_concerns_and_goes_on() {
    let text = r#"
        [[pipelines]]
        pipeline_id = "p"
        stages = [{ priority = 0, modules = [{ module_id = "bomb" }] }]
        "#;
    let orchestrator = Orchestrator::start(
        load(text),
        options(1, |_| {
            Arc::new(|view: &View| {
                assert!(view.value() != "7", "a bug in a transform");
                Reply::Keep
            })
        }),
    )
    .expect("good");
    runtime().block_on(async {
        let broken = orchestrator
            .process(record("t", 0, 7))
            .await
            .expect_err("it broke");
        assert_eq!(broken.kind(), ProcessErrorKind::Broken);
        orchestrator
            .process(record("t", 0, 8))
            .await
            .expect("the lane goes on");
        assert_eq!(orchestrator.stats().queue.in_flight_records, 0);
    });
}

#[test]
fn explains_every_module() {
    let text = r#"
        [[pipelines]]
        pipeline_id = "late"
        order = 5
        enabled = false
        stages = [{ priority = 0, modules = [{ module_id = "a" }] }]
        [[pipelines]]
        pipeline_id = "early"
        stages = [
          { priority = 1, modules = [{ module_id = "b", topic_filters = [{ filter_type = "Prefix", pattern = "logs." }] }] },
          { priority = 0, modules = [{ module_id = "c", topic_filters = [{ filter_type = "Prefix", pattern = "iot." }], conditional_rules = [
            { condition_type = "MessageSize", operator = "LessThan", value = 10 } ] }] },
        ]
        "#;
    let orchestrator =
        Orchestrator::start(load(text), options(1, |_| Arc::new(|_: &View| Reply::Keep)))
            .expect("good");
    let explained = orchestrator.explain("iot.one");
    assert_eq!(explained.generation, 1);
    let ids: Vec<_> = explained
        .pipelines
        .iter()
        .map(|pipeline| (pipeline.id.as_str(), pipeline.enabled, pipeline.selected))
        .collect();
    assert_eq!(ids, [("early", true, true), ("late", false, false)]);
    let modules: Vec<_> = explained.pipelines[0]
        .stages
        .iter()
        .flat_map(|stage| &stage.modules)
        .collect();
    assert_eq!((modules[0].id.as_str(), modules[0].selected), ("c", true));
    assert_eq!(modules[0].conditions.len(), 1);
    assert_eq!((modules[1].id.as_str(), modules[1].selected), ("b", false));
    assert!(modules[1].reason.contains("logs."), "{}", modules[1].reason);
    assert_eq!(
        explained.pipelines[1].stages[0].modules[0].reason,
        "the pipeline is disabled"
    );
}

#[test]
fn a_first_generation_of_nothing_is_the_first() {
    let text = "[[pipelines]]\npipeline_id = \"p\"\nstages = [{ priority = 0, modules = [{ module_id = \"m\" }] }]\n";
    let mut options = options(1, |_| Arc::new(|_: &View| Reply::Keep));
    options.first_generation = Some(0);
    let orchestrator = Orchestrator::start(load(text), options).expect("good");
    assert_eq!(orchestrator.generation(), 1);
    let outcome = runtime().block_on(orchestrator.process(record("t", 0, 0)));
    assert_eq!(outcome.expect("running").outputs.len(), 1);
}
