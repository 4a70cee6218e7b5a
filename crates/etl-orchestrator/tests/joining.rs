//! Small batches that wait are called for together, and nobody but the module can tell.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    FailureKind, LaneContext, Options, Orchestrator, Outcome, ProcessError, ProcessErrorKind,
    Record, Reply, Transform, TransformError, TransformFor, View,
};

/// Batches that wait while the first record stands in the module.
const WAITING: u64 = 300;

/// A module that waits at its first record until told to go on, and notes how many records each call is for.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    moved: Condvar,
    entered: AtomicUsize,
    calls: Mutex<Vec<usize>>,
    apart: bool,
}

struct AtTheGate(Arc<Gate>);

impl Transform for AtTheGate {
    fn call(&self, _: &mut LaneContext, records: &[&View], _: Instant, replies: &mut Vec<Reply>) {
        let gate = &self.0;
        gate.calls.lock().expect("not poisoned").push(records.len());
        gate.entered.fetch_add(1, Ordering::SeqCst);
        let mut open = gate.open.lock().expect("not poisoned");
        while !*open {
            open = gate.moved.wait(open).expect("not poisoned");
        }
        drop(open);
        replies.extend(records.iter().map(|view| answer(view)));
    }

    fn joins_batches(&self) -> bool {
        !self.0.apart
    }
}

/// By the offset: most are answered with their offset, some are dropped, some fail, some break the lane.
fn answer(view: &View) -> Reply {
    let offset = view.original().offset;
    assert!(offset != 251, "this record breaks its lane");
    match offset % 10 {
        3 => Reply::Drop,
        7 => Reply::Fail(TransformError::new(FailureKind::Module, "not this one").retryable(true)),
        8 => Reply::Keep,
        _ => Reply::Value(offset.to_string().into()),
    }
}

impl Gate {
    fn open(&self) {
        *self.open.lock().expect("not poisoned") = true;
        self.moved.notify_all();
    }

    /// Gives a record, and so many more as soon as it stands at the gate; lets all of them through. Answers what became of those, one by one, and of how
    /// many records each call was.
    fn run(
        apart: bool,
        strategy: &str,
        offsets: impl Iterator<Item = u64>,
    ) -> (Vec<Result<Outcome, ProcessError>>, Vec<usize>) {
        let gate = Arc::new(Self {
            apart,
            ..Self::default()
        });
        let held = gate.clone();
        let mut options = Options::default();
        options.lanes = Some(1);
        options.transforms = Some(TransformFor::new(move |_| {
            Arc::new(AtTheGate(held.clone()))
        }));
        let text = format!(
            "[[pipelines]]\npipeline_id = \"p\"\nerror_handling = \"{strategy}\"\n\
             stages = [{{ priority = 0, modules = [{{ module_id = \"m\" }}] }}]\n"
        );
        let loaded = load_text("etl.toml", &text, &LoadOptions::isolated())
            .unwrap_or_else(|report| panic!("{}", report.render(false)));
        let orchestrator = Orchestrator::start(loaded, options).expect("good");
        let give = |offset| {
            let record = Record {
                offset,
                partition: (offset % 3) as u32,
                ..Record::new("t", "as it was")
            };
            orchestrator.try_process(&Arc::new(record)).expect("room")
        };
        let first = give(0);
        while gate.entered.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let given: Vec<_> = offsets.map(give).collect();
        gate.open();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let outcomes = runtime.block_on(async {
            first.await.expect("running");
            let mut outcomes = Vec::new();
            for given in given {
                outcomes.push(given.await);
            }
            orchestrator.shutdown().await;
            outcomes
        });
        let calls = gate.calls.lock().expect("not poisoned").clone();
        (outcomes, calls)
    }
}

fn values(outcome: &Outcome) -> Vec<String> {
    let value = |view: &View| String::from_utf8_lossy(view.value()).into_owned();
    outcome.outputs.iter().map(value).collect()
}

#[test]
fn batches_that_wait_are_joined_and_each_gets_its_own_outcome() {
    let (outcomes, calls) = Gate::run(false, "SendToDeadLetter", 1..WAITING / 2);
    assert!(calls.iter().any(|&records| records > 1), "{calls:?}");
    for (offset, outcome) in (1..).zip(&outcomes) {
        let outcome = outcome.as_ref().expect("running");
        let (outputs, dropped, dead) = match offset % 10 {
            3 => (vec![], 1, 0),
            7 => (vec![], 0, 1),
            8 => (vec!["as it was".to_owned()], 0, 0),
            _ => (vec![offset.to_string()], 0, 0),
        };
        assert_eq!(values(outcome), outputs, "{offset}");
        assert_eq!(outcome.dropped, dropped, "{offset}");
        assert_eq!(outcome.dead_letters.len(), dead, "{offset}");
        for letter in &outcome.dead_letters {
            assert_eq!(letter.record.partition, (offset % 3) as u32);
        }
    }
}

#[test]
fn a_module_that_is_to_meet_one_batch_at_a_time_does() {
    let (outcomes, calls) = Gate::run(true, "SendToDeadLetter", 1..WAITING / 2);
    assert!(calls.iter().all(|&records| records == 1), "{calls:?}");
    assert!(outcomes.iter().all(Result::is_ok));
}

#[test]
fn what_waits_for_a_retry_goes_on_for_its_own_batch() {
    let (outcomes, calls) = Gate::run(false, "RetryWithBackoff", 1..60);
    assert!(calls.iter().any(|&records| records > 1), "{calls:?}");
    for (offset, outcome) in (1..).zip(&outcomes) {
        let outcome = outcome.as_ref().expect("running");
        match offset % 10 {
            // It is refused each time, and what entered goes on.
            7 => {
                assert!(outcome.retries > 0, "{offset}");
                assert_eq!(values(outcome), ["as it was"], "{offset}");
            }
            3 => assert_eq!(outcome.dropped, 1, "{offset}"),
            8 => assert_eq!(values(outcome), ["as it was"], "{offset}"),
            _ => assert_eq!(values(outcome), [offset.to_string()], "{offset}"),
        }
    }
}

#[test]
fn a_lane_that_breaks_tells_those_whose_records_it_had_and_no_others() {
    let (outcomes, calls) = Gate::run(false, "SendToDeadLetter", 1..WAITING);
    assert!(calls.iter().any(|&records| records > 1), "{calls:?}");
    let broken: Vec<u64> = (1..)
        .zip(&outcomes)
        .filter_map(|(offset, outcome)| {
            let error = outcome.as_ref().err()?;
            assert_eq!(error.kind(), ProcessErrorKind::Broken);
            Some(offset)
        })
        .collect();
    assert!(broken.contains(&251), "{broken:?}");
    let most = calls.iter().copied().max().unwrap_or(0);
    assert!(broken.len() <= most, "{broken:?}");
    assert!(
        broken.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{broken:?}"
    );
}
