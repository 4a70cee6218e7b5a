//! The interceptor as a broker uses it: what it is told to do with each record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use etl_broker_adapter::{Disposition, Interceptor};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    FailureKind, Options, Orchestrator, Record, Reply, TransformError, TransformFor, View,
};

/// An engine with one module, which does what the first byte of a value says.
fn engine(error_handling: &str) -> Arc<Orchestrator> {
    let text = format!(
        r#"
pipeline_id = "p"
error_handling = "{error_handling}"
stages = [{{ priority = 0, modules = [{{ module_id = "m", topic_filters = [{{ filter_type = "Prefix", pattern = "t" }}] }}] }}]
"#
    );
    let loaded = load_text("p.toml", &text, &LoadOptions::isolated()).expect("loads");
    let failed_once = Arc::new(AtomicBool::new(false));
    let mut options = Options::default();
    options.lanes = Some(1);
    options.transforms = Some(TransformFor::new(move |_| {
        let failed_once = failed_once.clone();
        Arc::new(move |record: &View| match record.value().first() {
            Some(b'c') => Reply::Value("changed".into()),
            Some(b'd') => Reply::Drop,
            Some(b'f') => Reply::Fail(TransformError::new(FailureKind::Module, "no")),
            Some(b'r') if !failed_once.swap(true, Ordering::Relaxed) => {
                Reply::Fail(TransformError::new(FailureKind::Module, "later").retryable(true))
            }
            _ => Reply::Keep,
        })
    }));
    Orchestrator::start(loaded, options).expect("starts")
}

fn record(topic: &str, value: &'static str) -> Arc<Record> {
    Arc::new(Record::new(topic, value))
}

/// What to forward and what to dead-letter, as text.
fn settled(disposition: Disposition) -> (Vec<Arc<Record>>, Vec<String>) {
    match disposition {
        Disposition::Settled {
            forward,
            dead_letters,
        } => {
            let letters = dead_letters.iter();
            (
                forward.into_iter().map(View::into_record).collect(),
                letters
                    .map(|letter| letter.record.topic.to_string())
                    .collect(),
            )
        }
        waits => panic!("{waits:?}"),
    }
}

#[test]
fn what_nothing_changed_is_the_very_same_record() {
    let engine = engine("StopPipeline");
    let mut interceptor = Interceptor::new(engine.lane());
    for record in [record("other", "c"), record("t", "keep")] {
        let (forward, letters) = settled(interceptor.on_record(&record));
        assert!(Arc::ptr_eq(&forward[0], &record) && forward.len() == 1 && letters.is_empty());
    }
}

#[test]
fn a_batch_is_answered_in_its_order() {
    let engine = engine("SendToDeadLetter");
    let mut interceptor = Interceptor::new(engine.lane());
    let batch = [
        record("t", "c"),
        record("t", "d"),
        record("t", "f"),
        record("other", "f"),
    ];
    let answers: Vec<_> = interceptor.on_batch(&batch).map(settled).collect();
    let values: Vec<Vec<&[u8]>> = answers
        .iter()
        .map(|(forward, _)| forward.iter().map(|record| &record.value[..]).collect())
        .collect();
    assert_eq!(values, [vec![&b"changed"[..]], vec![], vec![], vec![b"f"]]);
    let letters: Vec<_> = answers.iter().flat_map(|(_, letters)| letters).collect();
    assert_eq!(letters, ["t.dlq"]);
}

#[test]
fn a_retry_is_handed_back_with_its_time() {
    let engine = engine("RetryWithBackoff");
    let mut interceptor = Interceptor::new(engine.lane());
    let record = record("t", "r");
    let Disposition::Deferred(deferred) = interceptor.on_record(&record) else {
        panic!("a failure that can be retried waits for its time");
    };
    std::thread::sleep(
        deferred
            .resume_at()
            .saturating_duration_since(std::time::Instant::now()),
    );
    let (forward, letters) = settled(interceptor.resume(deferred));
    assert!(Arc::ptr_eq(&forward[0], &record) && letters.is_empty());
}
