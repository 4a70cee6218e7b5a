//! What can be wrong, and what is said about it.

use std::time::Duration;

use etl_broker_adapter::kafka::{KafkaSink, KafkaSinkOptions, KafkaSource, KafkaUrl};
use etl_broker_adapter::{AdapterErrorKind, Sink, Source};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::cluster::{Cluster, number, numbered, outputs, pull, read, tokens, write};

#[tokio::test]
async fn a_missing_topic_is_named_and_making_it_is_offered() {
    let cluster = Cluster::start(&[("t", 1)]);
    let source = KafkaSource::open(cluster.url("/t,absent"), false, false).await;
    let error = source.err().expect("is refused");
    assert_eq!(error.kind(), AdapterErrorKind::NotFound);
    assert!(error.to_string().contains("no topic absent"), "{error}");
    assert!(error.to_string().contains("--create"), "{error}");
    let sink = KafkaSink::open(cluster.url("/absent"), KafkaSinkOptions::default()).await;
    let error = sink.err().expect("is refused");
    assert_eq!(error.kind(), AdapterErrorKind::NotFound);
    // A module may name any topic, at any time.
    let mut sink = cluster.sink("").await;
    let error = write(&mut sink, vec![numbered("absent", 0, 1)]).await;
    let error = error.expect_err("is refused");
    assert_eq!(error.kind(), AdapterErrorKind::NotFound);
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn brokers_that_are_away_are_waited_for() {
    // A port that nobody listens on: it was given out a moment ago, and given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|own| own.local_addr());
    let port = port.expect("a port").port();
    let url = KafkaUrl::parse(&format!("kafka://127.0.0.1:{port}/t")).expect("is a URL");
    let error = KafkaSource::open(url.clone(), false, false).await.err();
    let error = error.expect("nobody answers");
    assert_eq!(error.kind(), AdapterErrorKind::Unavailable);
    assert!(error.to_string().contains("no broker answers"), "{error}");
    let error = KafkaSink::open(url, KafkaSinkOptions::default())
        .await
        .err();
    assert!(error.expect("nobody answers").is_retryable());
}

#[tokio::test]
async fn what_cannot_be_set_is_said_without_secrets() {
    let cluster = Cluster::start(&[("t", 1)]);
    for (rest, kind, part) in [
        (
            "/t?security.protocol=ssl",
            AdapterErrorKind::Unsupported,
            "without TLS",
        ),
        (
            "/t?linger.msec=5",
            AdapterErrorKind::InvalidUrl,
            "linger.msec",
        ),
        (
            "/t?session.timeout.ms=soon",
            AdapterErrorKind::InvalidUrl,
            "session.timeout.ms",
        ),
    ] {
        let source = KafkaSource::open(cluster.url(rest), false, false).await;
        let error = source.err().expect("is refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let secret = cluster.url("/t?sasl.password=hush&linger.msec=5");
    let error = KafkaSource::open(secret, false, false).await.err();
    let error = error.expect("is refused").to_string();
    assert!(!error.contains("hush"), "{error}");
    let error = KafkaSource::open(cluster.url(""), false, false).await.err();
    assert!(
        error
            .expect("is refused")
            .to_string()
            .contains("names no topic")
    );
    let sink = KafkaSink::open(cluster.url("/t,u"), KafkaSinkOptions::default()).await;
    assert!(
        sink.err()
            .expect("is refused")
            .to_string()
            .contains("one topic")
    );
}

#[tokio::test]
async fn a_record_that_is_refused_comes_back_alone() {
    let cluster = Cluster::start(&[("t", 1)]);
    let mut sink = cluster.sink("?linger.ms=0&message.max.bytes=4000").await;
    let mut records: Vec<_> = (0..5).map(|n| numbered("t", 0, n)).collect();
    records[1].value = vec![b'x'; 5_000].into();
    records[2].topic = "no such name".into();
    records[3].headers.add("a\0b".into(), "c".into());
    let refused = write(&mut sink, records).await.expect("is written");
    let indexes: Vec<usize> = refused.iter().map(|(index, _)| *index).collect();
    assert_eq!(indexes, [1, 2, 3]);
    assert!(refused[0].1.contains("5000 bytes"), "{refused:?}");
    assert!(refused[1].1.contains("it has a ` `"), "{refused:?}");
    assert!(refused[2].1.contains("zero byte"), "{refused:?}");
    // The brokers' own limit is only known when they say so.
    cluster.mock.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    let refused = write(&mut sink, vec![numbered("t", 0, 5)])
        .await
        .expect("is written");
    assert_eq!(refused.len(), 1);
    assert!(refused[0].1.contains("over the limit"), "{refused:?}");
    assert_eq!(
        write(&mut sink, vec![numbered("t", 0, 6)])
            .await
            .expect("is written"),
        []
    );
    let items = read(&mut cluster.source("/t").await, 3).await;
    assert_eq!(items.iter().map(number).collect::<Vec<u32>>(), [0, 4, 6]);
}

#[tokio::test]
async fn a_topic_that_is_read_is_not_written() {
    let cluster = Cluster::start(&[("t", 1), ("u", 1)]);
    let options = KafkaSinkOptions {
        reading: vec!["t".to_owned()],
        ..KafkaSinkOptions::default()
    };
    let mut sink = KafkaSink::open(cluster.url(""), options)
        .await
        .expect("opens");
    let refused = write(&mut sink, vec![numbered("t", 0, 1), numbered("u", 0, 2)]).await;
    let refused = refused.expect("is written");
    assert_eq!(refused.len(), 1);
    assert!(refused[0].1.contains("round for ever"), "{refused:?}");
}

#[tokio::test]
async fn errors_of_brokers_that_pass_change_neither_order_nor_number() {
    let cluster = Cluster::start(&[("t", 1)]);
    cluster.mock.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        ],
    );
    let mut sink = cluster.sink("?retry.backoff.ms=10").await;
    for part in 0..10 {
        let records = (0..50).map(|n| numbered("t", 0, part * 50 + n)).collect();
        sink.write(outputs(records)).await.expect("is written");
    }
    assert_eq!(sink.confirm().await.expect("is safe"), []);
    let items = read(&mut cluster.source("/t").await, 500).await;
    let numbers: Vec<u32> = items.iter().map(number).collect();
    assert_eq!(numbers, (0..500).collect::<Vec<u32>>());
}

#[tokio::test]
async fn brokers_that_go_and_come_back_are_written_to_again() {
    let cluster = Cluster::start(&[("t", 1)]);
    let mut sink = cluster.sink("?message.timeout.ms=1500").await;
    assert_eq!(
        write(&mut sink, vec![numbered("t", 0, 0)])
            .await
            .expect("is written"),
        []
    );
    cluster.mock.broker_down(-1).expect("go down");
    let error = write(&mut sink, vec![numbered("t", 0, 1)]).await;
    let error = error.expect_err("nobody takes it");
    assert!(error.is_retryable(), "{error}");
    let error = sink.recover().await.expect_err("still away");
    assert!(error.is_retryable(), "{error}");
    cluster.mock.broker_up(-1).expect("come up");
    while !sink.recover().await.unwrap_or(false) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let records = vec![numbered("t", 0, 1), numbered("t", 0, 2)];
    assert_eq!(write(&mut sink, records).await.expect("is written"), []);
    let items = read(&mut cluster.source("/t").await, 3).await;
    assert_eq!(items.iter().map(number).collect::<Vec<u32>>(), [0, 1, 2]);
}

#[tokio::test]
async fn a_source_whose_brokers_go_says_so_and_goes_on_where_it_was() {
    let cluster = Cluster::start(&[("t", 1)]);
    cluster.fill("t", 1, 10).await;
    let mut source = cluster.source("/t?reconnect.backoff.max.ms=200").await;
    let items = read(&mut source, 10).await;
    source.ack(&tokens(&items)).await.expect("takes note");
    cluster.mock.broker_down(-1).expect("go down");
    let none = std::collections::HashSet::new();
    let pulled = source.pull(super::cluster::demand(&none));
    let pulled = tokio::time::timeout(super::cluster::LONG, pulled).await;
    let error = pulled.expect("is said").expect_err("cannot be read");
    assert!(error.is_retryable(), "{error}");
    cluster.mock.broker_up(-1).expect("come up");
    while !source.recover().await.unwrap_or(false) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.fill("t", 1, 5).await;
    let mut more = Vec::new();
    while more.len() < 5 {
        more.extend(pull(&mut source).await);
    }
    assert_eq!(
        more.iter().map(number).collect::<Vec<u32>>(),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(more[0].position, 10);
}
