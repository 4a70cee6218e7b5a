//! The checks. Each writes through the place's own sink, so an adapter is held to what it writes and to what it reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};

use super::{Abilities, Flaky, Memory, PATIENCE, Place, Slow, outputs, pull, pull_rest, write};
use crate::{
    AckToken, BoxFuture, Demand, Item, PartitionKey, Pulled, Runner, RunnerOptions, Sink, Source,
};

/// A check of the suite.
pub struct Check {
    /// What is checked.
    pub name: &'static str,
    /// Whether it is asked of an adapter with these abilities.
    pub applies: fn(&Abilities) -> bool,
    /// Runs it.
    pub run: for<'a> fn(&'a dyn Place) -> BoxFuture<'a, ()>,
}

impl Check {
    /// Runs it at a place of its own, where it applies.
    ///
    /// # Panics
    ///
    /// It does not hold, or does not end.
    pub async fn hold(&self, place: &dyn Place) {
        if !(self.applies)(&place.abilities()) {
            return;
        }
        eprintln!("conformance: {}", self.name);
        let run = tokio::time::timeout(6 * PATIENCE, (self.run)(place));
        assert!(run.await.is_ok(), "{} does not end", self.name);
    }
}

macro_rules! checks {
    ($($name:ident: $applies:expr;)*) => {
        /// Every check.
        pub const CHECKS: &[Check] = &[$(Check {
            name: stringify!($name),
            applies: $applies,
            run: |place| Box::pin($name(place)),
        }),*];
    };
}

checks! {
    records_come_as_they_were_written: |_| true;
    a_megabyte_comes_whole: |_| true;
    order_holds_within_a_partition: |_| true;
    partitions_keep_their_numbers: |can| can.partitions;
    what_is_acknowledged_stays_away: |can| can.redelivers;
    what_is_not_acknowledged_comes_again: |can| can.redelivers;
    what_is_given_back_comes_again: |can| can.redelivers;
    partitions_are_acknowledged_apart: |can| can.redelivers;
    paused_partitions_are_left_out: |can| can.pauses && can.redelivers;
    a_dropped_pull_loses_nothing: |_| true;
    positions_and_records_outlive_a_restart: |can| can.redelivers;
    what_is_too_large_is_refused_alone: |can| can.max_record.is_some();
    the_lag_is_what_is_not_acknowledged: |can| can.lag;
    a_slow_sink_slows_the_source: |_| true;
    a_failing_sink_loses_nothing: |_| true;
    a_run_into_it_loses_nothing: |can| can.redelivers;
}

fn record(topic: &str, value: impl Into<Bytes>) -> Record {
    Record::new(topic, value)
}

fn numbered(topic: &str, numbers: std::ops::Range<u32>) -> Vec<Record> {
    numbers
        .map(|number| record(topic, number.to_string()))
        .collect()
}

async fn sink(place: &dyn Place) -> Box<dyn Sink> {
    place.sink().await.expect("a sink")
}

async fn source(place: &dyn Place, topics: &[&str]) -> Box<dyn Source> {
    place.source(topics, "suite").await.expect("a source")
}

fn content(item: &Item) -> &Arc<Record> {
    item.content.as_ref().expect("a record")
}

fn values(items: &[Item]) -> Vec<String> {
    let value = |item| String::from_utf8_lossy(&content(item).value).into_owned();
    items.iter().map(value).collect()
}

fn tokens(items: &[Item]) -> Vec<AckToken> {
    items.iter().map(|item| item.token).collect()
}

async fn records_come_as_they_were_written(place: &dyn Place) {
    let can = place.abilities();
    let mut written = vec![
        record("suite.a", r#"{"plain":true}"#),
        record("suite.a", ""),
        record("suite.a", &b"\x00\xff binary \n"[..]),
    ];
    written[0].key = Some("key".into());
    written[1].key = can.empty_key.then(Bytes::new);
    written[2].timestamp = can.timestamps.then_some(1_517_363_399_650);
    let headers = &mut written[0].headers;
    headers.add("etl-path".into(), "a".into());
    headers.add("etl-path".into(), "b".into());
    headers.add("etl-path".into(), "a".into());
    headers.add("empty".into(), "".into());
    headers.add("source".into(), "ünïcode".into());
    if can.header_order {
        headers.add("aaa".into(), "after".into());
    }
    if can.binary_headers {
        headers.add(
            "digest".into(),
            Bytes::from_static(b"\xde\xad\x00\n\xbe\xef"),
        );
    }
    let mut to = sink(place).await;
    write(&mut *to, written.clone()).await;
    to.finish().await.expect("finishes");
    let mut from = source(place, &["suite.a"]).await;
    let items = pull(&mut *from, written.len()).await;
    for (item, written) in items.iter().zip(&written) {
        let found = content(item);
        assert_eq!(*found.topic, *written.topic);
        assert_eq!((&found.key, &found.value), (&written.key, &written.value));
        if can.timestamps && written.timestamp.is_some() {
            assert_eq!(found.timestamp, written.timestamp);
        }
        if can.header_order {
            assert_eq!(found.headers, written.headers);
        }
        for (name, _) in written.headers.iter() {
            let all = |record: &Record| record.headers.all(name).cloned().collect::<Vec<_>>();
            assert_eq!(all(found), all(written), "{name}");
        }
        assert_eq!(found.headers.len(), written.headers.len());
        assert_eq!(item.redelivered, 0);
    }
}

async fn a_megabyte_comes_whole(place: &dyn Place) {
    // A server's own limit may be exactly a megabyte, with headers and all.
    let size = place
        .abilities()
        .max_record
        .map_or(1 << 20, |most| most.min(1 << 20));
    let large: Bytes = (0..size - 200).map(|n| (n % 251) as u8).collect();
    let mut to = sink(place).await;
    write(
        &mut *to,
        [
            record("suite.large", large.clone()),
            record("suite.large", "after"),
        ],
    )
    .await;
    to.finish().await.expect("finishes");
    let mut from = source(place, &["suite.large"]).await;
    let items = pull(&mut *from, 2).await;
    assert!(content(&items[0]).value == large, "every byte");
    assert_eq!(content(&items[1]).value, "after");
}

async fn order_holds_within_a_partition(place: &dyn Place) {
    let topics = ["suite.x", "suite.y", "suite.z"];
    let mut to = sink(place).await;
    for first in (0..300).step_by(20) {
        let batch = (first..first + 20).map(|n| record(topics[n as usize % 3], n.to_string()));
        write(&mut *to, batch).await;
    }
    to.finish().await.expect("finishes");
    let mut from = source(place, &topics).await;
    let mut last: HashMap<PartitionKey, (u64, u32)> = HashMap::new();
    let mut seen = HashSet::new();
    for item in pull(&mut *from, 300).await {
        let number: u32 = values(std::slice::from_ref(&item))[0]
            .parse()
            .expect("a number");
        assert!(seen.insert(number), "{number} came twice");
        if let Some((position, before)) = last.insert(item.partition, (item.position, number)) {
            assert!(position < item.position, "positions grow");
            assert!(before < number, "{before} came before {number}");
        }
    }
}

async fn partitions_keep_their_numbers(place: &dyn Place) {
    let mut to = sink(place).await;
    let records = (0..60_u32).map(|n| Record {
        partition: n % 3,
        ..record("suite.p", n.to_string())
    });
    write(&mut *to, records).await;
    let mut from = source(place, &["suite.p"]).await;
    let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut keys: HashMap<u32, PartitionKey> = HashMap::new();
    for item in pull(&mut *from, 60).await {
        let record = content(&item);
        let number = values(std::slice::from_ref(&item))[0]
            .parse()
            .expect("a number");
        found.entry(record.partition).or_default().push(number);
        let key = *keys.entry(record.partition).or_insert(item.partition);
        assert_eq!(key, item.partition, "one key for a partition");
    }
    for partition in 0..3 {
        let expected: Vec<u32> = (0..60).filter(|n| n % 3 == partition).collect();
        assert_eq!(found[&partition], expected);
    }
    assert_eq!(keys.values().collect::<HashSet<_>>().len(), 3);
}

/// Numbers that came again, sorted where the place promises no order of them.
fn came(place: &dyn Place, items: &[Item]) -> Vec<String> {
    let mut numbers = values(items);
    if !place.abilities().redelivers_in_order {
        numbers.sort_by_key(|number| number.parse::<u64>().ok());
    }
    numbers
}

async fn what_is_acknowledged_stays_away(place: &dyn Place) {
    write(&mut *sink(place).await, numbered("suite.a", 0..20)).await;
    let mut from = source(place, &["suite.a"]).await;
    let items = pull(&mut *from, 20).await;
    from.ack(&tokens(&items[..12])).await.expect("acknowledges");
    from.give_back(&tokens(&items[12..]), Duration::ZERO)
        .await
        .expect("gives back");
    from.close().await.expect("closes");
    drop(from);
    let mut again = source(place, &["suite.a"]).await;
    let rest = pull(&mut *again, 8).await;
    assert_eq!(
        came(place, &rest),
        (12..20).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    again.ack(&tokens(&rest)).await.expect("acknowledges");
    again.close().await.expect("closes");
    drop(again);
    let mut empty = source(place, &["suite.a"]).await;
    assert!(
        pull_rest(&mut *empty).await.is_empty(),
        "all is acknowledged"
    );
}

async fn what_is_not_acknowledged_comes_again(place: &dyn Place) {
    write(&mut *sink(place).await, numbered("suite.a", 0..10)).await;
    let mut from = source(place, &["suite.a"]).await;
    assert_eq!(pull(&mut *from, 10).await.len(), 10);
    // As if the process had died.
    drop(from);
    let mut again = source(place, &["suite.a"]).await;
    let items = pull(&mut *again, 10).await;
    assert_eq!(
        came(place, &items),
        (0..10).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    if place.abilities().counts_deliveries {
        assert!(items[0].redelivered >= 1, "it says that it came before");
    }
}

async fn what_is_given_back_comes_again(place: &dyn Place) {
    write(&mut *sink(place).await, numbered("suite.a", 0..10)).await;
    let mut from = source(place, &["suite.a"]).await;
    let items = pull(&mut *from, 10).await;
    from.ack(&tokens(&items[..4])).await.expect("acknowledges");
    from.give_back(&tokens(&items[4..]), Duration::ZERO)
        .await
        .expect("gives back");
    let again = pull(&mut *from, 6).await;
    assert_eq!(
        values(&again),
        (4..10).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert!(again.iter().all(|item| item.redelivered >= 1));
    assert_eq!(again[0].position, items[4].position);
    from.ack(&tokens(&again)).await.expect("acknowledges");
    assert!(pull_rest(&mut *from).await.is_empty());
}

async fn partitions_are_acknowledged_apart(place: &dyn Place) {
    let mut to = sink(place).await;
    write(&mut *to, numbered("suite.a", 0..5)).await;
    write(&mut *to, numbered("suite.b", 5..10)).await;
    let mut from = source(place, &["suite.a", "suite.b"]).await;
    let items = pull(&mut *from, 10).await;
    let of_b: Vec<AckToken> = items
        .iter()
        .filter(|item| *content(item).topic == *"suite.b")
        .map(|item| item.token)
        .collect();
    from.ack(&of_b).await.expect("acknowledges");
    from.close().await.expect("closes");
    drop(from);
    let mut again = source(place, &["suite.a", "suite.b"]).await;
    let rest = pull(&mut *again, 5).await;
    assert_eq!(values(&rest), ["0", "1", "2", "3", "4"]);
}

async fn paused_partitions_are_left_out(place: &dyn Place) {
    let mut to = sink(place).await;
    write(&mut *to, numbered("suite.a", 0..20)).await;
    write(&mut *to, numbered("suite.b", 20..40)).await;
    let mut from = source(place, &["suite.a", "suite.b"]).await;
    // What was fetched before the pause may still come.
    let first = pull(&mut *from, 1).await;
    let stuck = first[0].partition;
    let paused = HashSet::from([stuck]);
    let demand = Demand {
        records: 5,
        bytes: usize::MAX,
        paused: &paused,
    };
    let mut others = 0;
    let mut own = 1;
    while others < 20 {
        match tokio::time::timeout(PATIENCE, from.pull(demand)).await {
            Ok(Ok(Pulled::Batch(batch))) => {
                let paused = batch
                    .items
                    .iter()
                    .filter(|item| item.partition == stuck)
                    .count();
                own += paused;
                others += batch.items.len() - paused;
            }
            other => panic!("only {others} of the other partition came: {other:?}"),
        }
    }
    assert!(own < 20, "the paused partition came whole");
    pull(&mut *from, 20 - own).await;
}

async fn a_dropped_pull_loses_nothing(place: &dyn Place) {
    let mut to = sink(place).await;
    write(&mut *to, numbered("suite.a", 0..200)).await;
    to.finish().await.expect("finishes");
    let mut from = source(place, &["suite.a"]).await;
    let paused = HashSet::new();
    let demand = Demand {
        records: 7,
        bytes: usize::MAX,
        paused: &paused,
    };
    let mut found = Vec::new();
    let begun = tokio::time::Instant::now();
    let mut patience = Duration::from_micros(1);
    while found.len() < 200 && begun.elapsed() < PATIENCE {
        if let Ok(pulled) = tokio::time::timeout(patience, from.pull(demand)).await {
            match pulled.expect("can be pulled from") {
                Pulled::Batch(batch) => found.extend(values(&batch.items)),
                Pulled::Revoked(gone) => from.release(&gone.partitions).await.expect("releases"),
                Pulled::End => break,
            }
        }
        // A pull gets a little longer each time, so that it is dropped at ever other moments.
        patience = (patience + patience / 8 + Duration::from_micros(1)).min(Duration::from_secs(1));
    }
    assert_eq!(found, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
}

async fn positions_and_records_outlive_a_restart(place: &dyn Place) {
    write(&mut *sink(place).await, numbered("suite.a", 0..10)).await;
    let mut from = source(place, &["suite.a"]).await;
    let items = pull(&mut *from, 10).await;
    from.ack(&tokens(&items[..6])).await.expect("acknowledges");
    from.give_back(&tokens(&items[6..]), Duration::ZERO)
        .await
        .expect("gives back");
    from.close().await.expect("closes");
    drop(from);
    place.restart().await;
    write(&mut *sink(place).await, numbered("suite.a", 10..12)).await;
    let mut again = source(place, &["suite.a"]).await;
    let rest = pull(&mut *again, 6).await;
    assert_eq!(
        came(place, &rest),
        (6..12).map(|n| n.to_string()).collect::<Vec<_>>()
    );
}

async fn what_is_too_large_is_refused_alone(place: &dyn Place) {
    let most = place.abilities().max_record.expect("a limit");
    let mut to = sink(place).await;
    let records = [
        record("suite.a", "before"),
        record("suite.a", vec![b'x'; most + 1]),
        record("suite.a", "after"),
    ];
    to.write(outputs(records)).await.expect("is taken");
    let refused = to.confirm().await.expect("the others are confirmed");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].index, 1);
    assert!(
        refused[0].reason.contains(&most.to_string()),
        "{}",
        refused[0].reason
    );
    write(&mut *to, [record("suite.a", "later")]).await;
    let mut from = source(place, &["suite.a"]).await;
    assert_eq!(
        values(&pull(&mut *from, 3).await),
        ["before", "after", "later"]
    );
}

async fn the_lag_is_what_is_not_acknowledged(place: &dyn Place) {
    write(&mut *sink(place).await, numbered("suite.a", 0..10)).await;
    let mut from = source(place, &["suite.a"]).await;
    let items = pull(&mut *from, 10).await;
    from.ack(&tokens(&items[..7])).await.expect("acknowledges");
    let begun = tokio::time::Instant::now();
    loop {
        // Taking note may take its time, and so may the broker's figures.
        let lag = from.lag().await.expect("is known").expect("is known");
        if lag.records == 3 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{lag:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lets everything pass.
fn engine() -> Arc<Orchestrator> {
    let loaded = load_text("etl.toml", "", &LoadOptions::isolated()).expect("loads");
    Orchestrator::start(loaded, Options::default()).expect("starts")
}

fn options() -> RunnerOptions {
    RunnerOptions {
        batch: 10,
        in_flight_records: 100,
        backoff: crate::Backoff {
            first: Duration::from_millis(1),
            limit: Duration::from_millis(5),
        },
        ..RunnerOptions::default()
    }
}

/// Runs from the place into memory until so many different values are there.
async fn run_until(runner: Runner, memory: &Memory, topic: &str, count: usize) -> Vec<String> {
    let (stop, counters) = (runner.stop_handle(), runner.counters());
    let mut running = tokio::spawn(runner.run());
    let begun = tokio::time::Instant::now();
    loop {
        let most = counters.read().in_flight_records;
        assert!(most <= 100, "{most} are in flight");
        let records = memory.records(topic);
        let values: Vec<String> = records
            .iter()
            .map(|record| String::from_utf8_lossy(&record.value).into_owned())
            .collect();
        let different: HashSet<&String> = values.iter().collect();
        if different.len() >= count || running.is_finished() {
            stop.stop();
            (&mut running).await.expect("no panic").expect("runs");
            assert_eq!(different.len(), count);
            return values;
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {count}", different.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_slow_sink_slows_the_source(place: &dyn Place) {
    let mut to = sink(place).await;
    write(&mut *to, numbered("suite.a", 0..500)).await;
    to.finish().await.expect("finishes");
    let memory = Memory::new();
    let slow = Slow(sink(&memory).await, Duration::from_millis(5));
    let from = source(place, &["suite.a"]).await;
    let runner = Runner::new(engine(), from, Box::new(slow), None, options());
    let values = run_until(runner, &memory, "suite.a", 500).await;
    assert_eq!(values, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

async fn a_failing_sink_loses_nothing(place: &dyn Place) {
    let mut to = sink(place).await;
    write(&mut *to, numbered("suite.a", 0..300)).await;
    to.finish().await.expect("finishes");
    let memory = Memory::new();
    let flaky = Flaky::new(sink(&memory).await, 3);
    let from = source(place, &["suite.a"]).await;
    let runner = Runner::new(engine(), from, Box::new(flaky), None, options());
    let values = run_until(runner, &memory, "suite.a", 300).await;
    let mut first = Vec::new();
    let mut seen = HashSet::new();
    first.extend(values.iter().filter(|value| seen.insert(*value)).cloned());
    assert_eq!(
        first,
        (0..300).map(|n| n.to_string()).collect::<Vec<_>>(),
        "in order, but for repetitions"
    );
}

async fn a_run_into_it_loses_nothing(place: &dyn Place) {
    let memory = Memory::new();
    write(&mut *sink(&memory).await, numbered("suite.in", 0..300)).await;
    let flaky = Flaky::new(sink(place).await, 4);
    let from = source(&memory, &["suite.in"]).await;
    let runner = Runner::new(engine(), from, Box::new(flaky), None, options());
    let (stop, counters) = (runner.stop_handle(), runner.counters());
    let running = tokio::spawn(runner.run());
    let begun = tokio::time::Instant::now();
    while counters.read().records_out < 300 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", counters.read());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.stop();
    running.await.expect("no panic").expect("runs");
    let mut from = source(place, &["suite.in"]).await;
    let mut seen = HashSet::new();
    let mut first = Vec::new();
    // A group takes its time to begin, and a silence says nothing before it has.
    let mut items = pull(&mut *from, 1).await;
    items.extend(pull_rest(&mut *from).await);
    for value in values(&items) {
        if seen.insert(value.clone()) {
            first.push(value);
        }
    }
    assert_eq!(first, (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
}
