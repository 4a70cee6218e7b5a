//! Callers that give up, with real guests: whatever the moment, no instance, no place in flight and no record is lost.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use etl_config::{LoadOptions, load};
use etl_orchestrator::{Options, Orchestrator, Record, Stats};

/// A legacy module that counts to some hundred thousand, and then answers the value as it is; where it begins with `!` it traps, where
/// with `@` it loops until it is stopped.
const SLOW: &str = r#"(module
  (memory (export "memory") 1 1)
  (func (export "allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "transform") (param $at i32) (param $length i32) (result i32)
    (local $first i32) (local $count i32)
    (local.set $first (i32.load8_u (local.get $at)))
    (if (i32.eq (local.get $first) (i32.const 33)) (then unreachable))
    (if (i32.eq (local.get $first) (i32.const 64)) (then (loop $again (br $again))))
    (loop $next
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $count) (i32.const 100000))))
    (i32.store (i32.const 1020) (local.get $length))
    (i32.const 1020)))"#;

const TEXT: &str = r#"
[engine]
max_in_flight_records = 6
[[pipelines]]
pipeline_id = "p"
error_handling = "RetryWithBackoff"
max_retries = 1
stages = [
  { priority = 0, modules = [{ module_id = "slow", instance_config = { execution_timeout_ms = 30, max_concurrent_instances = 2 } }] },
  { priority = 3, modules = [{ module_id = "slow", instance_config = { execution_timeout_ms = 30, max_concurrent_instances = 2 } }] },
]
"#;

/// Lanes, and so instances that may be warm.
const LANES: usize = 2;

fn start() -> (tempfile::TempDir, Arc<Orchestrator>) {
    let folder = tempfile::tempdir().expect("a folder");
    let modules = folder.path().join("modules");
    std::fs::create_dir(&modules).expect("a folder");
    let bytes = wat::parse_str(SLOW).expect("WAT");
    std::fs::write(modules.join("slow.wasm"), bytes).expect("written");
    let file = folder.path().join("etl.toml");
    std::fs::write(&file, TEXT).expect("written");
    let loaded = load(&file, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{}", report.render(false)));
    let mut options = Options::default();
    options.lanes = Some(LANES);
    let orchestrator = Orchestrator::start(loaded, options)
        .unwrap_or_else(|report| panic!("{}", report.render(false)));
    (folder, orchestrator)
}

fn records(round: u64, count: u64) -> Vec<Arc<Record>> {
    let record = |number: u64| {
        let offset = round * 10 + number;
        let first = match offset % 151 {
            7 => '@',
            n if n % 13 == 5 => '!',
            _ => '.',
        };
        Arc::new(Record {
            partition: (round % 3) as u32,
            offset,
            ..Record::new("t", format!("{first}{offset}"))
        })
    };
    (0..count).map(record).collect()
}

/// Polls a future so many times, at most, and gives up on it.
fn poll_and_drop<F: Future>(future: F, times: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    None
}

fn instances(stats: &Stats) -> (usize, u64) {
    (stats.instances, stats.modules["slow"].alive)
}

#[test]
fn callers_that_give_up_leave_no_instance_permit_or_record_behind() {
    let (_folder, orchestrator) = start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (mut finished, mut dropped) = (0_u64, 0_u64);
    for round in 0..300 {
        let count = 1 + round % 4;
        // Never looked at, looked at once, while it applies, runs, waits for its retry or for its partition, or to the end.
        match poll_and_drop(orchestrator.process_batch(records(round, count)), round % 7) {
            Some(outcomes) => {
                assert_eq!(outcomes.expect("open").len() as u64, count);
                finished += 1;
            }
            None => dropped += 1,
        }
        let stats = orchestrator.stats();
        assert!(stats.queue.in_flight_records <= 6, "{:?}", stats.queue);
        assert!(stats.instances <= 2 * LANES, "{}", stats.instances);
    }
    assert!(
        finished > 0 && dropped > 100,
        "{finished} finished, {dropped} dropped"
    );
    runtime.block_on(orchestrator.drain());
    let stats = orchestrator.stats();
    assert_eq!(
        (stats.queue.in_flight_records, stats.queue.in_flight_bytes),
        (0, 0)
    );
    assert_eq!(
        (
            stats.queue.applying,
            stats.queue.retrying,
            stats.queue.waiting
        ),
        (0, 0, [0; 3])
    );
    // What came in has left: by being handled, and by nothing else.
    let totals = &stats.counts.totals;
    assert_eq!(totals.dead_lettered, 0);
    assert!(totals.stopped > 0, "poison was among what ran: {totals:?}");
    assert!(totals.records_out > 0 && totals.records_out <= totals.records_in);

    // Every place in flight and every instance can still be had: as much as may be comes in at once, and runs.
    let calls: Vec<_> = (0..6)
        .map(|number| {
            let record = Arc::new(Record {
                partition: 100 + number,
                ..Record::new("t", ".")
            });
            orchestrator.try_process(&record).expect("room")
        })
        .collect();
    for call in calls {
        let outcome = runtime.block_on(call).expect("open");
        assert_eq!(
            (outcome.outputs.len(), outcome.stopped),
            (1, 0),
            "{outcome:?}"
        );
    }
    let stats = orchestrator.stats();
    let (all, of_module) = instances(&stats);
    assert_eq!(all as u64, of_module, "none belongs to nobody");
    assert!((1..=2 * LANES).contains(&all), "{all}");
    runtime.block_on(orchestrator.shutdown());
    assert_eq!(
        instances(&orchestrator.stats()),
        (0, 0),
        "lanes that ended keep no instance"
    );
}
