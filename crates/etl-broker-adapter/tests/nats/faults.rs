//! What can happen to a server while records are on their way: none is lost, none comes twice, and what cannot go on says why.

use std::time::Duration;

use etl_broker_adapter::{AdapterErrorKind, Ended, Sink};

use crate::desk::{self, LONG, Worker, numbered, outputs};
use crate::nats_server::NatsServer;

async fn jetstream(server: &NatsServer) -> async_nats::jetstream::Context {
    let client = async_nats::connect(server.address())
        .await
        .expect("a connection");
    async_nats::jetstream::new(client)
}

/// Waits until a stream holds so many.
async fn stored(server: &NatsServer, stream: &str, count: u64) {
    let done = tokio::time::timeout(LONG, async {
        loop {
            let context = jetstream(server).await;
            if let Ok(mut stream) = context.get_stream(stream).await
                && let Ok(info) = stream.info().await
                && info.state.messages >= count
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    done.await
        .unwrap_or_else(|_| panic!("{stream} does not get {count} records"));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_again() {
    const COUNT: u64 = 20_000;
    let Some(mut server) = NatsServer::start("a killed NATS server") else {
        return;
    };
    let (from, to) = (
        server.url("IN?subject=orders.>&ack-wait=5s"),
        server.url("OUT?prefix=out"),
    );
    desk::write(&from, numbered(0..COUNT)).await;
    let worker = Worker::start(&from, &to).await;
    for step in 1..=3 {
        stored(&server, "OUT", step * COUNT / 5).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.restart();
    }
    stored(&server, "OUT", COUNT).await;
    assert_eq!(worker.stop().await.expect("no error"), Ended::Stopped);
    let records = desk::contents(&to, COUNT as usize).await;
    // What was on its way when the server went comes again behind what follows it.
    desk::all_once(&records, COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_for_longer_than_the_ack_wait() {
    const COUNT: u64 = 20_000;
    let Some(server) = NatsServer::start("a paused NATS server") else {
        return;
    };
    let (from, to) = (
        server.url("IN?subject=orders.>&ack-wait=2s"),
        server.url("OUT?prefix=out"),
    );
    desk::write(&from, numbered(0..COUNT)).await;
    let worker = Worker::start(&from, &to).await;
    stored(&server, "OUT", COUNT / 4).await;
    server.pause();
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.resume();
    stored(&server, "OUT", COUNT).await;
    assert_eq!(worker.stop().await.expect("no error"), Ended::Stopped);
    let records = desk::contents(&to, COUNT as usize).await;
    // What was on its way when the server went comes again behind what follows it.
    desk::all_once(&records, COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_is_deleted() {
    const COUNT: u64 = 4_000;
    let Some(server) = NatsServer::start("a deleted NATS consumer") else {
        return;
    };
    let (from, to) = (
        server.url("IN?subject=orders.>"),
        server.url("OUT?prefix=out"),
    );
    desk::write(&from, numbered(0..COUNT)).await;
    let worker = Worker::start(&from, &to).await;
    stored(&server, "OUT", COUNT / 4).await;
    let context = jetstream(&server).await;
    context
        .delete_consumer_from_stream("etl", "IN")
        .await
        .expect("deleted");
    stored(&server, "OUT", COUNT).await;
    // It goes on with what comes later.
    let mut sink = desk::sink(&from).await;
    sink.write(outputs(COUNT, numbered(COUNT..COUNT + 100)))
        .await
        .expect("written");
    sink.confirm().await.expect("confirmed");
    stored(&server, "OUT", COUNT + 100).await;
    assert_eq!(worker.stop().await.expect("no error"), Ended::Stopped);
    let records = desk::contents(&to, COUNT as usize + 100).await;
    desk::all_once(&records, COUNT + 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_deleted() {
    let Some(server) = NatsServer::start("a deleted NATS stream") else {
        return;
    };
    let (from, to) = (
        server.url("IN?subject=orders.>"),
        server.url("OUT?prefix=out"),
    );
    desk::write(&from, numbered(0..100)).await;
    let worker = Worker::start(&from, &to).await;
    stored(&server, "OUT", 100).await;
    let context = jetstream(&server).await;
    context.delete_stream("IN").await.expect("deleted");
    let error = worker.ends().await.expect_err("it cannot go on");
    assert_eq!(error.kind(), AdapterErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("no stream `IN`"), "{error}");

    // And the stream that is written to.
    let from = server.url("IN2?subject=orders.>");
    desk::write(&from, numbered(0..100)).await;
    let worker = Worker::start(&from, &to).await;
    context.delete_stream("OUT").await.expect("deleted");
    let mut sink = desk::sink(&from).await;
    sink.write(outputs(100, numbered(100..200)))
        .await
        .expect("written");
    sink.confirm().await.expect("confirmed");
    let error = worker.ends().await.expect_err("it cannot go on");
    assert_eq!(error.kind(), AdapterErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("no stream `OUT`"), "{error}");
    // What could not be written was not acknowledged.
    let mut consumer = context
        .get_consumer_from_stream::<async_nats::jetstream::consumer::pull::Config, _, _>(
            "etl", "IN2",
        )
        .await
        .expect("it is there");
    let info = consumer.info().await.expect("known");
    assert!(
        info.num_pending + info.num_ack_pending as u64 >= 100,
        "{info:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_is_left() {
    const COUNT: u64 = 3_000;
    let limits = "jetstream { store_dir: \"$STORE\", max_file_store: 2MB, max_mem_store: 1MB }";
    let Some(server) = NatsServer::with("a full NATS server", limits) else {
        return;
    };
    let (from, to) = (
        server.url("IN?subject=orders.>"),
        server.url("OUT?prefix=out"),
    );
    let padded = numbered(0..COUNT).map(|mut record| {
        record.headers.add("padding".into(), "x".repeat(350).into());
        record
    });
    desk::write(&from, padded).await;
    let worker = Worker::start(&from, &to).await;
    // Both do not fit; it waits.
    stored(&server, "OUT", COUNT / 4).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let context = jetstream(&server).await;
    let mut stream = context.get_stream("OUT").await.expect("it is there");
    let held = stream.info().await.expect("known").state.messages;
    assert!(
        held < COUNT,
        "all {held} fit; the limit is too high for this test"
    );
    // What is there was read by somebody, and makes room.
    let first = desk::contents(&to, usize::try_from(held).expect("a number")).await;
    stream.purge().await.expect("purged");
    let rest = COUNT - first.len() as u64;
    let done = tokio::time::timeout(LONG, async {
        loop {
            let info = stream.info().await.expect("known");
            if info.state.messages >= rest {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    done.await.expect("it goes on once there is room");
    assert_eq!(worker.stop().await.expect("no error"), Ended::Stopped);
    let mut records = first;
    records.extend(desk::contents(&to, usize::try_from(rest).expect("a number")).await);
    desk::all_once(&records, COUNT);
}

/// Nobody may take what was never stored for stored.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_written_is_not_confirmed() {
    let Some(mut server) = NatsServer::start("a NATS server that goes while it is written to")
    else {
        return;
    };
    let mut sink = desk::sink(&server.url("OUT?prefix=out")).await;
    server.kill();
    let mut written = 0;
    let gone = tokio::time::timeout(LONG, async {
        loop {
            let batch = outputs(written, numbered(written..written + 5_000));
            if sink.write(batch).await.is_err() {
                return;
            }
            written += 5_000;
        }
    });
    gone.await.expect("it is noticed");
    let confirmed = sink.confirm().await.expect_err("nothing is there");
    assert_eq!(
        confirmed.kind(),
        AdapterErrorKind::Unavailable,
        "{confirmed}"
    );
    server.restart();
    assert!(sink.recover().await.expect("it is there again"));
    sink.write(outputs(0, numbered(0..10)))
        .await
        .expect("it can be written to again");
    assert_eq!(sink.confirm().await.expect("they are safe"), []);
}
