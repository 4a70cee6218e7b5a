//! New configurations while records flow, and at the end of it.

use super::*;

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
    let done = Arc::new(AtomicU64::new(0));
    let reloads = {
        let (orchestrator, stop, done) = (orchestrator.clone(), stop.clone(), done.clone());
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
                done.store(version, Ordering::Relaxed);
            }
            version
        })
    };
    runtime().block_on(async {
        let mut last = 0;
        let mut offset = 0;
        // However busy the machine is, records meet so many reloads.
        while offset < 60_000 || done.load(Ordering::Relaxed) < 20 {
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
    assert_eq!((stats.reloads, stats.reloads_refused), (reloads, reloads));
    assert_eq!(
        stats.counts.totals.records_in,
        stats.counts.totals.records_out
    );
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
