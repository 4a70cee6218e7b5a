//! What the tests work with: a server with a stream, sources and sinks on it, a runner between them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use etl_broker_adapter::nats::{NatsSink, NatsSource, NatsUrl};
use etl_broker_adapter::{
    AdapterError, Counters, Demand, Ended, Item, Origin, Output, PartitionKey, Pulled, Runner,
    RunnerOptions, Sink, Source, StopHandle,
};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};

/// Longer than anything takes, even where everything is slow.
pub const LONG: Duration = Duration::from_secs(60);

pub fn url(text: &str) -> NatsUrl {
    NatsUrl::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

pub async fn source(text: &str) -> NatsSource {
    let source = NatsSource::open(url(text), true).await;
    source.unwrap_or_else(|error| panic!("{error}"))
}

pub async fn sink(text: &str) -> NatsSink {
    let sink = NatsSink::open(url(text), "test", true).await;
    sink.unwrap_or_else(|error| panic!("{error}"))
}

/// One that makes no stream.
pub async fn sink_as_is(text: &str) -> NatsSink {
    let sink = NatsSink::open(url(text), "test", false).await;
    sink.unwrap_or_else(|error| panic!("{error}"))
}

/// Records as outputs of a source, at positions from `first` on.
pub fn outputs(first: u64, records: impl IntoIterator<Item = Record>) -> Arc<[Output]> {
    let outputs = records
        .into_iter()
        .zip(first..)
        .map(|(record, position)| Output {
            record: Arc::new(record),
            origin: Origin {
                partition: PartitionKey(7),
                position,
                index: 0,
            },
        });
    outputs.collect()
}

/// Writes records and has them confirmed.
pub async fn write(text: &str, records: impl IntoIterator<Item = Record>) {
    let mut sink = sink(text).await;
    sink.write(outputs(0, records))
        .await
        .expect("they can be written");
    let refused = sink.confirm().await.expect("they can be confirmed");
    assert_eq!(refused, []);
}

/// `orders.0` to `orders.3`, with numbers as values.
pub fn numbered(range: std::ops::Range<u64>) -> impl Iterator<Item = Record> {
    range.map(|number| Record::new(format!("orders.{}", number % 4), number.to_string()))
}

pub fn number(record: &Record) -> u64 {
    let text = std::str::from_utf8(&record.value).expect("a number");
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no number"))
}

/// What comes within a time, at most `most`.
pub async fn pull_within(source: &mut dyn Source, most: usize, time: Duration) -> Vec<Item> {
    let paused = HashSet::new();
    let mut items = Vec::new();
    let until = tokio::time::Instant::now() + time;
    while items.len() < most {
        let demand = Demand {
            records: most - items.len(),
            bytes: usize::MAX,
            paused: &paused,
        };
        match tokio::time::timeout_at(until, source.pull(demand)).await {
            Err(_) => break,
            Ok(Ok(Pulled::Batch(batch))) => items.extend(batch.items),
            Ok(Ok(other)) => panic!("{other:?}"),
            Ok(Err(error)) => panic!("{error}"),
        }
    }
    items
}

/// Exactly so many, however long it takes.
pub async fn pull(source: &mut dyn Source, count: usize) -> Vec<Item> {
    let items = pull_within(source, count, LONG).await;
    assert_eq!(items.len(), count);
    items
}

pub fn record(item: &Item) -> &Record {
    item.content.as_ref().expect("a record")
}

/// An engine that nothing selects: what goes in comes out.
pub fn engine() -> Arc<Orchestrator> {
    let text = "[[pipelines]]\npipeline_id = \"p\"\n[[pipelines.stages]]\npriority = 0\n[[pipelines.stages.modules]]\nmodule_id = \"m\"\n";
    let loaded = load_text("etl.toml", text, &LoadOptions::isolated()).expect("a configuration");
    let mut options = Options::default();
    options.lanes = Some(1);
    options.transforms = Some(etl_orchestrator::TransformFor::new(|_| {
        Arc::new(|_: &etl_orchestrator::View| etl_orchestrator::Reply::Keep)
    }));
    Orchestrator::start(loaded, options).expect("it starts")
}

/// A worker from one URL to another.
pub struct Worker {
    stop: StopHandle,
    pub counters: Arc<Counters>,
    running: tokio::task::JoinHandle<Result<Ended, AdapterError>>,
}

impl Worker {
    pub async fn start(from: &str, to: &str) -> Self {
        Self::start_with(from, to, |_| {}).await
    }

    pub async fn start_with(from: &str, to: &str, set: impl FnOnce(&mut RunnerOptions)) -> Self {
        let mut options = RunnerOptions::default();
        set(&mut options);
        let runner = Runner::new(
            engine(),
            Box::new(source(from).await),
            Box::new(sink(to).await),
            None,
            options,
        );
        let (stop, counters) = (runner.stop_handle(), runner.counters());
        let running = tokio::spawn(runner.run());
        Self {
            stop,
            counters,
            running,
        }
    }

    pub fn runs(&self) -> bool {
        !self.running.is_finished()
    }

    /// Stops as on SIGTERM.
    pub async fn stop(self) -> Result<Ended, AdapterError> {
        self.stop.stop();
        let ended = tokio::time::timeout(LONG, self.running).await;
        ended.expect("it stops").expect("it does not panic")
    }

    /// Vanishes as on SIGKILL: nothing is said to anybody.
    pub fn kill(self) {
        self.running.abort();
    }

    /// How it ends by itself.
    pub async fn ends(self) -> Result<Ended, AdapterError> {
        let ended = tokio::time::timeout(LONG, self.running).await;
        ended.expect("it ends").expect("it does not panic")
    }
}

/// Everything in a stream so far, once there are at least `count`; in its order.
pub async fn contents(text: &str, count: usize) -> Vec<Record> {
    let mut reader = source(&format!("{text}&consumer=reader-{}", unique())).await;
    let mut records: Vec<Record> = Vec::new();
    let until = tokio::time::Instant::now() + LONG;
    loop {
        let enough = records.len() >= count;
        let time = if enough {
            Duration::from_millis(300)
        } else {
            Duration::from_secs(1)
        };
        let items = pull_within(&mut reader, 1_000, time).await;
        if items.is_empty() && enough {
            break;
        }
        assert!(
            tokio::time::Instant::now() < until,
            "only {} of {count} are there",
            records.len()
        );
        let tokens: Vec<_> = items.iter().map(|item| item.token).collect();
        reader.ack(&tokens).await.expect("noted");
        records.extend(items.iter().map(|item| record(item).clone()));
    }
    records.sort_by_key(|record| record.offset);
    records
}

/// Every number from 0 once, each subject in order.
#[track_caller]
pub fn all_once_in_order(records: &[Record], count: u64) {
    all_once(records, count);
    for subject in 0..4 {
        let of_it = records
            .iter()
            .map(number)
            .filter(|number| number % 4 == subject);
        assert!(of_it.is_sorted(), "subject {subject} is out of order");
    }
}

/// Every number from 0 once.
#[track_caller]
pub fn all_once(records: &[Record], count: u64) {
    let mut numbers: Vec<u64> = records.iter().map(number).collect();
    numbers.sort_unstable();
    let missing: Vec<u64> = (0..count)
        .filter(|number| numbers.binary_search(number).is_err())
        .collect();
    assert!(
        missing.is_empty(),
        "{} are lost: {missing:?}",
        missing.len()
    );
    let before = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), before, "some came twice");
    assert_eq!(numbers.len() as u64, count);
}

fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
