//! Against the brokers that `KAFKA_BOOTSTRAP` names (`host:9092`); without it these pass without having tried anything, and say so.

use std::time::{SystemTime, UNIX_EPOCH};

use etl_broker_adapter::kafka::{KafkaSink, KafkaSinkOptions, KafkaSource, KafkaUrl};
use etl_broker_adapter::{Sink, Source};
use etl_orchestrator::Record;

use super::cluster::{numbered, outputs, read, record, tokens, write};
use super::records::every_kind;

/// A URL for a topic that nobody has yet.
fn fresh(what: &str) -> Option<(String, KafkaUrl)> {
    let Ok(brokers) = std::env::var("KAFKA_BOOTSTRAP") else {
        println!("skipped: Kafka brokers: set KAFKA_BOOTSTRAP to the address of one, host:port");
        return None;
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let topic = format!("etl-test-{what}-{:x}", now.as_nanos());
    let url = format!("kafka://{brokers}/{topic}?group={topic}&partitions=3&replication=1");
    Some((topic, KafkaUrl::parse(&url).expect("is a URL")))
}

#[tokio::test]
async fn a_topic_is_made_and_every_kind_of_record_comes_back() {
    let Some((topic, url)) = fresh("kinds") else {
        return;
    };
    let options = KafkaSinkOptions {
        create: true,
        ..KafkaSinkOptions::default()
    };
    let mut sink = KafkaSink::open(url.clone(), options).await.expect("opens");
    // A record of 1 MiB is over the limit of most brokers, which is seen elsewhere.
    let mut written = every_kind(&topic);
    written.retain(|record| record.value.len() < 1 << 20);
    assert_eq!(
        write(&mut sink, written.clone()).await.expect("is written"),
        []
    );
    let mut source = KafkaSource::open(url.clone(), false, false)
        .await
        .expect("opens");
    let items = read(&mut source, written.len()).await;
    for written in &written {
        let same = |read: &Record| {
            let headers = |record: &Record| {
                let mut headers: Vec<_> = record
                    .headers
                    .iter()
                    .map(|(n, v)| (n.clone(), v.clone()))
                    .collect();
                headers.sort();
                headers
            };
            (
                read.partition,
                &read.key,
                &read.value,
                read.timestamp,
                headers(read),
            ) == (
                written.partition,
                &written.key,
                &written.value,
                written.timestamp,
                headers(written),
            )
        };
        assert!(items.iter().any(|item| same(record(item))), "{written:?}");
    }
    source.ack(&tokens(&items)).await.expect("takes note");
    source.close().await.expect("closes");
    write(&mut sink, vec![numbered(&topic, 0, 7)])
        .await
        .expect("is written");
    let mut source = KafkaSource::open(url, false, false).await.expect("opens");
    let items = read(&mut source, 1).await;
    assert_eq!(&*record(&items[0]).value, b"7");
    source.close().await.expect("closes");
}

/// Readers of finished transactions alone see nothing of one that was aborted. Set `KAFKA_TRANSACTIONS` where the brokers can end one.
#[tokio::test]
async fn what_was_aborted_is_not_read() {
    if std::env::var_os("KAFKA_TRANSACTIONS").is_none() {
        println!(
            "skipped: transactions of Kafka brokers: set KAFKA_TRANSACTIONS beside KAFKA_BOOTSTRAP where they can do them"
        );
        return;
    }
    let Some((topic, url)) = fresh("transactions") else {
        return;
    };
    let options = |transactions| KafkaSinkOptions {
        create: true,
        transactions,
        ..KafkaSinkOptions::default()
    };
    let mut plain = KafkaSink::open(url.clone(), options(false))
        .await
        .expect("opens");
    write(&mut plain, vec![numbered(&topic, 0, 0)])
        .await
        .expect("is written");
    let mut sink = KafkaSink::open(url.clone(), options(true))
        .await
        .expect("opens");
    sink.write(outputs(vec![numbered(&topic, 0, 1)]))
        .await
        .expect("is written");
    assert!(sink.recover().await.expect("is aborted"));
    sink.write(outputs(vec![numbered(&topic, 0, 2)]))
        .await
        .expect("is written");
    sink.confirm().await.expect("is committed");
    let mut source = KafkaSource::open(url, false, true).await.expect("opens");
    let items = read(&mut source, 2).await;
    let values: Vec<&[u8]> = items.iter().map(|item| &*record(item).value).collect();
    assert_eq!(values, [b"0", b"2"]);
}
