//! `embedded:` as a user meets it, beyond what every adapter promises: retention, one transaction for outputs and position, taking records out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etl_broker_adapter::embedded::{
    Append, EmbeddedFollow, EmbeddedQueue, EmbeddedSource, EmbeddedTail, Log, OpenOptions,
    Retention, Start, TopicPatterns,
};
use etl_broker_adapter::testing::{pull, pull_rest_now};
use etl_broker_adapter::{
    AckToken, AdapterErrorKind, AdapterUrl, Counts, Ended, From, Item, RunUrls, Runner,
    RunnerOptions, Source, open,
};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn log(folder: &Path) -> Arc<Log> {
    Log::open(folder, OpenOptions { create: true }).expect("opens")
}

fn append(log: &Log, topic: &str, values: std::ops::Range<u32>) {
    let record = |n: u32| Record::new(topic, n.to_string());
    let records: Vec<Record> = values.map(record).collect();
    log.commit(&Append {
        records: records.iter().collect(),
        ..Append::default()
    })
    .expect("commits");
}

fn values(items: &[Item]) -> Vec<String> {
    let record = |item: &Item| item.content.as_ref().expect("a record").value.clone();
    let values = items.iter().map(record);
    values
        .map(|value| String::from_utf8_lossy(&value).into_owned())
        .collect()
}

async fn all(log: &Arc<Log>, topic: &str) -> Vec<String> {
    let topics = TopicPatterns::new([topic]);
    let mut tail = EmbeddedTail::new(log.clone(), topics, From::Beginning, false);
    values(&pull_rest_now(&mut tail).await)
}

async fn pull_some(source: &mut dyn Source, count: usize) -> Vec<AckToken> {
    let items = pull(source, count).await;
    items.iter().map(|item| item.token).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_folder_without_topics_says_how_to_make_one() {
    let folder = folder();
    let missing = folder.path().join("missing");
    let error = Log::open(&missing, OpenOptions::default()).expect_err("there is none");
    assert_eq!(error.kind(), AdapterErrorKind::NotFound);
    assert!(error.to_string().contains("--create"), "{error}");
}

#[test]
fn what_is_no_log_is_refused_and_left_as_it_is() {
    let folder = folder();
    let file = folder.path().join("log.redb");
    std::fs::write(&file, "precious".repeat(10_000)).expect("writes");
    let error = Log::open(folder.path(), OpenOptions::default()).expect_err("no log");
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(
        std::fs::read_to_string(&file).expect("reads"),
        "precious".repeat(10_000)
    );
}

#[tokio::test]
async fn retention_keeps_what_it_says() {
    let folder = folder();
    let log = log(folder.path());
    let keep = |retention| log.create_topic("t", 1, Some(retention)).expect("is set");
    keep(Retention {
        records: 25,
        ..Retention::default()
    });
    for first in (0..100).step_by(10) {
        append(&log, "t", first..first + 10);
    }
    // What was written together goes together, and never more than has to.
    assert_eq!(all(&log, "t").await, numbers(70..100));

    keep(Retention {
        bytes: 1,
        ..Retention::default()
    });
    append(&log, "t", 100..105);
    assert_eq!(all(&log, "t").await, numbers(100..105));

    keep(Retention {
        age: Duration::from_millis(1),
        ..Retention::default()
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    append(&log, "t", 105..106);
    assert_eq!(all(&log, "t").await, numbers(105..106));
    let topic = &log.topics().expect("reads")[0].partitions[0];
    assert_eq!((topic.first, topic.next, topic.records), (105, 106, 1));
}

/// A consumer that is too slow goes on with the oldest that is there.
#[tokio::test]
async fn a_position_that_retention_overtook_moves_up() {
    let folder = folder();
    let log = log(folder.path());
    append(&log, "t", 0..10);
    let open = |log: &Arc<Log>| {
        let topics = TopicPatterns::new(["t"]);
        EmbeddedSource::open(log.clone(), "c", topics, Start::Earliest, false).expect("opens")
    };
    let mut source = open(&log);
    let items = pull(&mut source, 3).await;
    let tokens: Vec<AckToken> = items.iter().map(|item| item.token).collect();
    source.ack(&tokens).await.expect("acknowledges");
    source.close().await.expect("closes");
    drop(source);
    let keep = Retention {
        records: 5,
        ..Retention::default()
    };
    log.create_topic("t", 1, Some(keep)).expect("is set");
    append(&log, "t", 10..15);
    let mut source = open(&log);
    assert_eq!(values(&pull_rest_now(&mut source).await), numbers(10..15));
}

#[tokio::test]
async fn one_consumer_is_read_for_once_at_a_time() {
    let folder = folder();
    let log = log(folder.path());
    let open = |consumer| {
        EmbeddedSource::open(
            log.clone(),
            consumer,
            TopicPatterns::default(),
            Start::Earliest,
            false,
        )
    };
    let first = open("c").expect("opens");
    let error = open("c").err().expect("it is taken");
    assert_eq!(error.kind(), AdapterErrorKind::InUse);
    assert!(error.to_string().contains("consumer c"), "{error}");
    open("d").expect("another one");
    drop(first);
    open("c").expect("it is free again");
}

#[tokio::test]
async fn records_are_taken_out_one_by_one() {
    let folder = folder();
    let log = log(folder.path());
    append(&log, "t", 0..10);
    let mut queue = EmbeddedQueue::new(log.clone(), "t");
    let items = pull(&mut queue, 10).await;
    let tokens: Vec<AckToken> = items.iter().map(|item| item.token).collect();
    queue.ack(&[tokens[7], tokens[2]]).await.expect("takes out");
    queue.ack(&[tokens[0]]).await.expect("takes out");
    assert_eq!(all(&log, "t").await, ["1", "3", "4", "5", "6", "8", "9"]);
    queue
        .ack(&tokens)
        .await
        .expect("those that are gone are gone");
    assert_eq!(all(&log, "t").await, [""; 0]);
    append(&log, "t", 10..12);
    assert_eq!(all(&log, "t").await, numbers(10..12));
    assert_eq!(log.topics().expect("reads")[0].partitions[0].records, 2);
}

async fn runner(from: String, to: String, set: impl FnOnce(&mut RunnerOptions)) -> Runner {
    let url = |text: String| text.parse::<AdapterUrl>().expect("a URL");
    let opened = open(&RunUrls {
        from: url(from),
        to: url(to),
        dead_letters: None,
        create: true,
        max_line_bytes: 1 << 20,
        dead_letter_topic: Default::default(),
    })
    .await
    .expect("opens");
    let loaded = load_text("etl.toml", "", &LoadOptions::isolated()).expect("loads");
    let engine = Orchestrator::start(loaded, Options::default()).expect("starts");
    let mut options = RunnerOptions::default();
    options.batch = 7;
    options.atomic = opened.atomic;
    set(&mut options);
    Runner::new(
        engine,
        opened.source,
        opened.sink,
        opened.dead_letters,
        options,
    )
}

async fn run(from: String, to: String) -> Counts {
    let runner = runner(from, to, |_| {}).await;
    let counters = runner.counters();
    assert_eq!(runner.run().await.expect("runs"), Ended::AtTheEnd);
    counters.read()
}

#[tokio::test]
async fn a_run_within_a_folder_goes_on_where_the_last_one_ended() {
    let folder = folder();
    let dir = folder.path().display();
    let log = log(folder.path());
    append(&log, "t", 0..50);
    let (from, to) = (
        format!("embedded:{dir}?topics=t"),
        format!("embedded:{dir}?prefix=out."),
    );
    assert_eq!(run(from.clone(), to.clone()).await.records_out, 50);
    assert_eq!(run(from.clone(), to.clone()).await.records_in, 0);
    append(&log, "t", 50..60);
    assert_eq!(run(from, to).await.records_out, 10);
    assert_eq!(all(&log, "out.t").await, numbers(0..60));
    assert_eq!(
        log.lag("etl", &TopicPatterns::new(["t"]))
            .expect("reads")
            .records,
        0
    );
}

/// Output that the same run would read again, for ever, is a mistake that costs a dead letter and no disk.
#[tokio::test]
async fn a_record_that_would_come_in_again_becomes_a_dead_letter() {
    let folder = folder();
    let dir = folder.path().display();
    let log = log(folder.path());
    append(&log, "t", 0..3);
    let counts = run(
        format!("embedded:{dir}?topics=t"),
        format!("embedded:{dir}"),
    )
    .await;
    assert_eq!((counts.refused, counts.records_out), (3, 0));
    assert_eq!(all(&log, "t").await, numbers(0..3));
    assert_eq!(all(&log, "t.dlq").await, numbers(0..3));
}

/// The second acknowledgement comes while the position of the first is being written, and nothing comes after it.
#[tokio::test]
async fn the_last_position_is_noted_without_another_acknowledgement() {
    let folder = folder();
    let log = log(folder.path());
    append(&log, "t", 0..20);
    let topics = TopicPatterns::new(["t"]);
    let source = EmbeddedSource::open(log.clone(), "c", topics, Start::Earliest, true);
    let mut source = source.expect("opens");
    let tokens = pull_some(&mut source, 20).await;
    for token in &tokens {
        source.ack(&[*token]).await.expect("takes note");
    }
    let topics = log.topics().expect("are known");
    let noted = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let at = log.position("c", &topics[0], 0).expect("is known");
            if at.is_some_and(|at| at.next == 20) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    noted.await.expect("is noted");
}

#[test]
fn a_folder_that_is_made_anew_is_another_log() {
    let folder = folder();
    let place = folder.path().join("log");
    let identity = || log(&place).identity();
    let first = identity();
    assert_eq!(identity(), first, "the same after it was closed and opened");
    std::fs::rename(&place, folder.path().join("moved")).expect("moves");
    let second = identity();
    assert_ne!(second, first);
    std::fs::remove_dir_all(&place).expect("is removed");
    std::fs::rename(folder.path().join("moved"), &place).expect("moves");
    assert_eq!(identity(), first, "the same in another place");
}

/// Offsets and numbers of topics begin anew there.
#[tokio::test]
async fn who_follows_notices_that_another_log_is_there() {
    let folder = folder();
    let place = folder.path().join("log");
    append(&log(&place), "t", 0..3);
    let mut follow = EmbeddedFollow::new(&place, TopicPatterns::new(["t"]), From::Beginning);
    assert_eq!(values(&pull(&mut follow, 3).await), numbers(0..3));
    std::fs::remove_dir_all(&place).expect("is removed");
    let made = log(&place);
    append(&made, "other", 0..5);
    append(&made, "t", 3..5);
    drop(made);
    assert_eq!(values(&pull(&mut follow, 2).await), numbers(3..5));
}

/// Stopped in the middle, with no time to finish what is in flight, and started again until all has come.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_with_records_in_flight_goes_on_without_a_loss() {
    const COUNT: u32 = 3_000;
    let (source, target) = (folder(), folder());
    append(&log(source.path()), "t", 0..COUNT);
    let (from, to) = (
        format!("embedded:{}?topics=t", source.path().display()),
        format!("embedded:{}?prefix=out.", target.path().display()),
    );
    let written = log(target.path());
    let (mut stopped, mut given_back) = (0, 0);
    loop {
        let runner = runner(from.clone(), to.clone(), |options| {
            options.in_flight_records = 50;
            options.shutdown_grace = Duration::ZERO;
        });
        let runner = runner.await;
        let (stop, counters) = (runner.stop_handle(), runner.counters());
        let running = tokio::spawn(runner.run());
        while counters.read().records_in < 200 && !running.is_finished() {
            tokio::task::yield_now().await;
        }
        stop.stop();
        let ended = running.await.expect("no panic").expect("runs");
        given_back += counters.read().given_back;
        if ended == Ended::AtTheEnd {
            break;
        }
        stopped += 1;
    }
    assert!(stopped > 3, "{stopped}");
    assert!(given_back > 0, "nothing was in flight");
    let came = all(&written, "out.t").await;
    let mut numbers: Vec<u32> = came.iter().map(|n| n.parse().expect("a number")).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
}
