//! Spans: pipeline, stage and module around each call, with the record that they are about; and none where nobody listens.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    FailureKind, Options, Orchestrator, Record, Reply, TransformError, TransformFor, View,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes down which spans are entered and what is said in them.
#[derive(Clone)]
struct Listener {
    most: Level,
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<String>>>,
    depth: Arc<AtomicU64>,
}

impl Listener {
    fn up_to(most: Level) -> Self {
        Self {
            most,
            lines: Arc::default(),
            spans: Arc::default(),
            depth: Arc::default(),
        }
    }

    fn line(&self, text: &str) {
        let depth = usize::try_from(self.depth.load(Ordering::Relaxed)).expect("small");
        let line = format!("{:depth$}{text}", "");
        self.lines.lock().expect("not poisoned").push(line);
    }
}

/// What a span or an event carries, as text.
#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most && metadata.target().starts_with("etl_orchestrator")
            || metadata.target() == "test"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let mut spans = self.spans.lock().expect("not poisoned");
        spans.push(format!("{}{}", span.metadata().name(), fields.0));
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Values<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.line(&format!("event{}", fields.0));
    }

    fn enter(&self, id: &Id) {
        let place = usize::try_from(id.into_u64()).expect("small") - 1;
        let span = self.spans.lock().expect("not poisoned")[place].clone();
        self.line(&span);
        self.depth.fetch_add(1, Ordering::Relaxed);
    }

    fn exit(&self, _: &Id) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

const TWO_STAGES: &str = r#"
[[pipelines]]
pipeline_id = "p"
stages = [
  { priority = 0, modules = [{ module_id = "a" }] },
  { priority = 7, modules = [{ module_id = "b" }, { module_id = "drop" }] },
]
"#;

/// What a listener hears of a batch of two records.
fn heard(most: Level) -> Vec<String> {
    let loaded = load_text("etl.toml", TWO_STAGES, &LoadOptions::isolated()).expect("it loads");
    let mut options = Options::default();
    options.lanes = Some(1);
    options.transforms = Some(TransformFor::new(|usage| {
        let name = usage.module_id.clone();
        Arc::new(move |view: &View| {
            if name == "b" && view.original().offset == 41 {
                tracing::info!(target: "test", "inside");
            }
            match name.as_str() {
                "drop" if view.original().offset == 40 => Reply::Drop,
                _ => Reply::Keep,
            }
        })
    }));
    let orchestrator = Orchestrator::start(loaded, options).expect("good");
    let listener = Listener::up_to(most);
    let lines = listener.lines.clone();
    tracing::subscriber::with_default(listener, || {
        let mut lane = orchestrator.lane();
        let records: Vec<_> = (40..42)
            .map(|offset| {
                Arc::new(Record {
                    partition: 3,
                    offset,
                    ..Record::new("t", "x")
                })
            })
            .collect();
        lane.process_batch(&records);
    });
    let lines = lines.lock().expect("not poisoned");
    lines.clone()
}

#[test]
fn each_call_stands_in_its_stage_and_its_pipeline_with_its_records() {
    assert_eq!(
        heard(Level::DEBUG),
        [
            "pipeline pipeline=p generation=1 topic=t partition=3 offset=40 records=2",
            " stage priority=0 records=2",
            "  module module=a partition=3 offset=40 records=2",
            "pipeline pipeline=p generation=1 topic=t partition=3 offset=40 records=2",
            " stage priority=7 records=2",
            "  module module=b partition=3 offset=40 records=2",
            "   event message=inside",
            "  module module=drop partition=3 offset=40 records=2",
        ]
    );
    // Whoever wants less is not given more.
    assert_eq!(heard(Level::INFO), ["event message=inside"]);
}

/// What is said of a record that fails, processed or only explained.
fn said_of_a_failure(explained: bool) -> Vec<String> {
    let text = r#"
        [[pipelines]]
        pipeline_id = "p"
        error_handling = "SendToDeadLetter"
        stages = [{ priority = 0, modules = [{ module_id = "m" }] }]
        "#;
    let loaded = load_text("etl.toml", text, &LoadOptions::isolated()).expect("it loads");
    let mut options = Options::default();
    options.lanes = Some(1);
    options.transforms = Some(TransformFor::new(|_| {
        Arc::new(|_: &View| Reply::Fail(TransformError::new(FailureKind::Trap, "it trapped")))
    }));
    let orchestrator = Orchestrator::start(loaded, options).expect("good");
    let listener = Listener::up_to(Level::WARN);
    let lines = listener.lines.clone();
    tracing::subscriber::with_default(listener, || {
        let record = Arc::new(Record::new("t", "x"));
        let outcome = if explained {
            orchestrator.process_traced(&record).0
        } else {
            let progress = orchestrator.lane().process(&record);
            progress.done().expect("done")
        };
        assert_eq!(outcome.dead_letters.len(), 1);
    });
    let lines = lines.lock().expect("not poisoned");
    lines.clone()
}

#[test]
fn only_a_record_that_goes_to_a_dead_letter_topic_is_said_to() {
    assert_eq!(said_of_a_failure(false).len(), 1);
    assert_eq!(said_of_a_failure(true), Vec::<String>::new());
}
