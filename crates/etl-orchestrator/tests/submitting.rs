//! Batches that are given at the call: their order and their configuration are settled then, whoever waits for the outcomes and when.

use std::sync::{Arc, Condvar, Mutex};

use etl_config::{LoadOptions, Loaded, load_text};
use etl_orchestrator::{
    Options, Orchestrator, ProcessErrorKind, Record, Reply, TransformFor, View,
};

fn load(text: &str) -> Loaded {
    load_text("etl.toml", text, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{}", report.render(false)))
}

fn record(topic: &str, offset: u64) -> Arc<Record> {
    Arc::new(Record {
        offset,
        ..Record::new(topic, offset.to_string())
    })
}

/// One lane on which modules wait until told to go on, and note which record they see.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    moved: Condvar,
    seen: Mutex<Vec<String>>,
}

impl Gate {
    fn start(text: &str) -> (Arc<Self>, Arc<Orchestrator>) {
        let gate = Arc::new(Self::default());
        let held = gate.clone();
        let mut options = Options::default();
        options.lanes = Some(1);
        options.transforms = Some(TransformFor::new(move |usage| {
            let (gate, name) = (held.clone(), usage.module_id.clone());
            Arc::new(move |view: &View| {
                let seen = format!("{name}:{}/{}", view.topic(), view.original().offset);
                gate.seen.lock().expect("not poisoned").push(seen);
                let mut open = gate.open.lock().expect("not poisoned");
                while !*open {
                    open = gate.moved.wait(open).expect("not poisoned");
                }
                Reply::Value(name.clone().into())
            })
        }));
        let orchestrator = Orchestrator::start(load(text), options).expect("good");
        (gate, orchestrator)
    }

    fn open(&self) {
        *self.open.lock().expect("not poisoned") = true;
        self.moved.notify_all();
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn one_module(name: &str) -> String {
    format!(
        "[[pipelines]]\npipeline_id = \"p\"\nstages = [{{ priority = 0, modules = [{{ module_id = \"{name}\" }}] }}]\n"
    )
}

#[test]
fn a_batch_is_given_at_the_call_and_not_when_its_outcomes_are_asked_for() {
    let (gate, orchestrator) = Gate::start(&one_module("old"));
    let given: Vec<_> = (0..2)
        .map(|offset| orchestrator.submit_batch(&[record("t", offset)]))
        .collect();
    assert_eq!(orchestrator.stats().queue.in_flight_records, 2);
    // On a thread of its own, since a lane that stands at the gate cannot make anything ready for it.
    let reloading = std::thread::spawn({
        let orchestrator = orchestrator.clone();
        move || orchestrator.reload(load(&one_module("new")))
    });
    gate.open();
    reloading.join().expect("no panic").expect("good");
    let last = orchestrator.submit_batch(&[record("t", 2)]).expect("open");
    // Asked for the other way round.
    let values: Vec<_> = runtime().block_on(async {
        let mut values = vec![last.await];
        for given in given.into_iter().rev() {
            values.push(given.expect("open").await);
        }
        values
            .into_iter()
            .map(|outcomes| outcomes.expect("running")[0].outputs[0].value().clone())
            .collect()
    });
    assert_eq!(values, ["new", "old", "old"]);
    assert_eq!(gate.seen(), ["old:t/0", "old:t/1", "new:t/2"]);
}

#[test]
fn a_batch_that_would_have_to_wait_is_told_so_and_comes_in_later() {
    let text = format!("[engine]\nmax_in_flight_records = 2\n{}", one_module("m"));
    let (gate, orchestrator) = Gate::start(&text);
    let first = orchestrator
        .try_process_batch(&[record("t", 0), record("t", 1)])
        .expect("room");
    let busy = orchestrator
        .try_process_batch(&[record("t", 2)])
        .err()
        .expect("no room");
    assert_eq!(busy.kind(), ProcessErrorKind::Busy);
    assert_eq!(orchestrator.stats().counts.totals.records_in, 2);
    gate.open();
    let runtime = runtime();
    assert_eq!(runtime.block_on(first).expect("running").len(), 2);
    let again = orchestrator
        .try_process_batch(&[record("t", 2)])
        .expect("room again");
    assert_eq!(runtime.block_on(again).expect("running").len(), 1);
    runtime.block_on(orchestrator.shutdown());
    let closed = orchestrator.submit_batch(&[record("t", 3)]).err();
    assert_eq!(closed.expect("closed").kind(), ProcessErrorKind::Closed);
}

/// There are no lanes any more that could make anything ready for it.
#[test]
fn a_configuration_may_change_after_the_end() {
    let (gate, orchestrator) = Gate::start(&one_module("old"));
    gate.open();
    runtime().block_on(orchestrator.shutdown());
    let start = std::time::Instant::now();
    orchestrator.reload(load(&one_module("new"))).expect("good");
    assert!(start.elapsed().as_secs() < 5, "it waited for lanes");
}

/// However many records that nothing selects wait for room: they come in one after the other, not one inside the other.
#[test]
fn any_number_of_records_that_nothing_selects_may_wait_for_room() {
    let module = one_module("m").replace(
        "module_id = \"m\"",
        "module_id = \"m\", topic_filters = [{ filter_type = \"Exact\", pattern = \"t\" }]",
    );
    let (gate, orchestrator) =
        Gate::start(&format!("[engine]\nmax_in_flight_records = 1\n{module}"));
    let waiting: Vec<_> = [record("t", 0), record("t", 1)]
        .into_iter()
        .chain((0..100_000).map(|offset| record("another", offset)))
        .map(|record| orchestrator.submit_batch(&[record]))
        .collect();
    assert_eq!(orchestrator.stats().queue.applying, 100_001);
    gate.open();
    runtime().block_on(async {
        for outcomes in waiting {
            let outcomes = outcomes.expect("open").await.expect("running");
            assert_eq!(outcomes.len(), 1);
        }
    });
    assert_eq!(orchestrator.stats().queue.in_flight_records, 0);
}

/// Two stages of different urgency, and room for one record at a time.
const TWO_CLASSES: &str = r#"
[engine]
max_in_flight_records = 1
ageing_ms = 60000
[[pipelines]]
pipeline_id = "p"
stages = [
  { priority = 0, modules = [{ module_id = "a", topic_filters = [{ filter_type = "Exact", pattern = "urgent" }] }] },
  { priority = 9, modules = [{ module_id = "b", topic_filters = [{ filter_type = "Exact", pattern = "slow" }] }] },
]
"#;

#[test]
fn while_it_waits_for_room_a_batch_is_not_overtaken_in_its_partition() {
    let (gate, orchestrator) = Gate::start(TWO_CLASSES);
    let filler = orchestrator
        .submit_batch(&[record("slow", 0)])
        .expect("open");
    let first = orchestrator
        .submit_batch(&[record("slow", 1)])
        .expect("open");
    // As urgent as its most urgent record, but behind the first in a partition that they share.
    let second = orchestrator
        .submit_batch(&[record("urgent", 0), record("slow", 2)])
        .expect("open");
    gate.open();
    runtime().block_on(async {
        second.await.expect("running");
        first.await.expect("running");
        filler.await.expect("running");
        orchestrator.drain().await;
    });
    let seen = gate.seen();
    let at = |what: &str| seen.iter().position(|seen| seen == what).expect(what);
    assert!(at("b:slow/1") < at("b:slow/2"), "{seen:?}");
}

#[test]
fn a_batch_that_was_given_up_while_it_waited_keeps_nobody_out() {
    let text = format!("[engine]\nmax_in_flight_records = 4\n{}", one_module("m"));
    let (gate, orchestrator) = Gate::start(&text);
    let first = orchestrator
        .submit_batch(&[record("t", 0), record("t", 1)])
        .expect("open");
    let large: Vec<_> = (2..5).map(|offset| record("t", offset)).collect();
    drop(orchestrator.submit_batch(&large).expect("open"));
    // There is room for two more, and nobody before it who wants it.
    let second = orchestrator
        .try_process_batch(&[record("t", 5), record("t", 6)])
        .expect("room");
    gate.open();
    runtime().block_on(async {
        first.await.expect("running");
        second.await.expect("running");
    });
    assert_eq!(gate.seen().len(), 4, "what was given up was never begun");
}

/// Callers that wait no longer than they like, as all do who set a time, and come again.
#[test]
fn what_was_given_up_while_it_waited_is_not_kept_for_long() {
    let text = format!("[engine]\nmax_in_flight_records = 4\n{}", one_module("m"));
    let (gate, orchestrator) = Gate::start(&text);
    let all: Vec<_> = (0..4).map(|offset| record("t", offset)).collect();
    let first = orchestrator.submit_batch(&all).expect("open");
    let patient = orchestrator.submit_batch(&[record("t", 4)]).expect("open");
    for offset in 5..5_000 {
        drop(
            orchestrator
                .submit_batch(&[record("t", offset)])
                .expect("open"),
        );
    }
    let applying = orchestrator.stats().queue.applying;
    assert!(
        applying < 500,
        "{applying} of which nobody wants all but one"
    );
    gate.open();
    runtime().block_on(async {
        first.await.expect("running");
        patient.await.expect("running");
    });
    assert_eq!(gate.seen().len(), 5);
}

/// Whoever looks never sees more records come out than went in, where none are emitted.
#[test]
fn records_are_counted_before_a_module_sees_them() {
    let home: Arc<std::sync::OnceLock<std::sync::Weak<Orchestrator>>> = Arc::default();
    let inside = home.clone();
    let mut options = Options::default();
    options.lanes = Some(1);
    options.transforms = Some(TransformFor::new(move |_| {
        let home = inside.clone();
        Arc::new(move |view: &View| {
            let orchestrator = home.get().and_then(std::sync::Weak::upgrade);
            let totals = orchestrator.expect("running").stats().counts.totals;
            if totals.records_in > view.original().offset {
                Reply::Keep
            } else {
                Reply::Drop
            }
        })
    }));
    let orchestrator = Orchestrator::start(load(&one_module("m")), options).expect("good");
    home.set(Arc::downgrade(&orchestrator)).expect("once");
    let runtime = runtime();
    for offset in 0..300 {
        let outcome = runtime
            .block_on(orchestrator.process(record("t", offset)))
            .expect("running");
        assert_eq!(outcome.dropped, 0, "record {offset} was not counted");
    }

    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let streaming = std::thread::spawn({
        let (orchestrator, stop) = (orchestrator.clone(), stop.clone());
        move || {
            let mut lane = orchestrator.lane();
            let record = record("t", 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                lane.process(&record);
            }
        }
    });
    for _ in 0..3_000 {
        let totals = orchestrator.stats().counts.totals;
        assert!(totals.records_out <= totals.records_in, "{totals:?}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    streaming.join().expect("no panic");
}
