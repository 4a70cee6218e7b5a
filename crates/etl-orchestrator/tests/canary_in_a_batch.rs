//! Both versions of a module share the time of one call where a batch has records for either: neither is blamed for what the other took.

use std::sync::Arc;
use std::time::Instant;

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    Clock, FailureKind, LaneContext, Options, Orchestrator, Record, Reply, Transform,
    TransformError, TransformFor, View,
};

/// Takes all the time of a call for more than one record, and none for one. Where there is no time it does nothing.
struct Slow(Clock);

impl Transform for Slow {
    fn call(
        &self,
        _: &mut LaneContext,
        records: &[&View],
        deadline: Instant,
        replies: &mut Vec<Reply>,
    ) {
        let mut left = deadline.saturating_duration_since(self.0.now());
        if records.len() > 1 {
            self.0.advance(left);
            left = std::time::Duration::ZERO;
        }
        replies.extend(records.iter().map(|_| {
            if left.is_zero() {
                Reply::Fail(TransformError::new(FailureKind::Timeout, "out of time"))
            } else {
                Reply::Keep
            }
        }));
    }
}

#[test]
fn a_canary_is_not_blamed_for_time_that_the_present_version_took() {
    let text = r#"
        [[modules]]
        id = "m"
        canary = { path = "new.wasm", percent = 1, max_error_increase = 0.0, min_samples = 1 }
        [[pipelines]]
        pipeline_id = "p"
        stages = [{ priority = 0, modules = [{ module_id = "m" }] }]
        "#;
    let loaded = load_text("etl.toml", text, &LoadOptions::isolated()).expect("it loads");
    let clock = Clock::manual();
    let mut options = Options::default();
    options.lanes = Some(1);
    options.clock = clock.clone();
    options.transforms = Some(TransformFor::new(move |_| Arc::new(Slow(clock.clone()))));
    let orchestrator = Orchestrator::start(loaded, options).expect("good");
    let mut lane = orchestrator.lane();
    let mut offset = 0;
    // Batches of which one record alone is the new version's are common at one in a hundred.
    for _ in 0..40 {
        let batch: Vec<Arc<Record>> = (0..32)
            .map(|_| {
                offset += 1;
                Arc::new(Record {
                    offset,
                    ..Record::new("t", "x")
                })
            })
            .collect();
        for progress in lane.process_batch(&batch) {
            assert_eq!(progress.done().expect("done").outputs.len(), 1);
        }
    }
    let canary = &orchestrator.canaries()[0];
    assert!(canary.canary.records > 0);
    assert_eq!((canary.canary.failed, canary.stable.failed), (0, 0));
    assert_eq!(canary.canary.records + canary.stable.records, offset);
    assert!(canary.running);
}
