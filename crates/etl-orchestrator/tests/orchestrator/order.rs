//! What goes first, and in which order outcomes leave; what does not fit waits.

use super::*;

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
