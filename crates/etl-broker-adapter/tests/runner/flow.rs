//! Order, confirmation before acknowledgement, what happens when either side fails or is away, and stopping.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etl_broker_adapter::{
    AdapterError, AdapterErrorKind, BoxFuture, Ended, Outputs, REDELIVERED, Refused, Role, Runner,
    RunnerOptions, Sink,
};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};

use crate::desk::{Fails, Log, Scripted, Then, items, setup};

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

/// Whoever sees it end well would take all that was read for written.
#[tokio::test]
async fn a_runner_that_has_read_everything_and_gives_some_back_has_not_come_to_the_end() {
    let mut setup = setup(VALUES);
    setup.sink.away = Arc::new(Mutex::new(u32::MAX));
    setup.options.shutdown_grace = Duration::from_millis(50);
    let (runner, log) = setup.runner();
    let (stop, counters) = (runner.stop_handle(), runner.counters());
    let running = tokio::spawn(runner.run());
    log.wait_for("out away").await;
    while counters.read().records_in < 7 {
        tokio::task::yield_now().await;
    }
    // The source says that there is no more when it is asked again, which it is before anything else happens.
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.stop();
    let ended = running.await.expect("no panic");
    assert_eq!(ended.expect("runs"), Ended::Stopped);
    assert_eq!(log.of("give back ").len(), 7);
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
