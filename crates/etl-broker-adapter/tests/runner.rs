//! The runner between sources and sinks that note what is asked of them: order, confirmation before acknowledgement, what
//! happens when either side fails, and stopping.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use etl_broker_adapter::{
    AckToken, AdapterError, AdapterErrorKind, BoxFuture, Ended, InvalidRecord, Item, Pulled,
    Runner, RunnerOptions, Sink, Source, StopHandle,
};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};

/// Everything that happened, in its order.
type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.lock().expect("not poisoned").push(what.into());
}

/// Gives out what it was given, then does as told.
struct Scripted {
    log: Log,
    items: VecDeque<Item>,
    then: Then,
}

enum Then {
    End,
    Fail,
    WaitForEver,
}

impl Source for Scripted {
    fn pull(&mut self, max: usize) -> BoxFuture<'_, Result<Option<Pulled>, AdapterError>> {
        Box::pin(async move {
            if !self.items.is_empty() {
                let count = max.min(self.items.len());
                let items = self.items.drain(..count).collect();
                return Ok(Some(Pulled {
                    items,
                    bytes_read: 0,
                }));
            }
            match self.then {
                Then::End => Ok(None),
                Then::Fail => Err(failure("source")),
                Then::WaitForEver => std::future::pending().await,
            }
        })
    }

    fn ack(&mut self, tokens: &[AckToken]) -> BoxFuture<'_, Result<(), AdapterError>> {
        for token in tokens {
            note(&self.log, format!("ack {}", token.0));
        }
        Box::pin(async { Ok(()) })
    }
}

/// Notes what it is given; fails at the value that it was told.
struct Noting {
    log: Log,
    name: &'static str,
    fails_at: Option<&'static str>,
}

impl Sink for Noting {
    fn write(&mut self, records: Vec<Arc<Record>>) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async move {
            for record in records {
                let value = String::from_utf8_lossy(&record.value).into_owned();
                if self.fails_at == Some(&*value) {
                    return Err(failure("sink"));
                }
                note(&self.log, format!("{} {} {value}", self.name, record.topic));
            }
            Ok(())
        })
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        note(&self.log, format!("{} confirm", self.name));
        Box::pin(async { Ok(()) })
    }
}

fn failure(of: &str) -> AdapterError {
    AdapterError::new(AdapterErrorKind::Io, format!("the {of} failed"))
}

fn items(values: impl IntoIterator<Item = &'static str>) -> VecDeque<Item> {
    values
        .into_iter()
        .zip(0..)
        .map(|(value, token)| Item {
            token: AckToken(token),
            content: match value {
                "?" => Err(InvalidRecord {
                    place: "somewhere:1".to_owned(),
                    message: "not a record".to_owned(),
                    bytes: Bytes::from_static(b"?"),
                    length: 1,
                    offset: token,
                }),
                value => Ok(Arc::new(Record::new("t", value))),
            },
        })
        .collect()
}

/// A runner over an engine that lets everything pass.
fn runner(
    log: &Log,
    source: (VecDeque<Item>, Then),
    fails_at: Option<&'static str>,
    apart: bool,
) -> Runner {
    let loaded = load_text("etl.toml", "", &LoadOptions::isolated()).expect("loads");
    let engine = Orchestrator::start(loaded, Options::default()).expect("starts");
    let sink = |name| Noting {
        log: log.clone(),
        name,
        fails_at,
    };
    let (items, then) = source;
    Runner::new(
        engine,
        Box::new(Scripted {
            log: log.clone(),
            items,
            then,
        }),
        Box::new(sink("out")),
        apart.then(|| Box::new(sink("failed")) as Box<dyn Sink>),
        RunnerOptions {
            batch: 2,
            batches_in_flight: 3,
            invalid_topic: "invalid.dlq".into(),
        },
    )
}

fn logged(log: &Log) -> Vec<String> {
    log.lock().expect("not poisoned").clone()
}

const VALUES: [&str; 7] = ["0", "1", "?", "3", "4", "5", "6"];

#[tokio::test]
async fn everything_is_written_in_order_and_acknowledged_after_its_confirmation() {
    let log = Log::default();
    let runner = runner(&log, (items(VALUES), Then::End), None, false);
    let counters = runner.counters();
    assert_eq!(runner.run().await.expect("runs"), Ended::AtTheEnd);
    let counts = counters.read();
    assert_eq!(
        (counts.records_in, counts.records_out, counts.dead_lettered),
        (7, 6, 1)
    );

    let log = logged(&log);
    let of = |prefix: &str| -> Vec<&str> {
        log.iter()
            .filter_map(|line| line.strip_prefix(prefix))
            .collect()
    };
    assert_eq!(of("out t "), ["0", "1", "3", "4", "5", "6"]);
    assert_eq!(of("ack "), ["0", "1", "2", "3", "4", "5", "6"]);
    let place = |line: &str| {
        log.iter()
            .position(|other| other == line)
            .expect("it happened")
    };
    assert!(
        place("out t 1") < place("out invalid.dlq ?")
            && place("out invalid.dlq ?") < place("out t 3")
    );
    for (value, token) in [("out t 0", 0), ("out invalid.dlq ?", 2), ("out t 6", 6)] {
        let acknowledged = place(&format!("ack {token}"));
        let between = &log[place(value)..acknowledged];
        assert!(between.iter().any(|line| line == "out confirm"), "{log:#?}");
    }
}

#[tokio::test]
async fn both_sinks_confirm_before_anything_is_acknowledged() {
    let log = Log::default();
    runner(&log, (items(VALUES), Then::End), None, true)
        .run()
        .await
        .expect("runs");
    let log = logged(&log);
    assert!(log.contains(&"failed invalid.dlq ?".to_owned()), "{log:#?}");
    for (index, _) in log
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with("ack"))
    {
        let before = log[..index]
            .iter()
            .rev()
            .find(|line| !line.starts_with("ack"));
        assert_eq!(
            before.map(String::as_str),
            Some("failed confirm"),
            "{log:#?}"
        );
    }
}

#[tokio::test]
async fn a_source_that_fails_is_reported_when_all_that_it_gave_is_safe() {
    let log = Log::default();
    let runner = runner(&log, (items(VALUES), Then::Fail), None, false);
    let error = runner.run().await.expect_err("the source failed");
    assert_eq!(error.to_string(), "the source failed");
    let log = logged(&log);
    assert!(log.contains(&"ack 6".to_owned()), "{log:#?}");
}

#[tokio::test]
async fn a_sink_that_fails_ends_the_run_and_nothing_unsafe_is_acknowledged() {
    let log = Log::default();
    let runner = runner(&log, (items(VALUES), Then::WaitForEver), Some("4"), false);
    let counters = runner.counters();
    let error = runner.run().await.expect_err("the sink failed");
    assert_eq!(error.to_string(), "the sink failed");
    let log = logged(&log);
    for token in 4..7 {
        assert!(!log.contains(&format!("ack {token}")), "{log:#?}");
    }
    assert!(counters.read().records_out <= 3);
}

#[tokio::test]
async fn a_stopped_runner_finishes_what_it_has() {
    let log = Log::default();
    let runner = runner(&log, (items(VALUES), Then::WaitForEver), None, false);
    let stop: StopHandle = runner.stop_handle();
    let counters = runner.counters();
    let running = tokio::spawn(runner.run());
    while counters.read().records_out < 6 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.stop();
    assert_eq!(
        running.await.expect("no panic").expect("runs"),
        Ended::Stopped
    );
    assert!(logged(&log).contains(&"ack 6".to_owned()));
}
