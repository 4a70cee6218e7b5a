//! Order, limits, priority, reload, breakers and the end of it, with lanes of the orchestrator's own.

mod breakers;
mod lanes;
mod order;
mod reload;

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
