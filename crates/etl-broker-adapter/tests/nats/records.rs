//! Records as messages, and acknowledgements.

use std::time::Duration;

use bytes::Bytes;
use etl_broker_adapter::embedded::{Append, Log, OpenOptions};
use etl_broker_adapter::nats::NatsBroker;
use etl_broker_adapter::{Broker, Ended, From, RunUrls, Runner, RunnerOptions, Sink, Source, open};
use etl_orchestrator::Record;

use crate::desk::{self, LONG, Worker, numbered, outputs, pull, pull_within, record};
use crate::nats_server::NatsServer;

/// Both servers carry everything that a record may have and NATS can carry.
async fn a_record_comes_back(server: NatsServer) {
    let url = server.url("ALL?prefix=all");
    let mut whole = Record::new("orders.new", &b"\x00\xffraw"[..]);
    whole.key = Some(Bytes::from_static(b"\xfe key"));
    whole.timestamp = Some(1_517_363_399_650);
    whole.headers.add("trace".into(), "a".into());
    whole.headers.add("trace".into(), "b".into());
    whole.headers.add("empty".into(), "".into());
    let mut empty = Record::new("orders.empty", "");
    empty.key = Some(Bytes::new());
    let big = Record::new("orders.big", vec![7_u8; 900 * 1024]);
    desk::write(&url, [whole.clone(), empty, big]).await;

    let mut source = desk::source(&url).await;
    let items = pull(&mut source, 3).await;
    let came = record(&items[0]);
    assert_eq!(*came.topic, *"orders.new");
    assert_eq!(came.value, whole.value);
    assert_eq!(came.key, whole.key);
    assert_eq!(came.timestamp, whole.timestamp);
    let traces: Vec<&Bytes> = came.headers.all("trace").collect();
    assert_eq!(traces, ["a", "b"]);
    assert_eq!(came.headers.first("empty"), Some(&b""[..]));
    assert_eq!(came.headers.len(), 3);
    assert_eq!(
        (came.offset, items[0].position, items[0].redelivered),
        (1, 1, 0)
    );
    assert_eq!(record(&items[1]).key, Some(Bytes::new()));
    assert!(record(&items[1]).value.is_empty());
    assert!(
        record(&items[1])
            .timestamp
            .is_some_and(|time| time > 1_600_000_000_000)
    );
    assert_eq!(record(&items[2]).value.len(), 900 * 1024);
    assert_ne!(items[0].partition, items[1].partition);
    let lag = source
        .lag()
        .await
        .expect("it is known")
        .expect("it is known");
    assert_eq!(lag.records, 3);
    let tokens: Vec<_> = items.iter().map(|item| item.token).collect();
    source.ack(&tokens).await.expect("noted");
    source.close().await.expect("confirmed");
    let mut again = desk::source(&url).await;
    assert_eq!(
        pull_within(&mut again, 1, Duration::from_millis(300))
            .await
            .len(),
        0
    );
    let lag = again
        .lag()
        .await
        .expect("it is known")
        .expect("it is known");
    assert_eq!(lag.records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_comes_back_as_it_was() {
    if let Some(server) = NatsServer::start("records over NATS") {
        a_record_comes_back(server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn and_over_an_old_server() {
    if let Some(server) = NatsServer::old("records over an old NATS") {
        a_record_comes_back(server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nats_cannot_carry_is_refused_alone() {
    let Some(server) = NatsServer::start("refusals of NATS") else {
        return;
    };
    let url = server.url("SOME?prefix=some");
    let with_header = |name: &str, value: &'static [u8]| {
        let mut record = Record::new("a", "1");
        record.headers.add(name.into(), Bytes::from_static(value));
        record
    };
    let mut sink = desk::sink(&url).await;
    let records = [
        Record::new("a", "0"),
        with_header("raw", b"\xff"),
        Record::new("a", vec![0_u8; 1024 * 1024 + 1]),
        Record::new("a b", ""),
        with_header("two lines", b"a"),
        Record::new("a", "5"),
    ];
    sink.write(outputs(0, records))
        .await
        .expect("most can be written");
    let refused = sink.confirm().await.expect("those are safe");
    let indexes: Vec<usize> = refused.iter().map(|refused| refused.index).collect();
    assert_eq!(indexes, [1, 2, 3, 4]);
    assert!(
        refused[0].reason.contains("header `raw`"),
        "{}",
        refused[0].reason
    );
    assert!(
        refused[1]
            .reason
            .contains("over the server's limit of 1048576"),
        "{}",
        refused[1].reason
    );
    let records = desk::contents(&url, 2).await;
    assert_eq!(records.iter().map(desk::number).collect::<Vec<_>>(), [0, 5]);
    // A stream that holds other subjects says so, for each record.
    let mut sink = desk::sink(&server.url("SOME")).await;
    sink.write(outputs(10, [Record::new("elsewhere", "")]))
        .await
        .expect("taken");
    let refused = sink.confirm().await.expect("asked");
    assert!(
        refused[0]
            .reason
            .contains("does not hold the subject `elsewhere`, only `some.>`"),
        "{}",
        refused[0].reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_again_is_stored_once() {
    let Some(server) = NatsServer::start("deduplication by NATS") else {
        return;
    };
    let url = server.url("ONCE?prefix=once");
    desk::write(&url, numbered(0..100)).await;
    desk::write(&url, numbered(0..100)).await;
    let records = desk::contents(&url, 100).await;
    desk::all_once_in_order(&records, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acknowledged_comes_again_and_says_how_often() {
    let Some(server) = NatsServer::start("redelivery by NATS") else {
        return;
    };
    let url = server.url("AGAIN?prefix=again&ack-wait=1s");
    desk::write(&url, numbered(0..10)).await;
    let mut first = desk::source(&url).await;
    let items = pull(&mut first, 10).await;
    first
        .ack(&[items[3].token, items[4].token])
        .await
        .expect("noted");
    tokio::time::sleep(Duration::from_millis(200)).await;
    // As a crash would: nothing is said.
    drop(first);
    let mut second = desk::source(&url).await;
    let items = pull(&mut second, 8).await;
    let mut numbers: Vec<u64> = items
        .iter()
        .map(|item| desk::number(record(item)))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 5, 6, 7, 8, 9]);
    assert!(items.iter().all(|item| item.redelivered == 1), "{items:?}");
    // Closed, what is in hand goes to the next one at once.
    second.close().await.expect("closed");
    let mut next = desk::source(&url).await;
    assert!(
        pull(&mut next, 8)
            .await
            .iter()
            .all(|item| item.redelivered == 2)
    );
    next.close().await.expect("closed");
    let mut third = desk::source(&url).await;
    let started = std::time::Instant::now();
    // For the fourth time they are suspects: each comes alone.
    let mut numbers = Vec::new();
    for _ in 0..8 {
        let items = pull(&mut third, 1).await;
        assert_eq!(items[0].redelivered, 3);
        assert_eq!(
            pull_within(&mut third, 1, Duration::from_millis(20))
                .await
                .len(),
            0
        );
        numbers.push(desk::number(record(&items[0])));
        third.ack(&[items[0].token]).await.expect("noted");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 5, 6, 7, 8, 9]);
    assert!(started.elapsed() < LONG);
    third.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_long_is_not_given_to_another() {
    let Some(server) = NatsServer::start("work in progress over NATS") else {
        return;
    };
    let url = server.url("SLOW?prefix=slow&ack-wait=1s");
    desk::write(&url, numbered(0..5)).await;
    let mut slow = desk::source(&url).await;
    let items = pull(&mut slow, 5).await;
    let mut other = desk::source(&url).await;
    assert_eq!(
        pull_within(&mut other, 1, Duration::from_millis(3_500))
            .await
            .len(),
        0
    );
    let tokens: Vec<_> = items.iter().map(|item| item.token).collect();
    slow.ack(&tokens).await.expect("noted");
    slow.close().await.expect("closed");
    assert_eq!(
        pull_within(&mut other, 1, Duration::from_millis(1_500))
            .await
            .len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_comes_again_in_its_order() {
    let Some(server) = NatsServer::start("giving back to NATS") else {
        return;
    };
    let url = server.url("BACK?prefix=back");
    desk::write(&url, numbered(0..20)).await;
    let mut source = desk::source(&url).await;
    let items = pull(&mut source, 12).await;
    // Of subject 1: the numbers 1, 5, 9. From 5 on they go back; the others are done.
    let (back, done): (Vec<_>, Vec<_>) = items
        .iter()
        .partition(|item| [5, 9].contains(&desk::number(record(item))));
    let tokens = |items: &[&etl_broker_adapter::Item]| {
        items.iter().map(|item| item.token).collect::<Vec<_>>()
    };
    source.ack(&tokens(&done)).await.expect("noted");
    source
        .give_back(&tokens(&back), Duration::from_millis(300))
        .await
        .expect("taken");
    let others = pull(&mut source, 6).await;
    let numbers: Vec<u64> = others
        .iter()
        .map(|item| desk::number(record(item)))
        .collect();
    assert_eq!(numbers, [12, 14, 15, 16, 18, 19]);
    let back = pull(&mut source, 4).await;
    let numbers: Vec<u64> = back.iter().map(|item| desk::number(record(item))).collect();
    assert_eq!(numbers, [5, 9, 13, 17]);
}

/// A stream that is deleted and made again has other records under the same numbers.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_again_repeats_no_message_ids() {
    let Some(server) = NatsServer::start("a NATS stream that is made again") else {
        return;
    };
    let (from, to) = (
        server.url("IN?subject=orders.>"),
        server.url("OUT?prefix=out"),
    );
    desk::write(&from, numbered(0..20)).await;
    let worker = Worker::start(&from, &to).await;
    desk::contents(&to, 20).await;
    worker.stop().await.expect("no error");
    let client = async_nats::connect(server.address()).await;
    let jetstream = async_nats::jetstream::new(client.expect("a connection"));
    jetstream.delete_stream("IN").await.expect("deleted");
    desk::write(&from, numbered(20..40)).await;
    let worker = Worker::start(&from, &to).await;
    let records = desk::contents(&to, 40).await;
    desk::all_once(&records, 40);
    worker.stop().await.expect("no error");
}

/// What is acknowledged late, of the one that was there before, is none of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_again_is_not_acknowledged_by_what_came_before() {
    let Some(server) = NatsServer::start("acknowledging a NATS stream that is gone") else {
        return;
    };
    let url = server.url("IN?subject=orders.>");
    desk::write(&url, numbered(0..5)).await;
    let mut source = desk::source(&url).await;
    let before = pull(&mut source, 5).await;
    let client = async_nats::connect(server.address()).await;
    let jetstream = async_nats::jetstream::new(client.expect("a connection"));
    jetstream.delete_stream("IN").await.expect("deleted");
    desk::write(&url, numbered(5..10)).await;
    let paused = std::collections::HashSet::new();
    let demand = etl_broker_adapter::Demand {
        records: 5,
        bytes: usize::MAX,
        paused: &paused,
    };
    let gone = tokio::time::timeout(LONG, source.pull(demand)).await;
    gone.expect("it is noticed").expect_err("the consumer went");
    assert!(source.recover().await.expect("there is another one"));
    pull(&mut source, 5).await;
    let late: Vec<_> = before.iter().map(|item| item.token).collect();
    source.ack(&late).await.expect("means nothing");
    source.give_back(&late, Duration::ZERO).await.expect("nor");
    source.close().await.expect("closed");
    let mut next = desk::source(&url).await;
    let items = pull(&mut next, 5).await;
    let numbers: Vec<u64> = items
        .iter()
        .map(|item| desk::number(record(item)))
        .collect();
    assert_eq!(numbers, [5, 6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_made_again_repeats_no_message_ids() {
    let Some(server) = NatsServer::start("a folder that is made again, sent to NATS") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("log");
    let to = server.url("OUT?prefix=out");
    for first in [0, 10] {
        let log = Log::open(&dir, OpenOptions { create: true }).expect("opens");
        let records: Vec<Record> = numbered(first..first + 10).collect();
        let append = Append {
            records: records.iter().collect(),
            ..Append::default()
        };
        log.commit(&append).expect("commits");
        drop(log);
        let urls = RunUrls {
            from: format!("embedded:{}", dir.display())
                .parse()
                .expect("a URL"),
            to: to.parse().expect("a URL"),
            dead_letters: None,
            create: true,
            max_line_bytes: 1 << 20,
            dead_letter_topic: Default::default(),
        };
        let opened = open(&urls).await.expect("opens");
        let (source, sink) = (opened.source, opened.sink);
        let options = RunnerOptions::default();
        let runner = Runner::new(desk::engine(), source, sink, None, options);
        assert_eq!(runner.run().await.expect("runs"), Ended::AtTheEnd);
        std::fs::remove_dir_all(&dir).expect("is removed");
    }
    let records = desk::contents(&to, 20).await;
    desk::all_once(&records, 20);
}

/// Somebody takes out what is being looked at: the end comes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_tail_ends_where_what_was_there_is_gone() {
    let Some(server) = NatsServer::start("a tail of a NATS stream that is purged") else {
        return;
    };
    let url = server.url("GONE?subject=orders.>");
    desk::write(&url, numbered(0..5_000)).await;
    let broker = NatsBroker::open(desk::url(&url), false).await;
    let broker = broker.expect("opens");
    let mut tail = broker
        .tail(&[], From::Beginning, false)
        .await
        .expect("opens");
    pull(&mut *tail, 10).await;
    let client = async_nats::connect(server.address()).await;
    let jetstream = async_nats::jetstream::new(client.expect("a connection"));
    let stream = jetstream.get_stream("GONE").await.expect("it is there");
    stream.purge().await.expect("purged");
    let rest = tokio::time::timeout(LONG, etl_broker_adapter::testing::pull_rest_now(&mut *tail));
    let rest = rest.await.expect("it ends").len();
    assert!(rest < 4_990, "{rest}");
}
