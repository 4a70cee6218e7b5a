//! Dead letters of one record, to a sink that knows what it has by where it came from, as one with message ids does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use etl_broker_adapter::{
    AdapterError, BoxFuture, Ended, Origin, Outputs, Refused, Runner, RunnerOptions, Sink,
};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    FailureKind, Options, Orchestrator, Record, Reply, TransformError, TransformFor, View,
};

use crate::desk::{Log, Scripted, items};

/// Longer values are refused.
const MOST: usize = 2_000;

#[derive(Clone, Default)]
struct ById(
    Arc<Mutex<BTreeMap<Origin, Arc<Record>>>>,
    Vec<Refused>,
    usize,
);

impl Sink for ById {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        for output in outputs.iter() {
            let index = self.2;
            self.2 += 1;
            if output.record.value.len() > MOST {
                let reason = "it is too long".to_owned();
                self.1.push(Refused { index, reason });
                continue;
            }
            let mut stored = self.0.lock().expect("not poisoned");
            stored
                .entry(output.origin)
                .or_insert_with(|| output.record.clone());
        }
        Box::pin(async { Ok(()) })
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        self.2 = 0;
        Box::pin(async { Ok(std::mem::take(&mut self.1)) })
    }
}

const COPIES: &str = r#"
pipeline_id = "p"
error_handling = "SendToDeadLetter"

[[stages]]
priority = 0
continue_on_error = true
modules = [{ module_id = "fails" }]
"#;

/// The record is too long for the sink, and so is the copy of it that a failing module left: two letters, each cut down.
#[tokio::test]
async fn each_has_an_origin_of_its_own() {
    let loaded = load_text("etl.toml", COPIES, &LoadOptions::isolated()).expect("loads");
    let mut options = Options::default();
    options.transforms = Some(TransformFor::new(|_| {
        Arc::new(|_: &View| Reply::Fail(TransformError::new(FailureKind::Module, "no")))
    }));
    let engine = Orchestrator::start(loaded, options).expect("starts");
    let mut given = items(&[("t", "0")]);
    given[0].content = Ok(Arc::new(Record::new("t", "x".repeat(MOST + 1))));
    let sink = ById::default();
    let runner = Runner::new(
        engine,
        Box::new(Scripted {
            log: Log::default(),
            items: given.into(),
            then: Vec::new(),
        }),
        Box::new(sink.clone()),
        None,
        RunnerOptions::default(),
    );
    let counters = runner.counters();
    assert_eq!(runner.run().await.expect("runs"), Ended::AtTheEnd);
    assert_eq!(counters.read().dead_lettered, 2);
    let stored = sink.0.lock().expect("not poisoned");
    let mut kinds: Vec<String> = stored
        .values()
        .filter_map(|letter| letter.headers.first("etl-dlq-error"))
        .map(|kind| String::from_utf8_lossy(kind).into_owned())
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["Module", "Refused"]);
}
