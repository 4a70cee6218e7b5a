//! Whole runs, with the engine between: what goes in comes out, whatever the brokers do meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etl_broker_adapter::kafka::{KafkaSink, KafkaSinkOptions, KafkaSource};
use etl_broker_adapter::{Backoff, Counters, Runner, RunnerOptions, StopHandle};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::task::JoinHandle;

use super::cluster::{Cluster, LONG, number, pull, record, tokens};
use etl_broker_adapter::Source;

/// Runs from `in` to `out` until it is stopped.
async fn start(cluster: &Cluster, atomic: bool) -> (StopHandle, JoinHandle<()>) {
    let (stop, run, _) = start_with(cluster, atomic, |_| {}).await;
    (stop, run)
}

async fn start_with(
    cluster: &Cluster,
    atomic: bool,
    set: impl FnOnce(&mut RunnerOptions),
) -> (StopHandle, JoinHandle<()>, Arc<Counters>) {
    let loaded = load_text("etl.toml", "", &LoadOptions::isolated()).expect("loads");
    let mut engine = Options::default();
    engine.lanes = Some(1);
    let engine = Orchestrator::start(loaded, engine).expect("starts");
    let url = "/in?group=g&reconnect.backoff.max.ms=200";
    let source = KafkaSource::open(cluster.url(url), false, atomic).await;
    let options = KafkaSinkOptions {
        transactions: atomic,
        ..KafkaSinkOptions::default()
    };
    let url = "/out?group=g&message.timeout.ms=2000&reconnect.backoff.max.ms=200";
    let sink = KafkaSink::open(cluster.url(url), options).await;
    let mut options = RunnerOptions::default();
    options.atomic = atomic;
    options.in_flight_records = 2_000;
    options.backoff = Backoff {
        first: Duration::from_millis(50),
        limit: Duration::from_millis(500),
    };
    set(&mut options);
    let runner = Runner::new(
        engine,
        Box::new(source.expect("opens")),
        Box::new(sink.expect("opens")),
        None,
        options,
    );
    let (stop, counters) = (runner.stop_handle(), runner.counters());
    let run = tokio::spawn(async move {
        runner.run().await.expect("runs");
    });
    (stop, run, counters)
}

/// Reads `out` until every number below `count` was seen. Answers how often each partition's numbers came.
async fn seen(cluster: &Cluster, count: u32) -> BTreeMap<u32, Vec<u32>> {
    let mut source = cluster.source("/out?group=checker").await;
    let mut missing: std::collections::BTreeSet<u32> = (0..count).collect();
    let mut numbers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    while !missing.is_empty() {
        let items = pull(&mut source).await;
        for item in &items {
            missing.remove(&number(item));
            let of = numbers.entry(record(item).partition).or_default();
            of.push(number(item));
        }
        source.ack(&tokens(&items)).await.expect("takes note");
    }
    source.close().await.expect("closes");
    numbers
}

async fn stopped(stop: &StopHandle, run: JoinHandle<()>) {
    stop.stop();
    let ended = tokio::time::timeout(LONG, run).await;
    ended.expect("ends").expect("ends well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_fail_in_every_way_and_nothing_is_lost() {
    let cluster = Cluster::start(&[("in", 3), ("out", 3)]);
    cluster.fill("in", 3, 6_000).await;
    let (stop, run) = start(&cluster, false).await;
    let transport = RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT;
    for (key, error) in [
        (RDKafkaApiKey::Produce, transport),
        (
            RDKafkaApiKey::Produce,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        ),
        (RDKafkaApiKey::Fetch, transport),
        (
            RDKafkaApiKey::Fetch,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        ),
        (
            RDKafkaApiKey::OffsetCommit,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        ),
        (RDKafkaApiKey::Heartbeat, transport),
        (RDKafkaApiKey::Metadata, transport),
    ] {
        cluster.mock.request_errors(key, &[error; 3]);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    // All away, for longer than the producer holds on to a message.
    cluster.mock.broker_down(-1).expect("go down");
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.mock.broker_up(-1).expect("come up");
    cluster
        .mock
        .broker_round_trip_time(-1, Duration::from_millis(20))
        .expect("slows down");
    let numbers = seen(&cluster, 6_000).await;
    stopped(&stop, run).await;
    for (partition, numbers) in numbers {
        // What was written again begins again at some place; apart from that it is in order.
        let firsts: Vec<u32> = {
            let mut seen = std::collections::HashSet::new();
            numbers
                .iter()
                .copied()
                .filter(|number| seen.insert(*number))
                .collect()
        };
        let expected: Vec<u32> = (0..2_000).map(|n| n * 3 + partition).collect();
        assert_eq!(firsts, expected);
    }
    // Everything was acknowledged, so nothing comes again.
    assert_eq!(cluster.committed("g", "in", 3), [Some(2_000); 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_once_through_errors_that_pass() {
    let cluster = Cluster::start(&[("in", 3), ("out", 3)]);
    cluster.fill("in", 3, 3_000).await;
    let (stop, run) = start(&cluster, true).await;
    for key in [
        RDKafkaApiKey::EndTxn,
        RDKafkaApiKey::AddOffsetsToTxn,
        RDKafkaApiKey::TxnOffsetCommit,
    ] {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
        cluster.mock.request_errors(key, &[error; 2]);
    }
    let numbers = seen(&cluster, 3_000).await;
    stopped(&stop, run).await;
    for (partition, numbers) in numbers {
        let expected: Vec<u32> = (0..1_000).map(|n| n * 3 + partition).collect();
        assert_eq!(numbers, expected);
    }
}

/// Stopped in the middle with no time to finish what is in flight, and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stopped_with_records_in_flight_loses_none() {
    let cluster = Cluster::start(&[("in", 3), ("out", 3)]);
    cluster.fill("in", 3, 3_000).await;
    let (stop, run, counters) = start_with(&cluster, false, |options| {
        options.batch = 7;
        options.in_flight_records = 200;
        options.shutdown_grace = Duration::ZERO;
    })
    .await;
    while counters.read().records_in < 700 && !run.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stopped(&stop, run).await;
    let counts = counters.read();
    assert!(counts.records_in < 3_000, "it was over before");
    assert!(counts.given_back > 0, "nothing was in flight");
    let (stop, run) = start(&cluster, false).await;
    seen(&cluster, 3_000).await;
    stopped(&stop, run).await;
    assert_eq!(cluster.committed("g", "in", 3), [Some(1_000); 3]);
}
