//! The runner between sources and sinks that note what is asked of them: order, confirmation before acknowledgement, what
//! happens when either side fails or is away, and stopping.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use etl_broker_adapter::{
    AckToken, AdapterError, AdapterErrorKind, Batch, BoxFuture, Counts, Demand, Ended,
    InvalidRecord, Item, Outputs, PartitionKey, Pulled, REDELIVERED, Refused, Revocation, Role,
    Runner, RunnerOptions, Sink, Source,
};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};

/// Everything that happened, in its order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("not poisoned").push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }

    /// What follows this prefix, in order.
    fn of(&self, prefix: &str) -> Vec<String> {
        let all = self.all().into_iter();
        all.filter_map(|line| line.strip_prefix(prefix).map(str::to_owned))
            .collect()
    }

    fn place(&self, line: &str) -> usize {
        let all = self.all();
        let place = all.iter().position(|other| other == line);
        place.unwrap_or_else(|| panic!("no {line} in {all:#?}"))
    }

    async fn wait_for(&self, line: &str) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !self.all().iter().any(|other| other == line) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(waited.await.is_ok(), "no {line} in {:#?}", self.all());
    }
}

/// Gives out what it was given, then does as told. The partition of an item is its topic.
struct Scripted {
    log: Log,
    items: VecDeque<Item>,
    then: Vec<Then>,
}

#[derive(Clone)]
enum Then {
    Fail(AdapterErrorKind),
    Give(&'static [(&'static str, &'static str)]),
    Revoke(&'static str, Duration),
    WaitForEver,
}

impl Source for Scripted {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(async move {
            assert!(demand.records > 0);
            if !self.items.is_empty() {
                let count = demand.records.min(self.items.len());
                return Ok(Pulled::Batch(Batch {
                    items: self.items.drain(..count).collect(),
                    bytes_read: 0,
                }));
            }
            match self.then.first().cloned() {
                None => Ok(Pulled::End),
                Some(Then::WaitForEver) => std::future::pending().await,
                Some(Then::Fail(kind)) => {
                    self.then.remove(0);
                    Err(AdapterError::new(kind, "the source failed"))
                }
                Some(Then::Revoke(topic, within)) => {
                    self.then.remove(0);
                    Ok(Pulled::Revoked(Revocation {
                        partitions: vec![PartitionKey::of(topic, 0)],
                        within,
                    }))
                }
                Some(Then::Give(more)) => {
                    self.then.remove(0);
                    Ok(Pulled::Batch(Batch {
                        items: items(more),
                        bytes_read: 0,
                    }))
                }
            }
        })
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        for token in tokens {
            self.log.note(format!("ack {}", token.0));
        }
        Box::pin(async { Ok(()) })
    }

    fn give_back<'a>(
        &'a mut self,
        tokens: &'a [AckToken],
        _delay: Duration,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        for token in tokens {
            self.log.note(format!("give back {}", token.0));
        }
        Box::pin(async { Ok(()) })
    }

    fn release<'a>(
        &'a mut self,
        partitions: &'a [PartitionKey],
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        self.log.note(format!("release {}", partitions.len()));
        Box::pin(async { Ok(()) })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        self.log.note("recover source");
        Box::pin(async { Ok(true) })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.log.note("close");
        Box::pin(async { Ok(()) })
    }
}

/// Notes what is safe; fails as told.
struct Noting {
    log: Log,
    name: &'static str,
    written: Vec<Arc<Record>>,
    fails: Fails,
}

#[derive(Clone, Default)]
struct Fails {
    /// For good, at this value.
    at: Option<&'static str>,
    /// So many confirmations fail in a way that passes.
    away: Arc<Mutex<u32>>,
    /// These values can never be taken.
    refuses: &'static [&'static str],
}

impl Sink for Noting {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async move {
            for output in outputs.iter() {
                if self.fails.at.is_some_and(|at| at == output.record.value) {
                    return Err(AdapterError::new(
                        AdapterErrorKind::Io,
                        format!("the {} failed", self.name),
                    ));
                }
                self.written.push(output.record.clone());
            }
            Ok(())
        })
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(async move {
            let written = std::mem::take(&mut self.written);
            {
                let mut away = self.fails.away.lock().expect("not poisoned");
                if *away > 0 {
                    *away -= 1;
                    self.log.note(format!("{} away", self.name));
                    return Err(AdapterError::new(
                        AdapterErrorKind::Unavailable,
                        format!("the {} is away", self.name),
                    ));
                }
            }
            let mut refused = Vec::new();
            for (index, record) in written.iter().enumerate() {
                let value = String::from_utf8_lossy(&record.value).into_owned();
                if self.fails.refuses.contains(&&*value) {
                    refused.push(Refused {
                        index,
                        reason: format!("{value} is too much"),
                    });
                } else {
                    let line = format!("{} {} {value}", self.name, record.topic);
                    self.log.note(line);
                }
            }
            Ok(refused)
        })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        Box::pin(async { Ok(true) })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.log.note(format!("{} finish", self.name));
        Box::pin(async { Ok(()) })
    }
}

/// Of topics and values; a value `?` is no record, and `name#2` was given out twice before. Tokens are counted from 0 for digits, else from 100.
fn items(values: &[(&'static str, &'static str)]) -> Vec<Item> {
    let item = |((topic, value), number): (&(&'static str, &'static str), u64)| {
        let (name, redelivered) = value.split_once('#').unwrap_or((value, "0"));
        Item {
            token: AckToken(number),
            partition: PartitionKey::of(topic, 0),
            position: number,
            redelivered: redelivered.parse().expect("a number"),
            content: match name {
                "?" => Err(InvalidRecord {
                    place: "somewhere:1".to_owned(),
                    message: "not a record".to_owned(),
                    bytes: Bytes::from_static(b"?"),
                    length: 1,
                    offset: number,
                }),
                name => Ok(Arc::new(Record::new(*topic, name.to_owned()))),
            },
        }
    };
    let first = match values.first() {
        Some((_, value)) if value.starts_with('+') => 100,
        _ => 0,
    };
    values.iter().zip(first..).map(item).collect()
}

/// A run over an engine that lets everything pass.
struct Setup {
    log: Log,
    items: &'static [(&'static str, &'static str)],
    then: Vec<Then>,
    sink: Fails,
    letters: Option<Fails>,
    options: RunnerOptions,
}

fn setup(items: &'static [(&'static str, &'static str)]) -> Setup {
    let mut options = RunnerOptions::default();
    options.batch = 2;
    options.backoff.first = Duration::from_millis(2);
    options.backoff.limit = Duration::from_millis(4);
    Setup {
        log: Log::default(),
        items,
        then: Vec::new(),
        sink: Fails::default(),
        letters: None,
        options,
    }
}

impl Setup {
    fn runner(self) -> (Runner, Log) {
        let loaded = load_text("etl.toml", "", &LoadOptions::isolated()).expect("loads");
        let mut engine = Options::default();
        engine.lanes = Some(1);
        let engine = Orchestrator::start(loaded, engine).expect("starts");
        let log = self.log.clone();
        let sink = |name, fails| -> Box<dyn Sink> {
            Box::new(Noting {
                log: log.clone(),
                name,
                written: Vec::new(),
                fails,
            })
        };
        let source = Scripted {
            log: self.log.clone(),
            items: items(self.items).into(),
            then: self.then,
        };
        let runner = Runner::new(
            engine,
            Box::new(source),
            sink("out", self.sink),
            self.letters.map(|fails| sink("failed", fails)),
            self.options,
        );
        (runner, self.log)
    }

    async fn run(self) -> (Result<Ended, AdapterError>, Log, Counts) {
        let (runner, log) = self.runner();
        let counters = runner.counters();
        let ended = tokio::time::timeout(Duration::from_secs(30), runner.run()).await;
        (ended.expect("ends"), log, counters.read())
    }
}

const VALUES: &[(&str, &str)] = &[
    ("t", "0"),
    ("t", "1"),
    ("t", "?"),
    ("t", "3"),
    ("t", "4"),
    ("t", "5"),
    ("t", "6"),
];

#[tokio::test]
async fn everything_is_written_in_order_and_acknowledged_after_it_is_safe() {
    let (ended, log, counts) = setup(VALUES).run().await;
    assert_eq!(ended.expect("runs"), Ended::AtTheEnd);
    assert_eq!(
        (counts.records_in, counts.records_out, counts.dead_lettered),
        (7, 6, 1)
    );
    assert_eq!(counts.in_flight_records, 0);
    assert_eq!(log.of("out t "), ["0", "1", "3", "4", "5", "6"]);
    assert_eq!(log.of("ack "), ["0", "1", "2", "3", "4", "5", "6"]);
    assert!(log.place("out t 1") < log.place("out invalid.dlq ?"));
    assert!(log.place("out invalid.dlq ?") < log.place("out t 3"));
    for (value, token) in [("out t 0", 0), ("out invalid.dlq ?", 2), ("out t 6", 6)] {
        assert!(log.place(value) < log.place(&format!("ack {token}")));
    }
    assert_eq!(log.all().last().map(String::as_str), Some("close"));
}

#[tokio::test]
async fn a_record_is_acknowledged_after_its_dead_letter_is_safe_elsewhere() {
    let mut setup = setup(VALUES);
    setup.letters = Some(Fails::default());
    let (ended, log, _) = setup.run().await;
    ended.expect("runs");
    assert!(log.place("failed invalid.dlq ?") < log.place("ack 2"));
    assert!(log.place("out t 3") < log.place("ack 3"));
    assert_eq!(log.of("ack "), ["0", "1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn a_source_that_fails_is_reported_when_all_that_it_gave_is_safe() {
    let mut setup = setup(VALUES);
    setup.then = vec![Then::Fail(AdapterErrorKind::Io)];
    let (ended, log, _) = setup.run().await;
    assert_eq!(ended.expect_err("failed").to_string(), "the source failed");
    assert_eq!(log.of("ack ").len(), 7);
    assert_eq!(log.all().last().map(String::as_str), Some("close"));
}

#[tokio::test]
async fn a_source_that_is_away_is_waited_for() {
    let mut setup = setup(VALUES);
    setup.then = vec![
        Then::Fail(AdapterErrorKind::Unavailable),
        Then::Fail(AdapterErrorKind::Unavailable),
        Then::Give(&[("t", "+7")]),
    ];
    let (ended, log, counts) = setup.run().await;
    assert_eq!(ended.expect("runs"), Ended::AtTheEnd);
    assert_eq!(log.of("recover "), ["source", "source"]);
    assert_eq!((counts.records_in, log.of("ack ").len()), (8, 8));
}

#[tokio::test]
async fn a_sink_that_fails_ends_the_run_and_what_is_not_safe_is_given_back() {
    let mut setup = setup(VALUES);
    setup.then = vec![Then::WaitForEver];
    setup.sink.at = Some("4");
    let (ended, log, counts) = setup.run().await;
    assert_eq!(ended.expect_err("failed").to_string(), "the out failed");
    assert!(counts.records_out <= 3);
    let (safe, back) = (log.of("ack "), log.of("give back "));
    for token in 4..7 {
        assert!(!safe.contains(&token.to_string()), "{:#?}", log.all());
        assert!(back.contains(&token.to_string()), "{:#?}", log.all());
    }
}

#[tokio::test]
async fn a_sink_that_is_away_gets_all_that_is_not_confirmed_again_in_order() {
    let mut setup = setup(VALUES);
    setup.sink.away = Arc::new(Mutex::new(3));
    let (ended, log, counts) = setup.run().await;
    assert_eq!(ended.expect("runs"), Ended::AtTheEnd);
    assert_eq!(log.of("out away").len(), 3);
    assert_eq!(log.of("out t "), ["0", "1", "3", "4", "5", "6"]);
    assert_eq!(log.of("ack ").len(), 7);
    assert_eq!((counts.records_out, counts.dead_lettered), (6, 1));
}

#[tokio::test]
async fn a_stopped_runner_finishes_what_it_has() {
    let mut setup = setup(VALUES);
    setup.then = vec![Then::WaitForEver];
    let (runner, log) = setup.runner();
    let stop = runner.stop_handle();
    let running = tokio::spawn(runner.run());
    log.wait_for("out t 6").await;
    stop.stop();
    let ended = running.await.expect("no panic");
    assert_eq!(ended.expect("runs"), Ended::Stopped);
    assert_eq!(log.of("ack ").len(), 7);
    assert_eq!(log.of("give back "), [""; 0]);
}

#[tokio::test]
async fn a_stopped_runner_gives_back_what_it_cannot_finish() {
    let mut setup = setup(VALUES);
    setup.then = vec![Then::WaitForEver];
    setup.sink.away = Arc::new(Mutex::new(u32::MAX));
    setup.options.shutdown_grace = Duration::from_millis(50);
    let (runner, log) = setup.runner();
    let (stop, status, counters) = (runner.stop_handle(), runner.status(), runner.counters());
    let running = tokio::spawn(runner.run());
    log.wait_for("out away").await;
    let waiting = status.waiting();
    assert_eq!(waiting[0].role, Role::Sink);
    let said = waiting[0].to_string();
    assert!(said.starts_with("the out is away; trying again in "));
    stop.stop();
    let ended = running.await.expect("no panic");
    assert_eq!(ended.expect("runs"), Ended::Stopped);
    assert_eq!(log.of("ack "), [""; 0]);
    assert_eq!(log.of("give back ").len(), 7);
    assert_eq!(counters.read().given_back, 7);
    assert!(log.place("out finish") < log.place("close"));
}

/// What waits for the sink for dead letters is the partition of the record, and nothing else.
#[tokio::test]
async fn dead_letters_that_cannot_go_hold_up_their_partition_alone() {
    const MIXED: &[(&str, &str)] = &[
        ("bad", "?"),
        ("bad", "1"),
        ("good", "2"),
        ("good", "3"),
        ("fine", "4"),
    ];
    let away = Arc::new(Mutex::new(u32::MAX));
    let mut setup = setup(MIXED);
    setup.then = vec![
        Then::Give(&[("bad", "+5"), ("good", "6")]),
        Then::WaitForEver,
    ];
    setup.letters = Some(Fails {
        away: away.clone(),
        ..Fails::default()
    });
    let (runner, log) = setup.runner();
    let (stop, status) = (runner.stop_handle(), runner.status());
    let running = tokio::spawn(runner.run());
    for token in [2, 3, 4, 101] {
        log.wait_for(&format!("ack {token}")).await;
    }
    log.wait_for("failed away").await;
    assert!(status.is_waiting(Role::DeadLetters));
    let acks = log.of("ack ");
    assert!(!acks.contains(&"0".to_owned()) && !acks.contains(&"1".to_owned()));
    *away.lock().expect("not poisoned") = 0;
    log.wait_for("ack 1").await;
    stop.stop();
    running.await.expect("no panic").expect("runs");
    assert!(status.waiting().is_empty());
    let of_bad = |token: &String| ["0", "1", "100"].contains(&&**token);
    let acks: Vec<String> = log.of("ack ").into_iter().filter(of_bad).collect();
    // The third was either taken, or given back because its partition was stuck.
    assert_eq!(acks[..2], ["0", "1"]);
    assert!(acks.len() == 3 || log.of("give back ") == ["100"]);
}

#[tokio::test]
async fn what_a_sink_can_never_take_becomes_a_dead_letter_and_the_rest_goes_on() {
    for apart in [false, true] {
        let mut setup = setup(VALUES);
        setup.sink.refuses = &["1", "5"];
        setup.letters = apart.then(Fails::default);
        let (ended, log, counts) = setup.run().await;
        let refused = counts.refused;
        if apart {
            assert_eq!(ended.expect("runs"), Ended::AtTheEnd);
            assert_eq!(refused, 2);
            assert_eq!((counts.records_out, counts.dead_lettered), (4, 3));
            assert_eq!(log.of("out t "), ["0", "3", "4", "6"]);
            assert_eq!(log.of("failed t.dlq "), ["1", "5"]);
            assert!(log.place("failed t.dlq 5") < log.place("ack 5"));
            assert_eq!(log.of("ack "), ["0", "1", "2", "3", "4", "5", "6"]);
        } else {
            // A sink that refuses the same value again, even alone in its dead letter, cannot be gone on with.
            let error = ended.expect_err("nowhere to go").to_string();
            assert!(
                error.contains("a dead letter for topic t.dlq was refused twice"),
                "{error}"
            );
            assert!(!log.of("ack ").contains(&"1".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_record_says_how_often_it_came_before_and_is_parked_when_that_is_too_often() {
    const AGAIN: &[(&str, &str)] = &[("t", "0"), ("t", "1#2"), ("t", "2#3"), ("t", "3")];
    let mut setup = setup(AGAIN);
    setup.options.max_deliveries = Some(3);
    let (ended, log, counts) = setup.run().await;
    ended.expect("runs");
    assert_eq!(log.of("out t "), ["0", "1", "3"]);
    assert_eq!(log.of("out t.dlq "), ["2"]);
    assert_eq!((counts.redelivered, counts.dead_lettered), (2, 1));
}

#[tokio::test]
async fn the_header_tells_redeliveries_and_not_those_of_somebody_else() {
    let seen: Arc<Mutex<HashMap<String, Option<String>>>> = Arc::default();
    struct Headers(Arc<Mutex<HashMap<String, Option<String>>>>);
    impl Sink for Headers {
        fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
            for output in outputs.iter() {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let header = output.record.headers.first(REDELIVERED).map(text);
                let mut seen = self.0.lock().expect("not poisoned");
                seen.insert(text(&output.record.value), header);
            }
            Box::pin(async { Ok(()) })
        }
        fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }
    let mut given = items(&[("t", "0"), ("t", "1#2"), ("t", "2")]);
    let mut old = Record::new("t", "2");
    old.headers.add(REDELIVERED.into(), "7".into());
    given[2].content = Ok(Arc::new(old));
    let loaded = load_text("etl.toml", "", &LoadOptions::isolated()).expect("loads");
    let runner = Runner::new(
        Orchestrator::start(loaded, Options::default()).expect("starts"),
        Box::new(Scripted {
            log: Log::default(),
            items: given.into(),
            then: Vec::new(),
        }),
        Box::new(Headers(seen.clone())),
        None,
        RunnerOptions::default(),
    );
    runner.run().await.expect("runs");
    let seen = seen.lock().expect("not poisoned");
    assert_eq!(seen["0"], None);
    assert_eq!(seen["1"].as_deref(), Some("2"));
    assert_eq!(seen["2"], None);
}

#[tokio::test]
async fn partitions_that_go_are_finished_if_there_is_time_and_forgotten_if_not() {
    let mut there = setup(VALUES);
    there.then = vec![Then::Revoke("t", Duration::from_secs(20))];
    let (ended, log, counts) = there.run().await;
    ended.expect("runs");
    assert_eq!(log.of("ack ").len(), 7);
    assert!(log.place("ack 6") < log.place("release 1"));
    assert_eq!(counts.given_back, 0);

    let mut gone = setup(VALUES);
    gone.sink.away = Arc::new(Mutex::new(50));
    gone.then = vec![
        Then::Revoke("t", Duration::ZERO),
        Then::Give(&[("t", "+7")]),
    ];
    let (ended, log, counts) = gone.run().await;
    ended.expect("runs");
    // What came after its return is acknowledged, what was in flight before is not.
    assert_eq!(log.of("ack "), ["100"]);
    assert_eq!(counts.given_back, 7);
}

/// However slow the sink, no more is in flight than may be.
#[tokio::test]
async fn what_is_in_flight_is_bounded() {
    const MANY: &[(&str, &str)] = &[("t", "x"); 1_000];
    let mut setup = setup(MANY);
    setup.sink.away = Arc::new(Mutex::new(5));
    setup.options.in_flight_records = 50;
    let (runner, log) = setup.runner();
    let counters = runner.counters();
    let running = tokio::spawn(runner.run());
    let mut most = 0;
    while !running.is_finished() {
        most = most.max(counters.read().in_flight_records);
        tokio::task::yield_now().await;
    }
    running.await.expect("no panic").expect("runs");
    assert!((1..=50).contains(&most), "{most}");
    assert_eq!(log.of("ack ").len(), 1_000);
}
