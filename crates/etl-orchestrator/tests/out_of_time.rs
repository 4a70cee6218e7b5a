//! What a guest that spins costs those around it: its batch, its lane and the other lanes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    Clock, FailureKind, LaneContext, Options, Orchestrator, Record, Reply, Transform,
    TransformError, TransformFor, View,
};

const LIMIT: Duration = Duration::from_millis(100);

/// Like a guest that is given a whole batch as one frame: where a record of it spins, none is finished in time.
struct Spins(Clock);

impl Transform for Spins {
    fn call(
        &self,
        _: &mut LaneContext,
        records: &[&View],
        deadline: Instant,
        replies: &mut Vec<Reply>,
    ) {
        if records.iter().any(|record| record.value() == "spin") {
            let left = deadline.saturating_duration_since(self.0.now());
            self.0.advance(left);
            let error = TransformError::new(FailureKind::Timeout, "stopped at its deadline");
            replies.extend(records.iter().map(|_| Reply::Fail(error.clone())));
        }
    }
}

fn start(strategy: &str) -> (Arc<Orchestrator>, Clock) {
    let text = format!(
        "[[pipelines]]\npipeline_id = \"p\"\nerror_handling = \"{strategy}\"\n\
         stages = [{{ priority = 0, modules = [{{ module_id = \"m\", instance_config = {{ execution_timeout_ms = {} }} }}] }}]\n",
        LIMIT.as_millis()
    );
    let loaded = load_text("etl.toml", &text, &LoadOptions::isolated()).expect("it loads");
    let clock = Clock::manual();
    let mut options = Options::default();
    options.lanes = Some(1);
    options.clock = clock.clone();
    let held = clock.clone();
    options.transforms = Some(TransformFor::new(move |_| Arc::new(Spins(held.clone()))));
    (Orchestrator::start(loaded, options).expect("good"), clock)
}

fn batch(spinning: &[usize]) -> Vec<Arc<Record>> {
    let value = |index| {
        if spinning.contains(&index) {
            "spin"
        } else {
            "."
        }
    };
    (0..64)
        .map(|index| {
            Arc::new(Record {
                offset: index as u64,
                ..Record::new("t", value(index))
            })
        })
        .collect()
}

#[test]
fn a_record_that_spins_costs_its_lane_its_time_twice_however_large_the_batch() {
    for spinning in [&[0][..], &[37], &[63], &[5, 40]] {
        let (orchestrator, clock) = start("SendToDeadLetter");
        let mut lane = orchestrator.lane();
        let before = clock.now();
        let outcomes = lane.process_batch(&batch(spinning));
        let cost = u32::try_from(spinning.len()).expect("few") + 1;
        assert_eq!(clock.now() - before, LIMIT * cost, "{spinning:?}");
        for (index, progress) in outcomes.into_iter().enumerate() {
            let outcome = progress.done().expect("nothing is deferred");
            let letters: Vec<FailureKind> = outcome
                .dead_letters
                .iter()
                .map(etl_orchestrator::DeadLetter::kind)
                .collect();
            let expected: &[FailureKind] = if spinning.contains(&index) {
                &[FailureKind::Timeout]
            } else {
                &[]
            };
            assert_eq!(letters, expected, "{spinning:?}, record {index}");
        }
    }
}
