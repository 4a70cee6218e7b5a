//! An interceptor that finds no instance says so at once: under each budget of the pool, with real modules.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use etl_broker_adapter::{Disposition, Interceptor};
use etl_config::{LoadOptions, load};
use etl_orchestrator::{Deferred, FailureKind, Options, Orchestrator, Record};

/// Answers every value with `<its byte>`, a legacy module of 64 KiB.
fn always(byte: char) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 1 1) (data (i32.const 60000) "\01\00\00\00{byte}")
             (func (export "transform") (param i32 i32) (result i32) (i32.const 60000)))"#
    );
    wat::parse_str(text).expect("WAT")
}

/// The time of a call is so long that a test which waits for an instance fails by its own time.
fn engine(folder: &Path, budget: &str, instances: &str, timeout_ms: u32) -> Arc<Orchestrator> {
    let modules = folder.join("modules");
    std::fs::create_dir_all(&modules).expect("a folder");
    for (name, byte) in [("first", '1'), ("second", '2')] {
        std::fs::write(modules.join(format!("{name}.wasm")), always(byte)).expect("written");
    }
    let text = format!(
        r#"
[instance_pool]
warmup_instances = 0
{budget}
[[pipelines]]
pipeline_id = "p"
global_timeout_ms = 600000
error_handling = "SendToDeadLetter"
[[pipelines.stages]]
priority = 0
[[pipelines.stages.modules]]
module_id = "first"
topic_filters = [{{ filter_type = "Exact", pattern = "both" }}]
[[pipelines.stages]]
priority = 1
[[pipelines.stages.modules]]
module_id = "second"
topic_filters = [{{ filter_type = "Exact", pattern = "both" }}, {{ filter_type = "Exact", pattern = "t" }}]
instance_config = {{ execution_timeout_ms = {timeout_ms}, {instances} memory_limit_bytes = 65536 }}
"#
    );
    let file = folder.join("etl.toml");
    std::fs::write(&file, text).expect("written");
    let loaded = load(&file, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{}", report.render(false)));
    let mut options = Options::default();
    options.lanes = Some(1);
    Orchestrator::start(loaded, options).unwrap_or_else(|report| panic!("{}", report.render(false)))
}

fn record(topic: &str) -> Arc<Record> {
    Arc::new(Record::new(topic, "x"))
}

fn busy(disposition: Disposition) -> Deferred {
    match disposition {
        Disposition::Busy(deferred) => deferred,
        other => panic!("{other:?}"),
    }
}

fn value(disposition: Disposition) -> String {
    match disposition {
        Disposition::Settled {
            forward,
            dead_letters,
        } => {
            assert!(dead_letters.is_empty(), "{dead_letters:?}");
            String::from_utf8_lossy(forward[0].value()).into_owned()
        }
        other => panic!("{other:?}"),
    }
}

fn sleep_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}

/// One instance: by the module's own limit, by the number of all, and by their memory: a page for each, and what it has beside that.
const ONE: [(&str, &str); 3] = [
    ("", "max_concurrent_instances = 1,"),
    ("max_pool_size = 1", ""),
    ("max_total_memory_bytes = 98304", ""),
];

#[test]
fn what_others_hold_is_not_waited_for() {
    for (budget, instances) in ONE {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(folder.path(), budget, instances, 600_000);
        let mut first = Interceptor::new(engine.lane());
        let mut second = Interceptor::new(engine.lane());
        assert_eq!(value(first.on_record(&record("t"))), "2");
        for _ in 0..3 {
            let waits = busy(second.on_record(&record("t")));
            let again = busy(second.resume(waits));
            // Whoever has nothing to do gives up what others miss.
            first.tend();
            sleep_until(again.resume_at());
            assert_eq!(value(second.resume(again)), "2");
            std::mem::swap(&mut first, &mut second);
        }
        // Whoever goes on working does so by itself.
        let waits = busy(second.on_record(&record("t")));
        assert_eq!(value(first.on_record(&record("t"))), "2");
        assert_eq!(value(second.resume(waits)), "2");
        let counts = engine.stats().counts;
        assert_eq!(
            (counts.modules["second"].failed, counts.totals.retries),
            (0, 0)
        );
    }
}

#[test]
fn making_instances_too_fast_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), "creation_rate_limit = 1", "", 600_000);
    // One a second, and each of these wants its own: far more than are made while a slow machine looks for them.
    let mut lanes: Vec<_> = (0..50).map(|_| Interceptor::new(engine.lane())).collect();
    let waits = lanes
        .iter_mut()
        .find_map(|lane| match lane.on_record(&record("t")) {
            Disposition::Busy(deferred) => Some((lane, deferred)),
            _ => None,
        });
    let (lane, mut deferred) = waits.expect("it is too fast");
    loop {
        sleep_until(deferred.resume_at());
        match lane.resume(deferred) {
            Disposition::Busy(again) => deferred = again,
            settled => break assert_eq!(value(settled), "2"),
        }
    }
}

#[test]
fn of_a_batch_only_what_needs_the_instance_is_held() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), "", ONE[0].1, 600_000);
    let mut holder = Interceptor::new(engine.lane());
    let mut other = Interceptor::new(engine.lane());
    assert_eq!(value(holder.on_record(&record("t"))), "2");
    let batch = [
        record("both"),
        record("elsewhere"),
        record("t"),
        record("both"),
    ];
    let mut held = Vec::new();
    let mut settled = Vec::new();
    for (index, disposition) in other.on_batch(&batch).enumerate() {
        match disposition {
            Disposition::Busy(deferred) => held.push((index, deferred)),
            disposition => settled.push((index, value(disposition))),
        }
    }
    let places: Vec<usize> = held.iter().map(|(index, _)| *index).collect();
    assert_eq!(
        (places, settled),
        (vec![0, 2, 3], vec![(1, "x".to_owned())])
    );
    holder.tend();
    for (_, deferred) in held {
        assert_eq!(value(other.resume(deferred)), "2");
    }
    // They went on where they were: the module before was not called again for them.
    let counts = engine.stats().counts;
    assert_eq!(counts.modules["first"].changed, 2);
    assert_eq!(counts.modules["second"].changed, 4);
    assert_eq!(counts.totals.records_out, 5);
}

#[test]
fn a_module_that_stays_busy_for_the_time_of_a_call_has_failed() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), "", ONE[0].1, 30);
    let mut holder = Interceptor::new(engine.lane());
    let mut other = Interceptor::new(engine.lane());
    assert_eq!(value(holder.on_record(&record("t"))), "2");
    let mut deferred = busy(other.on_record(&record("t")));
    let letter = loop {
        sleep_until(deferred.resume_at());
        match other.resume(deferred) {
            Disposition::Busy(again) => deferred = again,
            Disposition::Settled {
                forward,
                mut dead_letters,
            } => {
                assert!(forward.is_empty());
                break dead_letters.pop().expect("a dead letter");
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(letter.kind(), FailureKind::PoolExhausted);
    assert_eq!(letter.record.topic.as_ref(), "t.dlq");
}

#[test]
fn threads_that_share_one_instance_all_come_through() {
    for (budget, instances) in ONE {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(folder.path(), budget, instances, 600_000);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut interceptor = Interceptor::new(engine.lane());
                    for _ in 0..200 {
                        let mut disposition = interceptor.on_record(&record("t"));
                        while let Disposition::Busy(deferred) = disposition {
                            sleep_until(deferred.resume_at());
                            disposition = interceptor.resume(deferred);
                        }
                        assert_eq!(value(disposition), "2");
                    }
                });
            }
        });
        let counts = engine.stats().counts;
        assert_eq!(counts.modules["second"].changed, 600);
        assert_eq!(counts.modules["second"].failed, 0);
    }
}
