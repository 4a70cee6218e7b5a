//! The load of the soak and its books: what was sent, what came back, and whether that is what should have.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use etl_orchestrator::{FailureKind, Orchestrator, Outcome, ProcessError, Record};

use crate::guests::{LOOP, POISON, TOPICS};

/// Partitions of each topic; each is a stream of its own.
pub const PARTITIONS: u32 = 2;

/// Between two batches of a stream.
const PACE: Duration = Duration::from_millis(5);

/// Batches of a stream under way at once.
const UNDER_WAY: usize = 4;

/// Of so many records one is poison, and of so many one makes a guest loop.
const POISON_IN: u64 = 101;
const LOOP_IN: u64 = 40_009;

/// What all streams count together.
#[derive(Default)]
pub struct Books {
    pub sent: AtomicU64,
    pub seen: AtomicU64,
    pub dead_letters: AtomicU64,
    pub skipped: AtomicU64,
    pub undone: AtomicU64,
    pub retries: AtomicU64,
    /// Records without fault that a guest was not given the time for, because the machine had none. They are accounted for like others.
    pub late: AtomicU64,
    /// What should not have been, the first of each stream.
    pub wrong: Mutex<Vec<String>>,
    /// Microseconds of batches without poison since the last look.
    latencies: Mutex<Vec<f64>>,
    quiet: Mutex<Quiet>,
}

/// Since when nothing has come back, and the longest such time since the last look.
#[derive(Default)]
struct Quiet {
    since: Option<Instant>,
    longest: Duration,
}

impl Quiet {
    fn look(&mut self) -> Duration {
        let quiet = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.longest = self.longest.max(quiet);
        self.longest
    }
}

impl Books {
    /// The latencies since the last call.
    pub fn take_latencies(&self) -> Vec<f64> {
        std::mem::take(
            &mut self
                .latencies
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The longest time since the last call in which no outcome came back at all, whatever was under way. One that lasts counts as far
    /// as it has come, and whole next time.
    pub fn take_longest_quiet(&self) -> Duration {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.look();
        std::mem::take(&mut quiet.longest)
    }

    fn came_back(&self) {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.look();
        quiet.since = Some(Instant::now());
    }

    fn took(&self, time: Duration) {
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(time.as_secs_f64() * 1e6);
    }

    fn wrong(&self, what: String) {
        self.wrong
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }
}

type Answer = Result<Vec<Outcome>, ProcessError>;

enum Batch {
    Done(Answer),
    UnderWay(tokio::task::JoinHandle<Answer>),
}

/// Sends batches of one partition until told to stop, at a steady pace as long as what is under way allows it, and checks every outcome
/// in the order in which they come. Ends at the first that is wrong.
pub async fn stream(
    orchestrator: Arc<Orchestrator>,
    books: Arc<Books>,
    topic: usize,
    partition: u32,
    stop: Arc<AtomicBool>,
) {
    let (mut sent, mut seen) = (0_u64, 0_u64);
    let mut under_way: VecDeque<Batch> = VecDeque::new();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        if !stopped {
            pace.tick().await;
            let records: Vec<_> = (sent..sent + 1 + sent % 37)
                .map(|offset| record(topic, partition, offset))
                .collect();
            let healthy = records.iter().all(|record| poison(record).is_none());
            sent += records.len() as u64;
            books
                .sent
                .fetch_add(records.len() as u64, Ordering::Relaxed);
            let (orchestrator, books) = (orchestrator.clone(), books.clone());
            let mut process: Pin<Box<dyn Future<Output = Answer> + Send>> = Box::pin(async move {
                let given = Instant::now();
                let answer = orchestrator.process_batch(records).await;
                books.came_back();
                if healthy {
                    books.took(given.elapsed());
                }
                answer
            });
            // Looked at here and now, so that batches are given in the order of their offsets.
            let early = poll_fn(|context| Poll::Ready(process.as_mut().poll(context))).await;
            under_way.push_back(match early {
                Poll::Ready(answer) => Batch::Done(answer),
                Poll::Pending => Batch::UnderWay(tokio::spawn(process)),
            });
        }
        while under_way.len() >= UNDER_WAY || (stopped && !under_way.is_empty()) {
            let Some(batch) = under_way.pop_front() else {
                break;
            };
            let answer = match batch {
                Batch::Done(answer) => answer,
                Batch::UnderWay(task) => match task.await {
                    Ok(answer) => answer,
                    Err(error) => return books.wrong(format!("{}: {error}", TOPICS[topic])),
                },
            };
            let outcomes = match answer {
                Ok(outcomes) => outcomes,
                Err(error) => return books.wrong(format!("{}: {error}", TOPICS[topic])),
            };
            for outcome in &outcomes {
                if let Err(what) = check(&books, topic, partition, seen, outcome) {
                    return books.wrong(format!(
                        "{}/{partition}, record {seen}: {what}",
                        TOPICS[topic]
                    ));
                }
                seen += 1;
            }
            books
                .seen
                .fetch_add(outcomes.len() as u64, Ordering::Relaxed);
        }
        if stopped {
            if seen != sent {
                books.wrong(format!("{sent} sent, {seen} came back"));
            }
            return;
        }
    }
}

fn record(topic: usize, partition: u32, offset: u64) -> Arc<Record> {
    // Each stream has its loops at another time, so that a stall of all of them is not the guests' doing.
    let streams = TOPICS.len() as u64 * u64::from(PARTITIONS);
    let stream = topic as u64 * u64::from(PARTITIONS) + u64::from(partition);
    let turn = stream * LOOP_IN / streams;
    let first = if (offset + turn) % LOOP_IN == LOOP_IN - 1 {
        LOOP
    } else if offset.is_multiple_of(POISON_IN) {
        POISON[(offset / POISON_IN) as usize % 3]
    } else {
        b'.'
    };
    let value = format!("{} {partition} {offset}", char::from(first));
    Arc::new(Record {
        partition,
        offset,
        ..Record::new(TOPICS[topic], value)
    })
}

fn poison(record: &Record) -> Option<u8> {
    let first = *record.value.first()?;
    POISON.contains(&first).then_some(first)
}

/// Whether this is what must become of the record of this offset.
fn check(
    books: &Books,
    topic: usize,
    partition: u32,
    offset: u64,
    outcome: &Outcome,
) -> Result<(), String> {
    let sent = record(topic, partition, offset);
    let poison = poison(&sent);
    books
        .skipped
        .fetch_add(outcome.skipped.into(), Ordering::Relaxed);
    books
        .undone
        .fetch_add(outcome.stopped.into(), Ordering::Relaxed);
    books
        .retries
        .fetch_add(outcome.retries.into(), Ordering::Relaxed);
    let shown = || {
        format!(
            "{} became {outcome:?}",
            String::from_utf8_lossy(&sent.value)
        )
    };
    let late = |failed: bool| {
        if poison.is_none() && failed {
            books.late.fetch_add(1, Ordering::Relaxed);
        }
    };
    match (&outcome.outputs[..], &outcome.dead_letters[..]) {
        ([], [letter]) => {
            books.dead_letters.fetch_add(1, Ordering::Relaxed);
            late(true);
            let header = letter.record.headers.first("etl-dlq-offset");
            let named = header == Some(offset.to_string().as_bytes());
            let expected = match poison {
                Some(b'!') => letter.kind() == FailureKind::Trap,
                Some(b'#') => letter.kind() == FailureKind::InvalidOutput,
                Some(b'%') => letter.kind() == FailureKind::Module,
                _ => letter.kind() == FailureKind::Timeout,
            };
            if topic != 0 || !named || !expected {
                return Err(shown());
            }
        }
        ([output], []) => {
            let original = output.original();
            if (original.partition, original.offset) != (partition, offset) {
                return Err(format!(
                    "lost, doubled or out of order: record {} came",
                    original.offset
                ));
            }
            if outcome.stopped > 0 {
                late(true);
                let retried = poison != Some(LOOP) || outcome.retries > 0;
                let whole = *output.value() == sent.value;
                return (topic == 2 && retried && whole)
                    .then_some(())
                    .ok_or_else(shown);
            }
            if topic != 1 && poison.is_some() {
                return Err(shown());
            }
            let stamps = output
                .value()
                .strip_prefix(&sent.value[..])
                .ok_or_else(shown)?;
            late(outcome.skipped > 0);
            match stamps {
                [a, b] if a == b => {}
                // A stamp that was skipped is missing.
                [_] if outcome.skipped > 0 && poison.is_none() => {}
                _ => return Err(shown()),
            }
        }
        _ => return Err(shown()),
    }
    Ok(())
}
