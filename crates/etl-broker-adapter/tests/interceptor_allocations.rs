//! Where nothing changes, the interceptor allocates nothing: a counting allocator stands under all of it.

#[path = "../../etl-filter/tests/support/counting.rs"]
mod counting;

use std::sync::Arc;

use counting::{Counting, allocations};
use etl_broker_adapter::{Disposition, Interceptor};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record, Reply, TransformFor, View};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PIPELINE: &str = r#"
pipeline_id = "p"
stages = [{ priority = 0, modules = [{ module_id = "m", topic_filters = [{ filter_type = "Prefix", pattern = "seen." }] }] }]
"#;

/// Allocations for a hundred records of this topic, once everything is warm.
fn allocations_of_one(interceptor: &mut Interceptor, topic: &str) -> u64 {
    let record = Arc::new(Record::new(topic, "unchanged"));
    let mut handle = || match interceptor.on_record(&record) {
        Disposition::Settled {
            forward,
            dead_letters,
        } => {
            assert!(dead_letters.is_empty());
            let mut forward = forward.into_iter();
            let out = forward.next().expect("it goes on").into_record();
            assert!(Arc::ptr_eq(&out, &record), "the very same record");
        }
        waits => panic!("{waits:?}"),
    };
    for _ in 0..10_000 {
        handle();
    }
    let before = allocations();
    for _ in 0..100 {
        handle();
    }
    allocations() - before
}

/// Allocations for a batch of so many records of this topic, once everything is warm.
fn allocations_of_a_batch(interceptor: &mut Interceptor, topic: &str, count: usize) -> u64 {
    let topic: Arc<str> = topic.into();
    let batch: Vec<Arc<Record>> = (0..count)
        .map(|_| Arc::new(Record::new(topic.clone(), "unchanged")))
        .collect();
    let mut handle = || {
        let mut handled = 0;
        for (disposition, record) in interceptor.on_batch(&batch).zip(&batch) {
            let Disposition::Settled { forward, .. } = disposition else {
                panic!("it waits");
            };
            let out = forward
                .into_iter()
                .next()
                .expect("it goes on")
                .into_record();
            assert!(Arc::ptr_eq(&out, record), "the very same record");
            handled += 1;
        }
        assert_eq!(handled, count);
    };
    for _ in 0..1_000 {
        handle();
    }
    let before = allocations();
    for _ in 0..100 {
        handle();
    }
    (allocations() - before).div_ceil(100)
}

#[test]
fn what_does_not_change_costs_no_allocation() {
    let loaded = load_text("p.toml", PIPELINE, &LoadOptions::isolated()).expect("loads");
    let mut options = Options::default();
    options.lanes = Some(1);
    options.transforms = Some(TransformFor::new(|_| Arc::new(|_: &View| Reply::Keep)));
    let engine = Orchestrator::start(loaded, options).expect("starts");
    let mut interceptor = Interceptor::new(engine.lane());
    assert_eq!(
        allocations_of_one(&mut interceptor, "other.topic"),
        0,
        "nothing selects it"
    );
    assert_eq!(
        allocations_of_one(&mut interceptor, "seen.topic"),
        0,
        "a module keeps it"
    );
    // The list of what is to be done with each, and where a module was called that of its answers, however many records there are.
    for (topic, lists) in [("other.topic", 1), ("seen.topic", 2)] {
        for count in [1, 16, 256] {
            let allocated = allocations_of_a_batch(&mut interceptor, topic, count);
            assert!(
                allocated <= lists,
                "{allocated} for {count} records of {topic}"
            );
        }
    }
}
