//! The loop of a runner: one event after the other, from the source, the engine and the sinks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use etl_orchestrator::{Orchestrator, Outcome, ProcessError, Record};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::delivery::{Delivered, Delivery, Job};
use super::flow::{Flow, LotId, Ready, Slot};
use super::lag::LagProbe;
use super::{Ended, Runner, RunnerOptions};
use crate::counters::{Counters, add};
use crate::letters::{self, Cause};
use crate::status::{Role, Status, Waiting};
use crate::{
    AckToken, AdapterError, AdapterErrorKind, Batch, BoxFuture, Demand, Item, Output, PartitionKey,
    Pulled, REDELIVERED, Revocation, Source,
};

/// Stands for the topic of what was no record, so that it has a dead-letter topic.
const INVALID: &str = "invalid";

/// When what was given back because its partition waits for the sink for dead letters may come again.
const GIVE_BACK_FOR: Duration = Duration::from_secs(1);

/// Answers of the engine and of sinks that are handled before the next acknowledgement.
const EVENTS: usize = 128;

/// What the engine made of a lot.
type Processed = (LotId, Result<Vec<Outcome>, ProcessError>);

/// Lots that the engine has. They are waited for where the run waits, so that an answer wakes nobody else on its way.
type Processing = FuturesUnordered<BoxFuture<'static, Processed>>;

/// What can happen to lots in flight.
enum Event {
    Processed(Processed),
    Delivered(Delivered),
}

/// A runner that runs.
pub(super) struct Run {
    orchestrator: Arc<Orchestrator>,
    pub(super) source: Box<dyn Source>,
    options: RunnerOptions,
    pub(super) counters: Arc<Counters>,
    status: Arc<Status>,
    stop: watch::Receiver<bool>,
    pub(super) flow: Flow,
    paused: HashSet<PartitionKey>,
    processing: Processing,
    from_sinks: mpsc::UnboundedReceiver<Delivered>,
    to_sink: Option<mpsc::UnboundedSender<Job>>,
    to_letters: Option<mpsc::UnboundedSender<Job>>,
    /// Tells sinks that what they have not confirmed is given up.
    give_up: watch::Sender<bool>,
    /// Partitions of which something became safe.
    touched: HashSet<PartitionKey>,
    /// The source failed, and is tried again then.
    pull_failed: Option<(AdapterError, u32, Instant)>,
}

pub(super) type Tasks = Vec<JoinHandle<Result<(), AdapterError>>>;

/// How long a sink may take to finish what it has confirmed, where the rest was given up.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Run {
    pub(super) fn begin(runner: Runner) -> (Self, Tasks) {
        let (delivered, from_sinks) = mpsc::unbounded_channel();
        let (sink, dead_letters) = runner.sinks;
        let give_up = watch::Sender::new(false);
        let mut tasks = Vec::new();
        let mut start = |role, sink, letters| {
            let (jobs, queue) = mpsc::unbounded_channel();
            let delivery = Delivery {
                role,
                sink,
                jobs: queue,
                letters,
                delivered: delivered.clone(),
                backoff: runner.options.backoff,
                status: runner.status.clone(),
                topic: runner.options.dead_letter_topic.clone(),
                give_up: give_up.subscribe(),
            };
            tasks.push(tokio::spawn(delivery.run()));
            jobs
        };
        let to_letters = dead_letters.map(|sink| start(Role::DeadLetters, sink, None));
        let to_sink = start(Role::Sink, sink, to_letters.clone());
        let run = Self {
            flow: Flow::new(to_letters.is_some(), runner.options.atomic),
            orchestrator: runner.orchestrator,
            source: runner.source,
            options: runner.options,
            counters: runner.counters,
            status: runner.status,
            stop: runner.stop.0.subscribe(),
            paused: HashSet::new(),
            processing: Processing::new(),
            from_sinks,
            to_sink: Some(to_sink),
            to_letters,
            give_up,
            touched: HashSet::new(),
            pull_failed: None,
        };
        // The handle stays with whoever asked for it; without any, nobody can ask.
        (run, tasks)
    }

    /// Until nothing more comes and nothing is in flight. The outer error: a sink or the engine failed, and what is in flight is not safe.
    pub(super) async fn drive(&mut self) -> Result<Result<Ended, AdapterError>, AdapterError> {
        let mut ended: Option<Result<Ended, AdapterError>> = None;
        let mut give_up_at = None;
        let mut lag = LagProbe::new(self.counters.clone());
        while ended.is_none() || !self.flow.is_empty() {
            let most = self.options.in_flight_records.max(1);
            let free = most.saturating_sub(self.flow.records());
            let free_bytes = self
                .options
                .in_flight_bytes
                .saturating_sub(self.flow.bytes());
            let pull = ended.is_none() && free > 0 && free_bytes > 0 && self.pull_failed.is_none();
            let pull_again = self.pull_failed.as_ref().map(|(_, _, at)| *at);
            let letters_away = self.status.is_waiting(Role::DeadLetters);
            self.flow.paused(most, letters_away, &mut self.paused);
            let demand = Demand {
                records: free.min(self.options.batch.max(1)),
                bytes: free_bytes,
                paused: &self.paused,
            };
            lag.ask(&*self.source);
            // Each branch can be dropped and asked again without losing anything.
            tokio::select! {
                biased;
                () = asked(&mut self.stop), if give_up_at.is_none() => {
                    ended.get_or_insert(Ok(Ended::Stopped));
                    give_up_at = Some(Instant::now() + self.options.shutdown_grace);
                }
                () = until(give_up_at), if give_up_at.is_some() => {
                    // Also one that had read everything has not come to the end.
                    ended = ended.map(|ended| ended.map(|_| Ended::Stopped));
                    break;
                }
                event = event(&mut self.processing, &mut self.from_sinks) => self.handle(event).await?,
                // It is asked at the beginning of each round.
                () = until(Some(lag.next)) => {}
                () = until(pull_again), if pull_again.is_some() && ended.is_none() => {
                    ended = self.recover().await.err().map(Err);
                }
                pulled = self.source.pull(demand), if pull => match pulled {
                    Ok(pulled) => {
                        self.status.works(Role::Source);
                        match pulled {
                            Pulled::Batch(batch) => self.take(batch).await?,
                            Pulled::Revoked(revocation) => self.revoke(revocation).await?,
                            Pulled::End => ended = Some(Ok(Ended::AtTheEnd)),
                        }
                    }
                    Err(error) => ended = self.pull_later(error, 1).err().map(Err),
                },
            }
        }
        Ok(ended.unwrap_or(Ok(Ended::AtTheEnd)))
    }

    /// Lets the sinks' tasks finish: `all` that they have, or only what is confirmed.
    pub(super) async fn finish(&mut self, tasks: Tasks, all: bool) -> Result<(), AdapterError> {
        self.to_sink = None;
        self.to_letters = None;
        self.give_up.send_replace(!all);
        let until = (!all).then(|| Instant::now() + LAST_WORDS);
        let mut finished = Ok(());
        for mut task in tasks {
            let ended = tokio::select! {
                ended = &mut task => ended.map_err(engine_failed).flatten(),
                () = self::until(until), if until.is_some() => {
                    task.abort();
                    Err(AdapterError::new(
                        AdapterErrorKind::Unavailable,
                        "a sink did not finish in time: what it had confirmed may not be on its disk",
                    ))
                }
            };
            finished = finished.and(ended);
        }
        finished
    }

    /// Notes when to try a source again that failed, or answers the error if that is of no use.
    fn pull_later(&mut self, error: AdapterError, attempts: u32) -> Result<(), AdapterError> {
        if !error.is_retryable() {
            return Err(error);
        }
        let next = self.options.backoff.after(attempts);
        self.status.wait(Waiting {
            role: Role::Source,
            error: error.to_string(),
            attempts,
            next,
        });
        self.pull_failed = Some((error, attempts, Instant::now() + next));
        Ok(())
    }

    async fn recover(&mut self) -> Result<(), AdapterError> {
        let Some((error, attempts, _)) = self.pull_failed.take() else {
            return Ok(());
        };
        match self.source.recover().await {
            // Whether it works shows with the next pull.
            Ok(true) => Ok(()),
            Ok(false) => Err(error),
            Err(error) => self.pull_later(error, attempts + 1),
        }
    }

    /// Hands what was pulled to the engine, each partition in its order.
    async fn take(&mut self, batch: Batch) -> Result<(), AdapterError> {
        add(&self.counters.bytes_read, batch.bytes_read);
        let mut unwanted = Vec::new();
        let mut lots: Vec<(PartitionKey, Vec<Item>)> = Vec::new();
        let mut places: HashMap<PartitionKey, usize> = HashMap::new();
        let mut place = 0;
        for item in batch.items {
            // One that only has its share in flight is taken all the same: giving back costs more than there is to win.
            if self.paused.contains(&item.partition) && self.flow.is_stuck(item.partition) {
                unwanted.push(item.token);
                continue;
            }
            // Neighbours are mostly of one partition.
            if lots.get(place).is_none_or(|(of, _)| *of != item.partition) {
                place = *places.entry(item.partition).or_insert_with(|| {
                    lots.push((item.partition, Vec::new()));
                    lots.len() - 1
                });
            }
            lots[place].1.push(item);
        }
        for (partition, items) in lots {
            self.submit(partition, items)?;
        }
        if !unwanted.is_empty() {
            add(&self.counters.given_back, unwanted.len() as u64);
            match self.source.give_back(&unwanted, GIVE_BACK_FOR).await {
                // They are not acknowledged, so they come again all the same.
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, records = unwanted.len(), "records could not be given back");
                }
                given_back => given_back?,
            }
        }
        self.settle().await
    }

    fn submit(&mut self, partition: PartitionKey, items: Vec<Item>) -> Result<(), AdapterError> {
        let mut slots = Vec::with_capacity(items.len());
        let mut records = Vec::with_capacity(items.len());
        let mut bytes = 0;
        add(&self.counters.records_in, items.len() as u64);
        for item in items {
            let redelivered = item.redelivered;
            add(&self.counters.redelivered, u64::from(redelivered > 0));
            let letter = match item.content {
                Ok(record) => {
                    bytes += record.weight();
                    let record = marked(record, redelivered);
                    match self.options.max_deliveries {
                        Some(most) if redelivered >= most => {
                            Some(self.poison(&record, redelivered))
                        }
                        _ => {
                            records.push(record);
                            None
                        }
                    }
                }
                Err(invalid) => {
                    bytes += invalid.bytes.len();
                    let topic = self.options.dead_letter_topic.render(INVALID);
                    Some(letters::of_invalid(&invalid, topic.into()))
                }
            };
            slots.push(Slot {
                token: item.token,
                position: item.position,
                letter,
            });
        }
        let lot = self.flow.begin(partition, slots, bytes);
        // From here on the batch has its place, so batches are handled in the order in which they were pulled.
        let outcomes = self.orchestrator.submit_batch(&records);
        // What the engine is alone with it can change in its place.
        drop(records);
        let mut outcomes = Box::pin(outcomes.map_err(engine_failed)?);
        let first = outcomes
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        match first {
            Poll::Ready(outcomes) => self.processed(lot, outcomes),
            Poll::Pending => {
                let answer = async move { (lot, outcomes.await) };
                self.processing.push(Box::pin(answer));
                Ok(())
            }
        }
    }

    /// A record that comes again and again: whatever it is that keeps it from being acknowledged, it shall not keep the others.
    fn poison(&self, record: &Record, redelivered: u32) -> Arc<Record> {
        let topic = self.options.dead_letter_topic.render(&record.topic).into();
        let message = format!("it was given out {redelivered} times and never acknowledged");
        letters::of_record(record, Cause::TooManyDeliveries, &message, topic)
    }

    async fn handle(&mut self, first: Event) -> Result<(), AdapterError> {
        let mut next = Some(first);
        let mut handled = 0;
        while let Some(event) = next {
            match event {
                Event::Processed((lot, outcomes)) => self.processed(lot, outcomes)?,
                Event::Delivered(delivered) => self.delivered(delivered)?,
            }
            handled += 1;
            next = if handled < EVENTS {
                self.waiting()
            } else {
                None
            };
        }
        self.settle().await
    }

    /// What has happened meanwhile.
    fn waiting(&mut self) -> Option<Event> {
        if let Ok(delivered) = self.from_sinks.try_recv() {
            return Some(Event::Delivered(delivered));
        }
        let processed = self.processing.next().now_or_never()??;
        Some(Event::Processed(processed))
    }

    fn processed(
        &mut self,
        lot: LotId,
        outcomes: Result<Vec<Outcome>, ProcessError>,
    ) -> Result<(), AdapterError> {
        let outcomes = outcomes.map_err(engine_failed)?;
        if !self.flow.processed(lot, outcomes) {
            return Err(engine_failed("an outcome is missing"));
        }
        self.advance(lot.partition)
    }

    /// Hands on what of this partition has its turn.
    fn advance(&mut self, partition: PartitionKey) -> Result<(), AdapterError> {
        for ready in self.flow.advance(partition) {
            match ready {
                Ready::Letters(lot, letters) => self.send_letters(lot, letters),
                Ready::Outputs(lot, outputs, tokens) => {
                    let positions = match self.options.atomic {
                        true => Some(self.source.positions(&tokens).ok_or_else(no_pair)?),
                        false => None,
                    };
                    let job = Job {
                        lot: Some(lot),
                        outputs: outputs.into(),
                        positions,
                        done: None,
                    };
                    send_to(self.to_sink.as_ref(), job);
                }
            }
        }
        self.touched.insert(partition);
        Ok(())
    }

    fn send_letters(&self, lot: LotId, letters: Vec<Output>) {
        let job = Job {
            lot: Some(lot),
            outputs: letters.into(),
            positions: None,
            done: None,
        };
        send_to(self.to_letters.as_ref(), job);
    }

    fn delivered(&mut self, delivered: Delivered) -> Result<(), AdapterError> {
        let (role, done) = match delivered {
            Delivered::Confirmed(role, done) => (role, done),
            Delivered::Failed(error) => return Err(error),
        };
        for done in done {
            if !done.letters.is_empty() && self.flow.add_letters(done.lot) {
                self.send_letters(done.lot, done.letters);
            }
            let was_letters = role == Role::DeadLetters;
            self.flow.confirmed(done.lot, was_letters, done.refused);
            self.advance(done.lot.partition)?;
        }
        Ok(())
    }

    /// Lets the source forget what is safe.
    async fn settle(&mut self) -> Result<(), AdapterError> {
        let mut tokens: Vec<AckToken> = Vec::new();
        let mut tallies = Vec::new();
        for partition in self.touched.drain() {
            self.flow.take_safe(partition, &mut tokens, &mut tallies);
        }
        for tally in &tallies {
            self.counters.count(tally);
        }
        self.counters
            .in_flight(self.flow.records(), self.flow.bytes());
        if tokens.is_empty() {
            return Ok(());
        }
        if self.options.atomic {
            self.source.committed(&tokens);
            return Ok(());
        }
        match self.source.ack(&tokens).await {
            // It could not take note, so they come again: that is allowed, and the next pull shows whether it works.
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, records = tokens.len(), "an acknowledgement was lost; the records may come again");
                Ok(())
            }
            result => result,
        }
    }

    /// Finishes what is in flight of partitions that go away, as far as there is time, and forgets the rest.
    async fn revoke(&mut self, revocation: Revocation) -> Result<(), AdapterError> {
        let until = Instant::now() + revocation.within;
        let held = |run: &Self| {
            let mut partitions = revocation.partitions.iter();
            partitions.any(|partition| run.flow.holds(*partition))
        };
        while held(self) {
            let event = event(&mut self.processing, &mut self.from_sinks);
            match tokio::time::timeout_at(until, event).await {
                Ok(event) => self.handle(event).await?,
                Err(_) => break,
            }
        }
        for partition in &revocation.partitions {
            let dropped = self.flow.drop_partition(*partition);
            add(&self.counters.given_back, dropped.len() as u64);
        }
        self.source.release(&revocation.partitions).await
    }
}

/// A task that has ended has said why, and that ends the run.
fn send_to(task: Option<&mpsc::UnboundedSender<Job>>, job: Job) {
    if let Some(task) = task {
        let _ = task.send(job);
    }
}

/// The record with the header that says how often it was given out before, or without one that it brought along.
fn marked(record: Arc<Record>, redelivered: u32) -> Arc<Record> {
    if redelivered == 0 && record.headers.first(REDELIVERED).is_none() {
        return record;
    }
    let mut record = Arc::unwrap_or_clone(record);
    if redelivered == 0 {
        record.headers.remove(REDELIVERED);
    } else {
        let count = Bytes::from(redelivered.to_string());
        record.headers.set(REDELIVERED.into(), count);
    }
    Arc::new(record)
}

/// Waits until somebody asks to stop.
async fn asked(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can ask any more.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending::<()>().await,
    }
}

/// The next thing that happens. A task holds a sender of the channel, so it does not end before.
async fn event(
    processing: &mut Processing,
    sinks: &mut mpsc::UnboundedReceiver<Delivered>,
) -> Event {
    tokio::select! {
        biased;
        Some(delivered) = sinks.recv() => Event::Delivered(delivered),
        Some(processed) = processing.next() => Event::Processed(processed),
        else => std::future::pending().await,
    }
}

fn no_pair() -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::Unsupported,
        "the source and the sink were not opened as a pair, so they cannot commit together",
    )
}

fn engine_failed(error: impl std::fmt::Display) -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::Engine,
        format!("the engine gave up a batch: {error}"),
    )
}
