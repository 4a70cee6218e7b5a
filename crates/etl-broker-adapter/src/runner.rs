//! Pull, process, write, confirm, acknowledge: in this order, for every record.
//!
//! Several batches are in the engine at once, so that all lanes work; their outputs are written in the order in which
//! they were pulled. How many are in flight is bounded, so a slow sink stops the pulling.
//!
//! What is written is confirmed when nothing more is in flight, after some batches, and otherwise after a tenth of a
//! second: a fast source pays for few confirmations, and what a slow one gives does not wait for company.
//!
//! A source that fails ends the run as if it had ended, and its error is reported once all that it gave is safe. A
//! sink that fails ends the run at once: nothing more can be made safe, and nothing more is acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etl_orchestrator::{Orchestrator, Outcome, ProcessError, Record, View};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::counters::{Counters, add};
use crate::{AckToken, AdapterError, AdapterErrorKind, Item, Pulled, Sink, Source, invalid};

/// Batches between two confirmations under load.
const BATCHES_A_CONFIRMATION: usize = 64;

/// The longest time from a write to its confirmation being asked for.
const CONFIRM_AFTER: Duration = Duration::from_millis(100);

/// How a [`Runner`] works.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// Records that are pulled and processed together, at most.
    pub batch: usize,
    /// Batches in the engine at once. Twice the lanes keeps them all busy.
    pub batches_in_flight: usize,
    /// The topic of dead letters made from what was no record.
    pub invalid_topic: Arc<str>,
}

/// Why a run ended, where it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The source had no more.
    AtTheEnd,
    /// [`StopHandle::stop`] was called first.
    Stopped,
}

/// Asks a runner to stop: it pulls no more, finishes what is in flight, and returns.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<watch::Sender<bool>>);

impl StopHandle {
    /// Asks; returns at once. Asking again changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Moves records from a source through the engine to a sink.
pub struct Runner {
    orchestrator: Arc<Orchestrator>,
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
    dead_letters: Option<Box<dyn Sink>>,
    options: RunnerOptions,
    counters: Arc<Counters>,
    stop: StopHandle,
    in_flight: VecDeque<InFlight>,
    unconfirmed: Unconfirmed,
}

/// One batch in the engine.
struct InFlight {
    /// In the order of the source: a place for an outcome, or a dead letter that needs none.
    items: Vec<(AckToken, Option<Arc<Record>>)>,
    outcomes: JoinHandle<Result<Vec<Outcome>, ProcessError>>,
}

/// What has been written since the last confirmation.
#[derive(Default)]
struct Unconfirmed {
    since: Option<Instant>,
    batches: usize,
    tokens: Vec<AckToken>,
    records: u64,
    dead_letters: u64,
}

impl Runner {
    /// A runner. Dead letters go to `dead_letters`, or with all others, by their topic, to `sink`.
    pub fn new(
        orchestrator: Arc<Orchestrator>,
        source: Box<dyn Source>,
        sink: Box<dyn Sink>,
        dead_letters: Option<Box<dyn Sink>>,
        options: RunnerOptions,
    ) -> Self {
        Self {
            orchestrator,
            source,
            sink,
            dead_letters,
            options,
            counters: Arc::default(),
            stop: StopHandle(Arc::new(watch::Sender::new(false))),
            in_flight: VecDeque::new(),
            unconfirmed: Unconfirmed::default(),
        }
    }

    /// What it has done, now and later.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// By which it can be stopped.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Runs until the source ends, or is told to stop. Call it on a tokio runtime with time enabled.
    ///
    /// # Errors
    ///
    /// The source or a sink failed for good.
    pub async fn run(mut self) -> Result<Ended, AdapterError> {
        let mut stop = self.stop.0.subscribe();
        let mut ended: Option<Result<Ended, AdapterError>> = None;
        while ended.is_none() || !self.in_flight.is_empty() {
            let room = self.in_flight.len() < self.options.batches_in_flight.max(1);
            let confirm_at = self.unconfirmed.since.map(|since| since + CONFIRM_AFTER);
            // Each branch can be dropped and asked again without losing anything.
            tokio::select! {
                biased;
                () = asked(&mut stop), if ended.is_none() => ended = Some(Ok(Ended::Stopped)),
                outcomes = next(&mut self.in_flight), if !self.in_flight.is_empty() => {
                    self.write(outcomes?).await?;
                    let idle = self.in_flight.is_empty();
                    if idle || self.unconfirmed.batches >= BATCHES_A_CONFIRMATION {
                        self.confirm().await?;
                    }
                }
                () = tokio::time::sleep_until(confirm_at.unwrap_or_else(Instant::now)), if confirm_at.is_some() => {
                    self.confirm().await?;
                }
                pulled = self.source.pull(self.options.batch.max(1)), if ended.is_none() && room => match pulled {
                    Ok(Some(pulled)) => self.process(pulled),
                    Ok(None) => ended = Some(Ok(Ended::AtTheEnd)),
                    Err(error) => ended = Some(Err(error)),
                },
            }
        }
        self.confirm().await?;
        self.sink.finish().await?;
        if let Some(sink) = &mut self.dead_letters {
            sink.finish().await?;
        }
        ended.unwrap_or(Ok(Ended::AtTheEnd))
    }

    /// Hands a batch to the engine.
    fn process(&mut self, pulled: Pulled) {
        add(&self.counters.records_in, pulled.items.len() as u64);
        add(
            &self.counters.bytes_read,
            pulled.bytes_read - self.counters.read().bytes_read,
        );
        let mut items = Vec::with_capacity(pulled.items.len());
        let mut records = Vec::with_capacity(pulled.items.len());
        for Item { token, content } in pulled.items {
            match content {
                Ok(record) => {
                    records.push(record);
                    items.push((token, None));
                }
                Err(invalid) => {
                    let letter = invalid::dead_letter(&invalid, &self.options.invalid_topic);
                    items.push((token, Some(letter)));
                }
            }
        }
        let orchestrator = self.orchestrator.clone();
        let outcomes = tokio::spawn(async move { orchestrator.process_batch(records).await });
        self.in_flight.push_back(InFlight { items, outcomes });
    }

    /// Writes what came of the oldest batch, in its order: the outputs of a record, then its dead letters.
    async fn write(&mut self, outcomes: Vec<Outcome>) -> Result<(), AdapterError> {
        let Some(batch) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let mut outcomes = outcomes.into_iter();
        let mut outputs = Vec::with_capacity(batch.items.len());
        let mut letters = Vec::new();
        let mut letters_written = 0;
        for (token, letter) in batch.items {
            self.unconfirmed.tokens.push(token);
            let mut new_letters = Vec::from_iter(letter);
            if new_letters.is_empty() {
                let outcome = outcomes
                    .next()
                    .ok_or_else(|| engine_failed("an outcome is missing"))?;
                add(&self.counters.dropped, outcome.dropped.into());
                add(&self.counters.stopped, outcome.stopped.into());
                add(&self.counters.skipped_modules, outcome.skipped.into());
                self.unconfirmed.records += outcome.outputs.len() as u64;
                outputs.extend(outcome.outputs.into_iter().map(View::into_record));
                new_letters.extend(outcome.dead_letters.into_iter().map(|letter| letter.record));
            }
            letters_written += new_letters.len() as u64;
            match self.dead_letters {
                Some(_) => letters.extend(new_letters),
                None => outputs.extend(new_letters),
            }
        }
        self.unconfirmed.dead_letters += letters_written;
        self.unconfirmed.batches += 1;
        self.unconfirmed.since.get_or_insert_with(Instant::now);
        if !outputs.is_empty() {
            self.sink.write(outputs).await?;
        }
        match &mut self.dead_letters {
            Some(sink) if !letters.is_empty() => sink.write(letters).await,
            _ => Ok(()),
        }
    }

    /// Waits until all that was written is safe, and only then lets the source forget it.
    async fn confirm(&mut self) -> Result<(), AdapterError> {
        self.sink.confirm().await?;
        if let Some(sink) = &mut self.dead_letters {
            sink.confirm().await?;
        }
        let done = std::mem::take(&mut self.unconfirmed);
        add(&self.counters.records_out, done.records);
        add(&self.counters.dead_lettered, done.dead_letters);
        self.source.ack(&done.tokens).await
    }
}

/// Waits until somebody asks to stop.
async fn asked(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can ask any more; the runner itself holds a handle, so that does not come.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The outcomes of the oldest batch. It stays in the queue, so that nothing is lost if this is dropped.
async fn next(in_flight: &mut VecDeque<InFlight>) -> Result<Vec<Outcome>, AdapterError> {
    match in_flight.front_mut() {
        Some(batch) => match (&mut batch.outcomes).await {
            Ok(Ok(outcomes)) => Ok(outcomes),
            Ok(Err(error)) => Err(engine_failed(error)),
            Err(error) => Err(engine_failed(error)),
        },
        None => std::future::pending().await,
    }
}

fn engine_failed(error: impl std::fmt::Display) -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::Engine,
        format!("the engine gave up a batch: {error}"),
    )
}
