//! Where nothing changes, the interceptor allocates nothing: a counting allocator stands under all of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use etl_broker_adapter::{Disposition, Interceptor};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record, Reply, TransformFor, View};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator with the arguments that it came with; the counter is a plain thread-local number
// without a destructor, so counting neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PIPELINE: &str = r#"
pipeline_id = "p"
stages = [{ priority = 0, modules = [{ module_id = "m", topic_filters = [{ filter_type = "Prefix", pattern = "seen." }] }] }]
"#;

/// Allocations for a hundred records of this topic, once everything is warm.
fn allocations(interceptor: &mut Interceptor, topic: &str) -> u64 {
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
        Disposition::Deferred(deferred) => panic!("{deferred:?}"),
    };
    for _ in 0..10_000 {
        handle();
    }
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..100 {
        handle();
    }
    ALLOCATIONS.with(Cell::get) - before
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
        allocations(&mut interceptor, "other.topic"),
        0,
        "nothing selects it"
    );
    assert_eq!(
        allocations(&mut interceptor, "seen.topic"),
        0,
        "a module keeps it"
    );
}
