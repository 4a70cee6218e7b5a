//! Records come back as they were written, and positions are what was acknowledged.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use etl_broker_adapter::{PartitionKey, Pulled, Sink, Source};
use etl_orchestrator::Record;

use super::cluster::{
    Cluster, LONG, demand, is_quiet, number, numbered, outputs, pull, read, record, tokens, write,
};

/// One of each kind.
pub fn every_kind(topic: &str) -> Vec<Record> {
    let mut full = Record::new(topic, "value");
    full.key = Some("key".into());
    full.timestamp = Some(1_700_000_000_123);
    for (name, value) in [
        ("trace", &b"one"[..]),
        ("empty", b""),
        ("trace", b"two"),
        ("binary", &[0, 159, 146, 150]),
    ] {
        full.headers.add(name.into(), Bytes::from_static(value));
    }
    let mut empty_key = Record::new(topic, "empty key");
    empty_key.key = Some(Bytes::new());
    let mut empty_value = Record::new(topic, "");
    empty_value.key = Some("empty value".into());
    let mut deleted = Record::new(topic, "");
    deleted.key = Some("deleted".into());
    deleted.headers.add("etl-tombstone".into(), Bytes::new());
    deleted.headers.add("why".into(), "asked for".into());
    let large = Record::new(topic, vec![b'x'; 1 << 20]);
    let mut records = vec![full, empty_key, empty_value, deleted, large];
    for (record, partition) in records.iter_mut().zip([2, 0, 1, 2, 0]) {
        record.partition = partition;
        record.timestamp.get_or_insert(1_700_000_000_000);
    }
    records
}

#[tokio::test]
async fn records_come_back_as_they_were() {
    let cluster = Cluster::start(&[("t", 3)]);
    let written = every_kind("t");
    let refused = write(&mut cluster.sink("").await, written.clone()).await;
    assert_eq!(refused.expect("is written"), []);
    let mut source = cluster.source("/t?group=g").await;
    let items = read(&mut source, written.len()).await;
    for partition in 0..3 {
        let of = |record: &&Record| record.partition == partition;
        let read: Vec<Record> = items
            .iter()
            .map(|item| Record::clone(record(item)))
            .collect();
        let read: Vec<&Record> = read.iter().filter(of).collect();
        let written: Vec<&Record> = written.iter().filter(of).collect();
        assert_eq!(read.len(), written.len());
        for (offset, (read, written)) in read.iter().zip(written).enumerate() {
            let mut written = written.clone();
            written.offset = offset as u64;
            // The one that says that there was no value comes last.
            if written.headers.remove("etl-tombstone") {
                written.headers.add("etl-tombstone".into(), Bytes::new());
            }
            assert_eq!(**read, written);
        }
    }
    for item in &items {
        let record = record(item);
        assert_eq!(item.position, record.offset);
        assert_eq!(item.partition, PartitionKey::of("t", record.partition));
        assert_eq!(item.redelivered, 0);
    }
    source.close().await.expect("closes");
}

#[tokio::test]
async fn a_record_without_its_partition_goes_by_key_or_by_number() {
    let cluster = Cluster::start(&[("t", 2)]);
    let mut records: Vec<Record> = (0..40).map(|n| numbered("t", 7, n)).collect();
    for record in &mut records[..20] {
        record.key = Some(format!("key {}", record.value.len()).into());
    }
    write(&mut cluster.sink("").await, records)
        .await
        .expect("is written");
    let items = read(&mut cluster.source("/t").await, 40).await;
    let mut partitions: BTreeMap<Option<Bytes>, HashSet<u32>> = BTreeMap::new();
    for item in &items {
        let record = record(item);
        let of = partitions.entry(record.key.clone()).or_default();
        of.insert(record.partition);
    }
    // One partition for each key, and 7 % 2 for those without.
    assert!(
        partitions.values().all(|own| own.len() == 1),
        "{partitions:?}"
    );
    assert_eq!(partitions[&None], HashSet::from([1]));
    assert_eq!(partitions.len(), 3);
}

#[tokio::test]
async fn a_url_with_a_topic_takes_everything_but_dead_letters() {
    let cluster = Cluster::start(&[("in", 1), ("out", 1), ("in.dlq", 1)]);
    let mut sink = cluster.sink("/out").await;
    let mut outputs = outputs(vec![numbered("in", 0, 1), numbered("in.dlq", 0, 2)]).to_vec();
    outputs[1].origin.index = 1 << 31;
    sink.write(outputs.into()).await.expect("is written");
    assert_eq!(sink.confirm().await.expect("is safe"), []);
    let items = read(&mut cluster.source("/^.*").await, 2).await;
    let mut found: Vec<(&str, u32)> = Vec::new();
    for item in &items {
        found.push((&record(item).topic, number(item)));
    }
    found.sort_unstable();
    assert_eq!(found, [("in.dlq", 2), ("out", 1)]);
}

#[tokio::test]
async fn what_was_acknowledged_does_not_come_again_and_the_rest_does() {
    let cluster = Cluster::start(&[("t", 2)]);
    cluster.fill("t", 2, 100).await;
    let mut source = cluster.source("/t?group=g").await;
    let items = read(&mut source, 100).await;
    let of = |partition: u32| {
        let items = items.iter();
        let items = items.filter(|item| record(item).partition == partition);
        items.map(|item| item.token).collect::<Vec<_>>()
    };
    source.ack(&of(0)[..30]).await.expect("takes note");
    // With a gap: only what is before it counts.
    source.ack(&of(1)[..10]).await.expect("takes note");
    source.ack(&of(1)[20..]).await.expect("takes note");
    let lag = source.lag().await.expect("is known").expect("is known");
    assert_eq!(lag.records, 20 + 40, "{lag:?}");
    source.close().await.expect("closes");
    let mut source = cluster.source("/t?group=g").await;
    let again = read(&mut source, 20 + 40).await;
    let mut offsets: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for item in &again {
        let of = offsets.entry(record(item).partition).or_default();
        of.push(item.position);
    }
    assert_eq!(offsets[&0], (30..50).collect::<Vec<u64>>());
    assert_eq!(offsets[&1], (10..50).collect::<Vec<u64>>());
    assert!(is_quiet(&mut source).await);
}

#[tokio::test]
async fn what_is_given_back_comes_again_in_order_and_says_so() {
    let cluster = Cluster::start(&[("t", 1)]);
    cluster.fill("t", 1, 20).await;
    let mut source = cluster.source("/t").await;
    let items = read(&mut source, 20).await;
    source.ack(&tokens(&items[..5])).await.expect("takes note");
    let back = tokens(&items[5..]);
    let begun = std::time::Instant::now();
    let delay = Duration::from_millis(300);
    source.give_back(&back, delay).await.expect("is given back");
    let again = read(&mut source, 15).await;
    assert!(begun.elapsed() >= delay);
    let numbers: Vec<u32> = again.iter().map(number).collect();
    assert_eq!(numbers, (5..20).collect::<Vec<u32>>());
    assert!(again.iter().all(|item| item.redelivered == 1));
    source.ack(&tokens(&again)).await.expect("takes note");
    assert!(is_quiet(&mut source).await);
}

#[tokio::test]
async fn paused_partitions_are_left_out() {
    let cluster = Cluster::start(&[("t", 2)]);
    cluster.fill("t", 2, 40).await;
    let mut source = cluster.source("/t").await;
    let paused = HashSet::from([PartitionKey::of("t", 0)]);
    let mut seen = 0;
    while seen < 20 {
        let pulled = tokio::time::timeout(LONG, source.pull(demand(&paused))).await;
        let Pulled::Batch(batch) = pulled.expect("something comes").expect("can be read") else {
            panic!("no batch");
        };
        assert!(batch.items.iter().all(|item| record(item).partition == 1));
        seen += batch.items.len();
    }
    assert_eq!(seen, 20);
    let rest = read(&mut source, 20).await;
    assert!(rest.iter().all(|item| record(item).partition == 0));
}

/// More than may wait here is on the brokers; nobody takes any for long enough that polling goes on without it. Nothing is lost, skipped or repeated.
#[tokio::test]
async fn a_reader_that_stands_still_misses_nothing() {
    let cluster = Cluster::start(&[("t", 3)]);
    cluster.fill("t", 3, 30_000).await;
    let mut source = cluster.source("/t").await;
    let mut items = pull(&mut source).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    while items.len() < 30_000 {
        items.extend(pull(&mut source).await);
    }
    let mut next = [0; 3];
    for item in &items {
        let of = &mut next[record(item).partition as usize];
        assert_eq!(item.position, *of);
        *of += 1;
    }
    assert_eq!(next, [10_000; 3]);
}

#[tokio::test]
async fn more_than_the_producer_holds_waits_for_room() {
    let cluster = Cluster::start(&[("t", 1)]);
    let mut sink = cluster
        .sink("?queue.buffering.max.messages=10&queue.buffering.max.kbytes=64")
        .await;
    let records: Vec<Record> = (0..500).map(|n| numbered("t", 0, n)).collect();
    assert_eq!(write(&mut sink, records).await.expect("is written"), []);
    let items = read(&mut cluster.source("/t").await, 500).await;
    assert_eq!(
        items.iter().map(number).collect::<Vec<u32>>(),
        (0..500).collect::<Vec<u32>>()
    );
}
