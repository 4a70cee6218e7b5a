//! Several members of one group: they share, and what one had in flight is finished before another one gets its partition.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use etl_broker_adapter::{Pulled, Source};
use rdkafka::mocking::MockCoordinator;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::cluster::{Cluster, LONG, demand, number, pull, read, record, tokens};

#[tokio::test]
async fn partitions_are_shared_and_finished_before_they_go() {
    let cluster = Cluster::start(&[("t", 4)]);
    cluster.fill("t", 4, 400).await;
    let mut one = cluster.source("/t?group=g").await;
    // Everything is in flight with the first member when the second one comes.
    let items = read(&mut one, 400).await;
    let mut two = cluster.source("/t?group=g").await;
    let none = HashSet::new();
    let pulled = tokio::time::timeout(LONG, one.pull(demand(&none))).await;
    let revocation = match pulled.expect("is asked").expect("can be read") {
        Pulled::Revoked(revocation) => revocation,
        other => panic!("{other:?}"),
    };
    assert!(!revocation.within.is_zero());
    assert_eq!(
        revocation.partitions.len(),
        2,
        "half of them go, and no more"
    );
    let goes = |partition| revocation.partitions.contains(&partition);
    // Of each partition that goes the first ten are safe.
    let mut finished: BTreeMap<u32, usize> = BTreeMap::new();
    let mut safe = Vec::new();
    for item in items.iter().filter(|item| goes(item.partition)) {
        let count = finished.entry(record(item).partition).or_default();
        if *count < 10 {
            *count += 1;
            safe.push(item.token);
        }
    }
    one.ack(&safe).await.expect("takes note");
    one.release(&revocation.partitions)
        .await
        .expect("are released");
    let got = read(&mut two, 2 * 90).await;
    let mut offsets: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for item in &got {
        assert!(goes(item.partition));
        let of = offsets.entry(record(item).partition).or_default();
        of.push(item.position);
    }
    for own in offsets.values() {
        assert_eq!(*own, (10..100).collect::<Vec<u64>>());
    }
    // A token of what went means nothing any more, and the others still do.
    one.ack(&tokens(&items)).await.expect("takes note");
    let lag = one.lag().await.expect("is known").expect("is known");
    assert_eq!((lag.records, lag.partitions.len()), (0, 2), "{lag:?}");
    // A member that leaves has its partitions taken over, with what it did not acknowledge.
    two.close().await.expect("closes");
    let again = read(&mut one, 2 * 90).await;
    assert!(
        again
            .iter()
            .all(|item| item.position >= 10 && goes(item.partition))
    );
}

#[tokio::test]
async fn a_coordinator_that_moves_loses_nothing() {
    let cluster = Cluster::start(&[("t", 2)]);
    let group = || MockCoordinator::Group("g".to_owned());
    cluster.mock.coordinator(group(), 1).expect("moves");
    cluster.fill("t", 2, 100).await;
    let mut source = cluster.source("/t?group=g").await;
    let items = read(&mut source, 100).await;
    source.ack(&tokens(&items)).await.expect("takes note");
    cluster.mock.coordinator(group(), 2).expect("moves");
    cluster.mock.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 2],
    );
    cluster.mock.request_errors(
        RDKafkaApiKey::Heartbeat,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR],
    );
    cluster.fill("t", 2, 50).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 50 {
        let items = pull(&mut source).await;
        source.ack(&tokens(&items)).await.expect("takes note");
        seen.extend(items.iter().filter(|item| item.position >= 50).map(number));
    }
    source.close().await.expect("closes");
}

/// It pulls no more while it finishes what is in flight, so it does not see that it is asked to give partitions up.
#[tokio::test]
async fn a_member_that_ends_gives_up_what_it_was_asked_for_meanwhile() {
    let cluster = Cluster::start(&[("t", 4)]);
    cluster.fill("t", 4, 40).await;
    let mut one = cluster.source("/t?group=g").await;
    let items = read(&mut one, 40).await;
    let mut two = cluster.source("/t?group=g").await;
    // As long as it takes the group to take notice, and more.
    tokio::time::sleep(Duration::from_secs(6)).await;
    one.ack(&tokens(&items)).await.expect("takes note");
    let closed = tokio::time::timeout(LONG, one.close()).await;
    closed.expect("ends").expect("closes");
    cluster.fill("t", 4, 4).await;
    // All of them go on in the other. What was acknowledged at the last moment may come again where partitions change hands.
    let mut goes_on = BTreeSet::new();
    while goes_on.len() < 4 {
        let items = pull(&mut two).await;
        two.ack(&tokens(&items)).await.expect("takes note");
        let new = items.iter().filter(|item| item.position == 10);
        goes_on.extend(new.map(|item| item.partition));
    }
}
