//! What tools ask: topics, and what is in them.

use std::time::Duration;

use etl_broker_adapter::kafka::{KafkaBroker, is_pair};
use etl_broker_adapter::{
    AdapterErrorKind, AdapterUrl, Broker, From, Item, Pulled, RunUrls, Source, open,
};

use super::cluster::{Cluster, demand, number, numbered, outputs, record};

async fn all(source: &mut dyn Source) -> Vec<Item> {
    let none = std::collections::HashSet::new();
    let mut items = Vec::new();
    loop {
        match source.pull(demand(&none)).await.expect("can be read") {
            Pulled::Batch(batch) => items.extend(batch.items),
            Pulled::End => return items,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn topics_are_listed_and_read_without_a_group() {
    let cluster = Cluster::start(&[("a", 2), ("a.dlq", 1), ("b", 1)]);
    cluster.fill("a", 2, 20).await;
    cluster.fill("a.dlq", 1, 3).await;
    let broker = KafkaBroker::open(cluster.url(""), false)
        .await
        .expect("opens");
    let topics = broker.topics().await.expect("are known");
    let seen: Vec<_> = topics
        .iter()
        .map(|own| (&*own.name, own.partitions, own.records))
        .collect();
    assert_eq!(
        seen,
        [("a", 2, Some(20)), ("a.dlq", 1, Some(3)), ("b", 1, Some(0))]
    );
    let read = async |topic: &str, from| {
        let tail = broker.tail(&[topic.to_owned()], from, false).await;
        let mut tail = tail.expect("opens");
        let items = all(&mut *tail).await;
        tail.close().await.expect("closes");
        items
    };
    assert_eq!(read("*", From::Beginning).await.len(), 23);
    let last = read("a", From::Last(2)).await;
    let mut numbers: Vec<u32> = last.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [16, 17, 18, 19]);
    assert_eq!(read("a.d*", From::Offset(2)).await.len(), 1);
    assert!(read("a", From::End).await.is_empty());
    let absent = broker
        .tail(&["absent".to_owned()], From::Beginning, false)
        .await;
    assert_eq!(
        absent.err().expect("is refused").kind(),
        AdapterErrorKind::NotFound
    );
    // Who follows sees what comes later.
    let mut follows = broker.tail(&[], From::End, true).await.expect("opens");
    let mut sink = broker.sink().await.expect("opens");
    sink.write(outputs(vec![numbered("b", 0, 77)]))
        .await
        .expect("is written");
    sink.confirm().await.expect("is safe");
    let items = super::cluster::pull(&mut *follows).await;
    assert_eq!((number(&items[0]), &*record(&items[0]).topic), (77, "b"));
}

#[tokio::test]
async fn brokers_that_take_their_time_are_read_to_the_end() {
    let cluster = Cluster::start(&[("a", 2), ("b", 1)]);
    cluster.fill("a", 2, 20).await;
    cluster.fill("b", 1, 5).await;
    let broker = KafkaBroker::open(cluster.url(""), false).await;
    let broker = broker.expect("opens");
    let tail = broker.tail(&[], From::Beginning, false).await;
    let mut tail = tail.expect("opens");
    let slow = cluster
        .mock
        .broker_round_trip_time(-1, Duration::from_millis(1_200));
    slow.expect("slows down");
    let items = all(&mut *tail).await;
    assert_eq!(items.len(), 25);
    let topics: Vec<&str> = items.iter().map(|item| &*record(item).topic).collect();
    assert!(topics.is_sorted(), "one after the other: {topics:?}");
    let tokens: std::collections::HashSet<_> = items.iter().map(|item| item.token).collect();
    assert_eq!(tokens.len(), 25, "a token is of one record alone");
}

#[tokio::test]
async fn a_run_is_opened_by_its_urls() {
    let cluster = Cluster::start(&[("in", 1), ("out", 1)]);
    let brokers = cluster.mock.bootstrap_servers();
    let url = |rest: &str| -> AdapterUrl {
        format!("kafka://{brokers}{rest}")
            .parse()
            .expect("is a URL")
    };
    let urls = |to: AdapterUrl| RunUrls {
        from: url("/in?group=g"),
        to,
        dead_letters: None,
        create: false,
        max_line_bytes: 1 << 20,
        dead_letter_topic: Default::default(),
    };
    let opened = open(&urls(url("/out?exactly-once=true")))
        .await
        .expect("opens");
    assert!(opened.atomic);
    // Who asks for what cannot be is told so.
    for to in [
        "kafka://127.0.0.1:9/out?exactly-once=true",
        &format!("kafka://{brokers}/out?transactional.id=mine"),
    ] {
        let half = open(&urls(to.parse().expect("is a URL"))).await;
        let error = half.err().expect("is refused").to_string();
        assert!(error.contains("exactly-once"), "{error}");
    }
    let mut opened = open(&urls(url(""))).await.expect("opens");
    assert!(!opened.atomic);
    // To the topic that it came from it would go round for ever.
    let written = opened.sink.write(outputs(vec![numbered("in", 0, 1)])).await;
    written.expect("is taken");
    let refused = opened.sink.confirm().await.expect("is answered");
    assert!(refused[0].reason.contains("round for ever"), "{refused:?}");
    let pair = |from: &str, to: &str| is_pair(&cluster.url(from), &cluster.url(to));
    assert!(pair("/in?exactly-once", "/out"));
    assert!(!pair("/in", "/out"));
}
