//! What must hold while records flow: reloads, replaced modules, callers that give up.
//!
//! `ETL_RELOADS=10000` makes the two tests of reloads as long as they are meant to be; by default they are short.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use etl_config::{LoadOptions, Loaded, load, load_text};
use etl_orchestrator::{
    Change, Delta, Options, Orchestrator, Outcome, ProcessErrorKind, Record, Reply, TransformFor,
    View,
};

fn rounds(short: u64) -> u64 {
    match std::env::var("ETL_RELOADS") {
        Ok(text) => text.parse().expect("a number of reloads"),
        Err(_) => short,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn batch(partition: u32, first: u64, count: u64) -> Vec<Arc<Record>> {
    (first..first + count)
        .map(|offset| {
            Arc::new(Record {
                partition,
                offset,
                ..Record::new("t", "x")
            })
        })
        .collect()
}

/// Sends batches of one partition until told to stop, as many at once as a runner does, and looks at every outcome in the order in which
/// they come. Answers how many records there were.
async fn stream(
    orchestrator: Arc<Orchestrator>,
    partition: u32,
    stop: Arc<AtomicBool>,
    check: impl Fn(&View),
) -> u64 {
    let mut sent = 0;
    let mut seen = 0;
    let mut under_way = std::collections::VecDeque::new();
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        while under_way.len() < 4 && !stopped {
            let count = 1 + sent % 37;
            let records = batch(partition, sent, count);
            sent += count;
            let orchestrator = orchestrator.clone();
            // Submitted here and now, so that the order of submission is the order of offsets.
            let mut process = Box::pin(async move { orchestrator.process_batch(records).await });
            let early =
                std::future::poll_fn(|context| Poll::Ready(process.as_mut().poll(context))).await;
            under_way.push_back((process, early));
        }
        let Some((process, early)) = under_way.pop_front() else {
            assert_eq!(seen, sent, "records were lost");
            return sent;
        };
        let outcomes = match early {
            Poll::Ready(outcomes) => outcomes,
            Poll::Pending => process.await,
        };
        for outcome in outcomes.expect("open") {
            assert_eq!(outcome.outputs.len(), 1, "{outcome:?}");
            let record = &outcome.outputs[0];
            assert_eq!(
                record.original().offset,
                seen,
                "lost, doubled or out of order"
            );
            seen += 1;
            check(record);
        }
    }
}

fn versioned(version: u64) -> Loaded {
    let text = format!(
        r#"
[[pipelines]]
pipeline_id = "p"
[[pipelines.stages]]
priority = 0
modules = [{{ module_id = "a", instance_config = {{ custom_config = {{ version = {version} }} }} }}]
[[pipelines.stages]]
priority = 5
parallel_execution = true
modules = [
  {{ module_id = "b", instance_config = {{ custom_config = {{ version = {version} }} }} }},
  {{ module_id = "c", instance_config = {{ custom_config = {{ version = {version} }} }} }},
]
"#
    );
    load_text("etl.toml", &text, &LoadOptions::isolated()).expect("it loads")
}

/// It loads, and building it fails.
fn bad() -> Loaded {
    let text = r#"
[[pipelines]]
pipeline_id = "p"
stages = [{ priority = 0, modules = [{ module_id = "a", topic_filters = [{ filter_type = "Regex", pattern = "(" }] }] }]
"#;
    load_text("etl.toml", text, &LoadOptions::isolated()).expect("it loads")
}

#[test]
fn reloads_under_load_lose_double_and_mix_nothing() {
    let mut options = Options::default();
    options.lanes = Some(2);
    options.transforms = Some(TransformFor::new(|usage| {
        let version = usage.instance.custom_config.shown()["version"].to_string();
        let name: Arc<str> = usage.module_id.as_str().into();
        Arc::new(move |_: &View| {
            let stamp = Change::AddHeader(name.clone(), Bytes::from(version.clone()));
            Reply::Change(Delta::from_iter([stamp]))
        })
    }));
    let orchestrator = Orchestrator::start(versioned(1), options).expect("starts");
    let runtime = runtime();
    let stop = Arc::new(AtomicBool::new(false));
    let newest = Arc::new(AtomicU64::new(0));
    let streams: Vec<_> = (0..3)
        .map(|partition| {
            let newest = newest.clone();
            let last = AtomicU64::new(0);
            runtime.spawn(stream(
                orchestrator.clone(),
                partition,
                stop.clone(),
                move |record| {
                    let stamps: Vec<(String, u64)> = record
                        .headers()
                        .iter()
                        .map(|(name, value)| {
                            let text = std::str::from_utf8(value).expect("text");
                            (name.to_string(), text.parse().expect("a version"))
                        })
                        .collect();
                    let [a, b, c] = &stamps[..] else {
                        panic!("{stamps:?}");
                    };
                    assert_eq!((&*a.0, &*b.0, &*c.0), ("a", "b", "c"));
                    assert!(a.1 == b.1 && b.1 == c.1, "two versions: {stamps:?}");
                    // Records of one partition never go back to an older version.
                    assert!(last.swap(a.1, Ordering::Relaxed) <= a.1, "{stamps:?}");
                    newest.fetch_max(a.1, Ordering::Relaxed);
                },
            ))
        })
        .collect();
    let reloads = rounds(300);
    for round in 1..=reloads {
        if round % 7 == 0 {
            let before = orchestrator.generation();
            orchestrator.reload(bad()).expect_err("it is bad");
            assert_eq!(orchestrator.generation(), before);
        }
        let generation = orchestrator.generation() + 1;
        assert_eq!(
            orchestrator.reload(versioned(generation)).expect("good"),
            generation
        );
    }
    let last = orchestrator.generation();
    let until = Instant::now() + Duration::from_secs(60);
    while newest.load(Ordering::Relaxed) < last {
        assert!(Instant::now() < until, "the last version is not in use");
        std::thread::sleep(Duration::from_millis(1));
    }
    stop.store(true, Ordering::Relaxed);
    let records: u64 = streams
        .into_iter()
        .map(|stream| runtime.block_on(stream).expect("no assertion failed"))
        .sum();
    let stats = orchestrator.stats();
    assert_eq!(stats.counts.totals.records_in, records);
    assert_eq!(stats.counts.totals.records_out, records);
    assert_eq!(
        (stats.reloads, stats.reloads_refused),
        (reloads, reloads / 7)
    );
    assert_eq!(stats.queue.in_flight_records, 0);
    println!("{records} records over {reloads} reloads");
}

/// A legacy module that answers with four bytes.
fn stamp(version: u64) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 60000) "\04\00\00\00{version:04}")
             (func (export "transform") (param i32 i32) (result i32) (i32.const 60000)))"#
    );
    wat::parse_str(text).expect("WAT")
}

#[test]
fn modules_replaced_under_load_lose_and_double_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("modules")).expect("a folder");
    let put = |version: u64| {
        // As deployments do it: written beside, then renamed into place.
        let file = folder.path().join("modules/m.wasm");
        let beside = file.with_extension("new");
        std::fs::write(&beside, stamp(version % 10_000)).expect("written");
        std::fs::rename(beside, file).expect("renamed");
        let config = folder.path().join("etl.toml");
        let text = "[[pipelines]]\npipeline_id = \"p\"\nstages = [{ priority = 0, modules = [{ module_id = \"m\" }] }]\n";
        std::fs::write(&config, text).expect("written");
        load(&config, &LoadOptions::isolated()).expect("it loads")
    };
    let mut options = Options::default();
    options.lanes = Some(2);
    let orchestrator = Orchestrator::start(put(1), options).expect("starts");
    let runtime = runtime();
    let stop = Arc::new(AtomicBool::new(false));
    let streams: Vec<_> = (0..2)
        .map(|partition| {
            let last = AtomicU64::new(0);
            runtime.spawn(stream(
                orchestrator.clone(),
                partition,
                stop.clone(),
                move |record| {
                    let text = std::str::from_utf8(record.value()).expect("text");
                    let version: u64 = text.parse().expect("a version");
                    let before = last.swap(version, Ordering::Relaxed);
                    // Only the number of digits makes it begin again.
                    assert!(
                        before <= version || before == 9_999,
                        "{before} then {version}"
                    );
                },
            ))
        })
        .collect();
    let reloads = rounds(60).min(2_000);
    for round in 0..reloads {
        orchestrator.reload(put(2 + round)).expect("good");
    }
    stop.store(true, Ordering::Relaxed);
    let records: u64 = streams
        .into_iter()
        .map(|stream| runtime.block_on(stream).expect("no assertion failed"))
        .sum();
    let stats = orchestrator.stats();
    assert_eq!(stats.counts.totals.records_out, records);
    assert_eq!(stats.counts.modules["m"].failed, 0);
    runtime.block_on(orchestrator.shutdown());
    // Eight generations are kept, each with the instances of its module that are warm on two lanes at most.
    assert!(
        orchestrator.stats().instances <= 2 * 9,
        "{}",
        orchestrator.stats().instances
    );
    println!("{records} records over {reloads} replaced modules");
}

/// Polls a future so many times, at most, and gives up on it.
fn poll_and_drop<F: Future>(future: F, times: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    None
}

#[test]
fn futures_that_are_dropped_leak_nothing() {
    let text = "[engine]\nmax_in_flight_records = 8\n[[pipelines]]\npipeline_id = \"p\"\nstages = [{ priority = 0, modules = [{ module_id = \"m\" }] }]\n";
    let loaded = load_text("etl.toml", text, &LoadOptions::isolated()).expect("it loads");
    let mut options = Options::default();
    options.lanes = Some(2);
    let handled = Arc::new(AtomicU64::new(0));
    let count = handled.clone();
    options.transforms = Some(TransformFor::new(move |_| {
        let count = count.clone();
        Arc::new(move |_: &View| {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_micros(100));
            Reply::Keep
        })
    }));
    let orchestrator = Orchestrator::start(loaded, options).expect("starts");
    let (mut finished, mut dropped) = (0, 0);
    for round in 0..600_u64 {
        // Never polled, polled once while it applies or runs, polled to the end.
        let times = (round % 5) as u32;
        let records = batch((round % 3) as u32, round * 10, 1 + round % 6);
        match poll_and_drop(orchestrator.process_batch(records), times) {
            Some(outcomes) => {
                assert_eq!(outcomes.expect("open").len() as u64, 1 + round % 6);
                finished += 1;
            }
            None => dropped += 1,
        }
    }
    assert!(
        finished > 0 && dropped > 100,
        "{finished} finished, {dropped} dropped"
    );
    let runtime = runtime();
    runtime.block_on(orchestrator.drain());
    let queue = orchestrator.stats().queue;
    assert_eq!((queue.in_flight_records, queue.in_flight_bytes), (0, 0));
    assert_eq!(
        (queue.applying, queue.retrying, queue.waiting),
        (0, 0, [0; 3])
    );
    // What was let in has been handled whole, and what comes now is let in.
    let outcomes: Vec<Outcome> = runtime
        .block_on(orchestrator.process_batch(batch(0, 1_000_000, 8)))
        .expect("open");
    assert_eq!(outcomes.len(), 8);
    assert_eq!(
        orchestrator.stats().counts.modules["m"].kept,
        handled.load(Ordering::Relaxed)
    );

    // Whoever waits while it ends is told so, and what was accepted is finished.
    let last = runtime.spawn({
        let orchestrator = orchestrator.clone();
        async move { orchestrator.process_batch(batch(0, 2_000_000, 4)).await }
    });
    let accepted = loop {
        if orchestrator.stats().counts.modules["m"].kept > 0
            && orchestrator.stats().queue.in_flight_records > 0
        {
            break true;
        }
        if last.is_finished() {
            break true;
        }
        std::thread::yield_now();
    };
    runtime.block_on(orchestrator.shutdown());
    assert_eq!(runtime.block_on(last).expect("no panic").is_ok(), accepted);
    let error = runtime
        .block_on(orchestrator.process(batch(0, 3_000_000, 1).remove(0)))
        .expect_err("closed");
    assert_eq!(error.kind(), ProcessErrorKind::Closed);
}
