//! Order, limits, priority, reload, breakers and the end of it, with lanes of the orchestrator's own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use etl_config::{LoadOptions, Loaded, load_text};
use etl_orchestrator::{
    Change, CircuitState, Clock, Delta, FailureKind, Options, Orchestrator, ProcessErrorKind,
    Progress, Record, Reply, Transform, TransformError, TransformFor, View,
};

fn load(text: &str) -> Loaded {
    load_text("etl.toml", text, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{}", report.render(false)))
}

fn options(
    lanes: usize,
    make: impl Fn(&str) -> Arc<dyn Transform> + Send + Sync + 'static,
) -> Options {
    let mut options = Options::default();
    options.lanes = Some(lanes);
    options.transforms = Some(TransformFor::new(move |usage| make(&usage.module_id)));
    options
}

fn record(topic: &str, partition: u32, offset: u64) -> Arc<Record> {
    Arc::new(Record {
        partition,
        offset,
        ..Record::new(topic, offset.to_string())
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A door that modules wait at.
#[derive(Default)]
struct Door {
    open: Mutex<bool>,
    moved: Condvar,
    waiting: AtomicU64,
}

impl Door {
    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock().expect("not poisoned");
        while !*open {
            open = self.moved.wait(open).expect("not poisoned");
        }
    }

    fn open(&self) {
        *self.open.lock().expect("not poisoned") = true;
        self.moved.notify_all();
    }

    fn wait_for(&self, waiting: u64) {
        while self.waiting.load(Ordering::SeqCst) < waiting {
            std::thread::yield_now();
        }
    }
}

#[test]
fn outcomes_of_a_partition_leave_in_order_whatever_the_retries() {
    let text = r#"
        [[pipelines]]
        pipeline_id = "p"
        error_handling = "RetryWithBackoff"
        max_retries = 3
        stages = [{ priority = 0, modules = [{ module_id = "sometimes" }] }]
        "#;
    let attempts: Mutex<HashMap<(u32, u64), u32>> = Mutex::default();
    let attempts = Arc::new(attempts);
    let orchestrator = Orchestrator::start(
        load(text),
        options(3, move |_| {
            let attempts = attempts.clone();
            Arc::new(move |view: &View| {
                let original = view.original();
                let mut attempts = attempts.lock().expect("not poisoned");
                let count = attempts
                    .entry((original.partition, original.offset))
                    .or_default();
                *count += 1;
                if original.offset.is_multiple_of(5) && *count <= 2 {
                    Reply::Fail(TransformError::new(FailureKind::Module, "not yet").retryable(true))
                } else {
                    Reply::Keep
                }
            })
        }),
    )
    .expect("good");
    runtime().block_on(async {
        let mut tasks: Vec<_> = (0..200)
            .flat_map(|offset| (0..3).map(move |partition| (partition, offset)))
            .map(|(partition, offset)| {
                let submitted = orchestrator
                    .try_process(&record("t", partition, offset))
                    .expect("room");
                (partition, Some(Box::pin(submitted)))
            })
            .collect();
        // Asked from the last to the first: if one has its outcome, those before it in its partition must have theirs.
        let asked = std::future::poll_fn(|context| {
            let mut left = [false; 3];
            let mut pending = false;
            for (partition, task) in tasks.iter_mut().rev() {
                let left = &mut left[*partition as usize];
                match task.as_mut().map(|future| future.as_mut().poll(context)) {
                    None => *left = true,
                    Some(std::task::Poll::Ready(outcome)) => {
                        outcome.expect("running");
                        *task = None;
                        *left = true;
                    }
                    Some(std::task::Poll::Pending) => {
                        assert!(!*left, "a later record of the partition left first");
                        pending = true;
                    }
                }
            }
            if pending {
                std::task::Poll::Pending
            } else {
                std::task::Poll::Ready(())
            }
        });
        tokio::task::unconstrained(asked).await;
    });
    assert_eq!(orchestrator.stats().counts.totals.retries, 3 * 40 * 2);
}

#[test]
fn a_record_does_not_leave_before_one_of_its_partition_that_is_held_up() {
    let text = r#"
        [[pipelines]]
        pipeline_id = "p"
        stages = [{ priority = 0, modules = [{ module_id = "gate" }] }]
        "#;
    let door = Arc::new(Door::default());
    let held = door.clone();
    let orchestrator = Orchestrator::start(
        load(text),
        options(2, move |_| {
            let door = held.clone();
            Arc::new(move |view: &View| {
                if view.original().offset == 0 {
                    door.pass();
                }
                Reply::Keep
            })
        }),
    )
    .expect("good");
    runtime().block_on(async {
        let mut first = Box::pin(orchestrator.try_process(&record("t", 0, 0)).expect("room"));
        let mut second = Box::pin(orchestrator.try_process(&record("t", 0, 1)).expect("room"));
        let other = orchestrator.try_process(&record("t", 1, 1)).expect("room");
        other.await.expect("another partition does not wait");
        door.wait_for(1);
        let waits = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
        assert!(
            waits.is_err(),
            "the second of the partition left before the first"
        );
        door.open();
        second.await.expect("running");
        let ready = tokio::time::timeout(Duration::ZERO, &mut first).await;
        assert!(ready.is_ok(), "the first left before the second");
    });
}

#[test]
fn what_does_not_fit_waits_or_is_told_so() {
    let text = r#"
        [engine]
        max_in_flight_records = 2
        [[pipelines]]
        pipeline_id = "p"
        stages = [{ priority = 0, modules = [{ module_id = "gate" }] }]
        "#;
    let door = Arc::new(Door::default());
    let held = door.clone();
    let orchestrator = Orchestrator::start(
        load(text),
        options(1, move |_| {
            let door = held.clone();
            Arc::new(move |_: &View| {
                door.pass();
                Reply::Keep
            })
        }),
    )
    .expect("good");
    runtime().block_on(async {
        let first = orchestrator
            .try_process(&record("t", 0, 0))
            .expect("room for one");
        let second = orchestrator
            .try_process(&record("t", 1, 0))
            .expect("room for two");
        let busy = orchestrator
            .try_process(&record("t", 2, 0))
            .err()
            .expect("no room for three");
        assert_eq!(busy.kind(), ProcessErrorKind::Busy);
        assert!(busy.is_retryable());
        let taken = orchestrator.stats().counts.totals.records_in;
        assert_eq!(taken, 2, "what is refused has not come in");
        let third = {
            let orchestrator = orchestrator.clone();
            tokio::spawn(async move { orchestrator.process(record("t", 2, 0)).await })
        };
        // Given up before it came in: it takes nothing with it.
        let given_up = tokio::time::timeout(
            Duration::from_millis(20),
            orchestrator.process(record("t", 3, 0)),
        )
        .await;
        assert!(given_up.is_err());
        assert!(!third.is_finished());
        assert_eq!(orchestrator.stats().queue.in_flight_records, 2);
        door.open();
        first.await.expect("running");
        second.await.expect("running");
        third.await.expect("a task").expect("running");
        orchestrator.drain().await;
        let stats = orchestrator.stats();
        assert_eq!(stats.queue.in_flight_records, 0);
        assert_eq!(stats.queue.in_flight_bytes, 0);
        assert_eq!(
            door.waiting.load(Ordering::SeqCst),
            3,
            "what was given up was never begun"
        );
        // More than all that may be in flight comes in when nothing else is there.
        let many = (0..5).map(|offset| record("t", 0, offset)).collect();
        assert_eq!(
            orchestrator
                .process_batch(many)
                .await
                .expect("running")
                .len(),
            5
        );
    });
}

#[test]
fn the_more_urgent_goes_first_and_the_patient_are_not_forgotten() {
    let text = |ageing: u64| {
        format!(
            r#"
        [engine]
        ageing_ms = {ageing}
        [[pipelines]]
        pipeline_id = "p"
        stages = [
          {{ priority = 0, modules = [{{ module_id = "a", topic_filters = [{{ filter_type = "Exact", pattern = "urgent" }}] }}] }},
          {{ priority = 5, modules = [{{ module_id = "b", topic_filters = [{{ filter_type = "Exact", pattern = "background" }}] }}] }},
        ]
        "#
        )
    };
    for (ageing, expected) in [
        (60_000, ["background", "urgent", "background"]),
        (1, ["background", "background", "urgent"]),
    ] {
        let door = Arc::new(Door::default());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (held, noted) = (door.clone(), seen.clone());
        let orchestrator = Orchestrator::start(
            load(&text(ageing)),
            options(1, move |_| {
                let (door, seen) = (held.clone(), noted.clone());
                Arc::new(move |view: &View| {
                    door.pass();
                    seen.lock()
                        .expect("not poisoned")
                        .push(view.topic().to_string());
                    Reply::Keep
                })
            }),
        )
        .expect("good");
        runtime().block_on(async {
            let first = orchestrator
                .try_process(&record("background", 0, 0))
                .expect("room");
            door.wait_for(1);
            let second = orchestrator
                .try_process(&record("background", 0, 1))
                .expect("room");
            std::thread::sleep(Duration::from_millis(20));
            let urgent = orchestrator
                .try_process(&record("urgent", 0, 0))
                .expect("room");
            assert_eq!(orchestrator.stats().queue.waiting, [1, 0, 1]);
            door.open();
            for waiting in [
                Box::pin(first) as std::pin::Pin<Box<dyn Future<Output = _>>>,
                Box::pin(second),
                Box::pin(urgent),
            ] {
                waiting.await.expect("running");
            }
        });
        assert_eq!(
            *seen.lock().expect("not poisoned"),
            expected,
            "ageing {ageing} ms"
        );
    }
}

#[test]
fn no_record_is_handled_by_two_configurations_and_none_is_lost() {
    let text = |version: u64| {
        format!(
            r#"
        [[pipelines]]
        pipeline_id = "p"
        stages = [
          {{ priority = 0, modules = [{{ module_id = "v{version}" }}] }},
          {{ priority = 1, modules = [{{ module_id = "v{version}" }}] }},
          {{ priority = 2, modules = [{{ module_id = "v{version}" }}] }},
        ]
        "#
        )
    };
    let orchestrator = Orchestrator::start(
        load(&text(0)),
        options(2, |id| {
            let stamp: Arc<str> = id.into();
            Arc::new(move |_: &View| {
                Reply::Change(Delta::from_iter([Change::AddHeader(
                    "stamp".into(),
                    stamp.as_bytes().to_vec().into(),
                )]))
            })
        }),
    )
    .expect("good");
    let stop = Arc::new(AtomicBool::new(false));
    let reloads = {
        let (orchestrator, stop) = (orchestrator.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut version = 0;
            while !stop.load(Ordering::Relaxed) {
                version += 1;
                assert_eq!(
                    orchestrator.reload(load(&text(version))).expect("good"),
                    version + 1
                );
                // A bad one in between changes nothing.
                let bad = text(version).replace("priority = 0, modules = [{", "priority = 0, modules = [{ topic_filters = [{ filter_type = \"Regex\", pattern = \"(\" }],");
                assert!(orchestrator.reload(load(&bad)).is_err());
                assert_eq!(orchestrator.generation(), version + 1);
            }
            version
        })
    };
    runtime().block_on(async {
        let mut last = 0;
        let mut offset = 0;
        while offset < 60_000 {
            let records: Vec<_> = (offset..offset + 50)
                .map(|offset| record("t", 0, offset))
                .collect();
            offset += 50;
            let outcomes = orchestrator
                .process_batch(records.clone())
                .await
                .expect("running");
            for (record, outcome) in records.iter().zip(&outcomes) {
                let [output] = outcome.outputs.as_slice() else {
                    panic!("{outcome:?}")
                };
                assert_eq!(output.original().offset, record.offset, "in order");
                let stamps: Vec<_> = output.headers().all("stamp").collect();
                assert_eq!(stamps.len(), 3, "each stage once");
                assert!(
                    stamps.iter().all(|stamp| *stamp == stamps[0]),
                    "two versions in one record: {stamps:?}"
                );
                let version: u64 = std::str::from_utf8(&stamps[0][1..])
                    .expect("text")
                    .parse()
                    .expect("a number");
                assert!(version >= last, "back to an old version");
                last = version;
            }
        }
    });
    stop.store(true, Ordering::Relaxed);
    let reloads = reloads.join().expect("reloads went well");
    let stats = orchestrator.stats();
    assert!(reloads > 20, "only {reloads} reloads");
    assert_eq!((stats.reloads, stats.reloads_refused), (reloads, reloads));
    assert_eq!(
        stats.counts.totals.records_in,
        stats.counts.totals.records_out
    );
}

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

/// A shadow is slow to fail; meanwhile another new version has come in its place.
#[test]
fn a_new_version_does_not_pay_for_the_one_before_it() {
    let text = |percent: u32| {
        let canary = format!(
            r#"canary = {{ path = "new.wasm", mode = "shadow", percent = {percent}, min_samples = 1, max_error_increase = 0.1 }}"#
        );
        load(&format!(
            r#"
            [[modules]]
            id = "m"
            path = "m.wasm"
            {canary}
            [[pipelines]]
            pipeline_id = "p"
            stages = [{{ priority = 0, modules = [{{ module_id = "m" }}] }}]
            "#
        ))
    };
    let door = Arc::new(Door::default());
    let seen = Arc::new(AtomicU64::new(0));
    let versions = AtomicU64::new(0);
    let (at_door, counted) = (door.clone(), seen.clone());
    let options = options(1, move |id| {
        if id == "m" {
            return Arc::new(|_: &View| Reply::Keep);
        }
        if versions.fetch_add(1, Ordering::SeqCst) > 0 {
            let seen = counted.clone();
            return Arc::new(move |_: &View| {
                seen.fetch_add(1, Ordering::SeqCst);
                Reply::Keep
            });
        }
        let door = at_door.clone();
        Arc::new(move |_: &View| {
            door.pass();
            Reply::Fail(TransformError::new(FailureKind::Trap, "bad"))
        })
    });
    let orchestrator = Orchestrator::start(text(100), options).expect("good");
    let mut lane = orchestrator.lane();
    let mut process = || lane.process(&record("t", 0, 0)).done().expect("done");
    process();
    door.wait_for(1);
    orchestrator.reload(text(99)).expect("good");
    for _ in 0..3 {
        process();
    }
    door.open();
    // It is shown what comes only after the old one has been judged.
    while seen.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    let trials = orchestrator.canaries();
    let running: Vec<_> = trials
        .iter()
        .map(|trial| (trial.percent, trial.running))
        .collect();
    assert_eq!(running, [(99, true)]);
    assert_eq!(orchestrator.generation(), 2);
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
