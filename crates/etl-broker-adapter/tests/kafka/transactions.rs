//! Outputs and positions in one transaction.

use etl_broker_adapter::kafka::{KafkaSink, KafkaSinkOptions, KafkaSource};
use etl_broker_adapter::{AdapterErrorKind, Positions, Sink, Source};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::cluster::{Cluster, is_quiet, number, numbered, outputs, read, tokens};

async fn pair(cluster: &Cluster, more: &str) -> (KafkaSource, KafkaSink) {
    let source = KafkaSource::open(cluster.url("/in?group=g"), false, true).await;
    let options = KafkaSinkOptions {
        transactions: true,
        ..KafkaSinkOptions::default()
    };
    let sink = KafkaSink::open(cluster.url(&format!("/out?group=g{more}")), options).await;
    (source.expect("opens"), sink.expect("opens"))
}

/// A mock checks what a transaction says about positions and then forgets it, so that they stand is seen with [real](super::real) brokers alone; that they do not
/// stand without one is seen here.
#[tokio::test]
async fn a_source_of_a_pair_commits_nothing_by_itself() {
    let cluster = Cluster::start(&[("in", 1), ("out", 1)]);
    cluster.fill("in", 1, 20).await;
    let (mut source, mut sink) = pair(&cluster, "").await;
    let items = read(&mut source, 20).await;
    let records = (0..20).map(|n| numbered("out", 0, n)).collect();
    sink.write(outputs(records)).await.expect("is written");
    let positions = source.positions(&tokens(&items)).expect("is a pair");
    assert_eq!(
        sink.confirm_with(vec![positions]).await.expect("is safe"),
        []
    );
    source.committed(&tokens(&items));
    let lag = source.lag().await.expect("is known").expect("is known");
    assert_eq!(lag.records, 0);
    source.close().await.expect("closes");
    assert_eq!(cluster.committed("g", "in", 1), [None]);
}

#[tokio::test]
async fn a_transaction_that_fails_is_aborted_and_done_again() {
    let cluster = Cluster::start(&[("in", 1), ("out", 1)]);
    cluster.fill("in", 1, 10).await;
    let (mut source, mut sink) = pair(&cluster, "").await;
    let items = read(&mut source, 10).await;
    let write = || outputs((0..10).map(|n| numbered("out", 0, n)).collect());
    for (key, errors) in [
        (
            RDKafkaApiKey::TxnOffsetCommit,
            vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID],
        ),
        (
            RDKafkaApiKey::AddOffsetsToTxn,
            vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 2],
        ),
        (
            RDKafkaApiKey::EndTxn,
            vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 2],
        ),
    ] {
        cluster.mock.request_errors(key, &errors);
    }
    let mut attempts = 0;
    loop {
        attempts += 1;
        assert!(attempts < 10, "it never works");
        sink.write(write()).await.expect("is written");
        let positions = source.positions(&tokens(&items)).expect("is a pair");
        match sink.confirm_with(vec![positions]).await {
            Ok(refused) => break assert_eq!(refused, []),
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                assert!(sink.recover().await.expect("recovers"));
            }
        }
    }
    // A member that is not known aborts it, all else passes by itself.
    assert_eq!(attempts, 2);
    source.committed(&tokens(&items));
    let written = read(&mut cluster.source("/out").await, 10).await;
    assert_eq!(
        written.iter().map(number).collect::<Vec<u32>>()[..10],
        (0..10).collect::<Vec<u32>>()
    );
}

#[tokio::test]
async fn a_refused_record_leaves_nothing_committed() {
    let cluster = Cluster::start(&[("in", 1), ("out", 1)]);
    cluster.fill("in", 1, 2).await;
    let (mut source, mut sink) = pair(&cluster, "&message.max.bytes=2000").await;
    let items = read(&mut source, 2).await;
    let mut large = numbered("out", 0, 1);
    large.value = vec![b'x'; 3_000].into();
    sink.write(outputs(vec![numbered("out", 0, 0), large]))
        .await
        .expect("is written");
    let positions = source.positions(&tokens(&items)).expect("is a pair");
    let refused = sink
        .confirm_with(vec![positions.clone()])
        .await
        .expect("is answered");
    assert_eq!(refused.iter().map(|own| own.index).collect::<Vec<_>>(), [1]);
    // Without it, all is written again.
    sink.write(outputs(vec![numbered("out", 0, 0)]))
        .await
        .expect("is written");
    assert_eq!(
        sink.confirm_with(vec![positions]).await.expect("is safe"),
        []
    );
}

#[tokio::test]
async fn who_is_shut_out_is_told_why() {
    let cluster = Cluster::start(&[("in", 1), ("out", 1)]);
    cluster.fill("in", 1, 2).await;
    let (mut source, mut sink) = pair(&cluster, "&transactional.id=shared").await;
    let items = read(&mut source, 2).await;
    sink.write(outputs(vec![numbered("out", 0, 0)]))
        .await
        .expect("is written");
    cluster.mock.request_errors(
        RDKafkaApiKey::EndTxn,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED],
    );
    let positions = source.positions(&tokens(&items)).expect("is a pair");
    let error = sink
        .confirm_with(vec![positions])
        .await
        .expect_err("it was shut out");
    assert_eq!(error.kind(), AdapterErrorKind::InUse);
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("transactional.id"), "{error}");
}

/// Somebody else has the partition by now and gets its records again: what came of them here is not to be seen.
#[tokio::test]
async fn outputs_of_a_partition_that_is_gone_are_not_committed() {
    let cluster = Cluster::start(&[("in", 2), ("out", 2)]);
    cluster.fill("in", 2, 20).await;
    let (mut source, mut sink) = pair(&cluster, "").await;
    let items = read(&mut source, 20).await;
    let positions = source.positions(&tokens(&items)).expect("is a pair");
    source.close().await.expect("closes");
    let (mut source, _other) = pair(&cluster, "").await;
    let again = read(&mut source, 20).await;
    let positions_again = source.positions(&tokens(&again)).expect("is a pair");
    let records = |from: u32| {
        (from..from + 10)
            .map(|n| numbered("in", n % 2, n))
            .collect()
    };
    // Of a source that was closed: both partitions are gone.
    sink.write(outputs(records(100))).await.expect("is written");
    assert_eq!(
        sink.confirm_with(vec![positions])
            .await
            .expect("is answered"),
        []
    );
    sink.write(outputs(records(0))).await.expect("is written");
    assert_eq!(
        sink.confirm_with(vec![positions_again])
            .await
            .expect("is safe"),
        []
    );
}

/// The first one has been taken away and come back as the second one: neither takes the other along.
#[tokio::test]
async fn what_came_of_an_earlier_assignment_takes_nothing_of_the_present_one_along() {
    let cluster = Cluster::start(&[("in", 1), ("out", 1)]);
    cluster.fill("in", 1, 10).await;
    let (mut source, mut sink) = pair(&cluster, "").await;
    let items = read(&mut source, 10).await;
    let before = source.positions(&tokens(&items)).expect("is a pair");
    source.close().await.expect("closes");
    let (mut source, _other) = pair(&cluster, "").await;
    let again = read(&mut source, 10).await;
    let now = source.positions(&tokens(&again)).expect("is a pair");
    let records = |from: u32| (from..from + 10).map(|n| numbered("out", 0, n)).collect();
    sink.write(outputs(records(100))).await.expect("is written");
    sink.write(outputs(records(0))).await.expect("is written");
    let confirmed = sink.confirm_with(vec![before, now]).await;
    assert_eq!(confirmed.expect("is safe"), []);
    // A mock shows what was aborted too: both, and then the one that is to be.
    let written = read(&mut cluster.source("/out").await, 30).await;
    let numbers: Vec<u32> = written.iter().map(number).collect();
    assert_eq!(numbers[20..], (0..10).collect::<Vec<u32>>());
}

/// Writes ten records with the positions of ten, and has the broker answer badly when the transaction is to end.
async fn in_doubt(cluster: &Cluster) -> (KafkaSource, KafkaSink, Positions) {
    cluster.fill("in", 1, 10).await;
    let (mut source, mut sink) = pair(cluster, "").await;
    let items = read(&mut source, 10).await;
    let records = (0..10).map(|n| numbered("out", 0, n)).collect();
    sink.write(outputs(records)).await.expect("is written");
    cluster.mock.request_errors(
        RDKafkaApiKey::EndTxn,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN],
    );
    let positions = source.positions(&tokens(&items)).expect("is a pair");
    let error = sink.confirm_with(vec![positions.clone()]).await;
    let error = error.expect_err("nobody knows");
    assert!(error.is_retryable(), "{error}");
    (source, sink, positions)
}

async fn write_again(sink: &mut KafkaSink, positions: Positions) {
    assert!(sink.recover().await.expect("recovers"));
    let records = (0..10).map(|n| numbered("out", 0, n)).collect();
    sink.write(outputs(records)).await.expect("is written");
    let confirmed = sink.confirm_with(vec![positions]).await;
    assert_eq!(confirmed.expect("is safe"), []);
}

/// A mock forgets the positions of a transaction, so another member puts the group where the transaction had it.
#[tokio::test]
async fn a_transaction_that_ended_without_an_answer_is_not_done_again() {
    let cluster = Cluster::start(&[("in", 1), ("out", 1)]);
    let (mut source, mut sink, positions) = in_doubt(&cluster).await;
    source.close().await.expect("closes");
    let mut other = cluster.source("/in?group=g").await;
    let items = read(&mut other, 10).await;
    other.ack(&tokens(&items)).await.expect("takes note");
    other.close().await.expect("closes");
    assert_eq!(cluster.committed("g", "in", 1), [Some(10)]);
    write_again(&mut sink, positions).await;
    // What comes after it is written as ever.
    let next = outputs(vec![numbered("out", 0, 10)]);
    sink.write(next).await.expect("is written");
    assert_eq!(sink.confirm().await.expect("is safe"), []);
    let mut source = cluster.source("/out").await;
    let written = read(&mut source, 11).await;
    let numbers: Vec<u32> = written.iter().map(number).collect();
    assert_eq!(numbers, (0..11).collect::<Vec<u32>>());
    assert!(is_quiet(&mut source).await);
}

#[tokio::test]
async fn a_transaction_that_did_not_end_is_done_again() {
    let cluster = Cluster::start(&[("in", 1), ("out", 1)]);
    let (_source, mut sink, positions) = in_doubt(&cluster).await;
    write_again(&mut sink, positions).await;
    // A mock shows the first ones too.
    let written = read(&mut cluster.source("/out").await, 20).await;
    let numbers: Vec<u32> = written.iter().map(number).collect();
    assert_eq!(numbers[10..], (0..10).collect::<Vec<u32>>());
}

#[tokio::test]
async fn a_pair_reads_what_is_committed_and_nothing_else() {
    let cluster = Cluster::start(&[("in", 1)]);
    let url = |level: &str| cluster.url(&format!("/in?isolation.level={level}"));
    let error = KafkaSource::open(url("read_uncommitted"), false, true).await;
    let error = error.err().expect("is refused");
    assert_eq!(error.kind(), AdapterErrorKind::InvalidUrl);
    assert!(error.to_string().contains("read_committed"), "{error}");
    for (level, atomic) in [("read_committed", true), ("read_uncommitted", false)] {
        let source = KafkaSource::open(url(level), false, atomic).await;
        source.expect("opens").close().await.expect("closes");
    }
}
