//! Several workers on one consumer.

use std::collections::HashMap;
use std::time::Duration;

use etl_broker_adapter::Source;

use crate::desk::{self, Worker, numbered, pull_within, record};
use crate::nats_server::NatsServer;

/// Two and four share the work, and the records of one that is killed move to the others.
async fn shared_by(count: usize) {
    const RECORDS: u64 = 8_000;
    let Some(server) = NatsServer::start("several workers on NATS") else {
        return;
    };
    let (from, to) = (
        server.url("IN?subject=orders.>&ack-wait=2s&prefetch=500"),
        server.url("OUT?prefix=out"),
    );
    desk::write(&from, numbered(0..RECORDS)).await;
    let mut workers = Vec::new();
    for _ in 0..count {
        workers.push(Worker::start(&from, &to).await);
    }
    let _ = desk::contents(&to, 1_000).await;
    workers.pop().expect("one").kill();
    let records = desk::contents(&to, usize::try_from(RECORDS).expect("a number")).await;
    desk::all_once(&records, RECORDS);
    for worker in workers {
        worker.stop().await.expect("no error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_share_the_work_and_one_is_killed() {
    shared_by(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_share_the_work_and_one_is_killed() {
    shared_by(4).await;
}

/// Stopped in the middle with no time to finish what is in flight, and started again until all has come. What was given back comes at once and not after the ack wait, which would
/// be too late here.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_stopped_with_records_in_flight_loses_none() {
    const RECORDS: u64 = 3_000;
    let Some(server) = NatsServer::start("a stopped worker on NATS") else {
        return;
    };
    let (from, to) = (
        server.url("IN?subject=orders.>&ack-wait=10m&prefetch=500"),
        server.url("OUT?prefix=out"),
    );
    desk::write(&from, numbered(0..RECORDS)).await;
    let mut given_back = 0;
    for _ in 0..6 {
        let worker = Worker::start_with(&from, &to, |options| {
            options.batch = 7;
            options.in_flight_records = 200;
            options.shutdown_grace = Duration::ZERO;
        });
        let worker = worker.await;
        while worker.counters.read().records_in < 200 && worker.runs() {
            tokio::task::yield_now().await;
        }
        let counters = worker.counters.clone();
        worker.stop().await.expect("no error");
        given_back += counters.read().given_back;
    }
    assert!(given_back > 0, "nothing was in flight");
    let worker = Worker::start(&from, &to).await;
    let records = desk::contents(&to, usize::try_from(RECORDS).expect("a number")).await;
    desk::all_once(&records, RECORDS);
    worker.stop().await.expect("no error");
}

/// What one holds the others do not get, and each subject comes to one reader in the order of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn each_gets_some_in_order() {
    let Some(server) = NatsServer::start("sharing of NATS") else {
        return;
    };
    let url = server.url("SHARED?prefix=s&prefetch=50");
    desk::write(&url, numbered(0..400)).await;
    let mut readers = [desk::source(&url).await, desk::source(&url).await];
    let mut seen: HashMap<u64, usize> = HashMap::new();
    let mut counts = [0_usize; 2];
    let mut last = [[None; 4]; 2];
    while seen.len() < 400 {
        for (reader, source) in readers.iter_mut().enumerate() {
            let items = pull_within(source, 25, Duration::from_millis(200)).await;
            for item in &items {
                let number = desk::number(record(item));
                assert_eq!(seen.insert(number, reader), None, "{number} came to both");
                let subject = usize::try_from(number % 4).expect("small");
                assert!(last[reader][subject] < Some(number));
                last[reader][subject] = Some(number);
            }
            counts[reader] += items.len();
            let tokens: Vec<_> = items.iter().map(|item| item.token).collect();
            source.ack(&tokens).await.expect("noted");
        }
    }
    assert!(counts.iter().all(|count| *count >= 50), "{counts:?}");
}
