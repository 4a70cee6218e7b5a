//! Pull, process, write, confirm, acknowledge: in this order, for every record.
//!
//! **Partitions** go side by side. What one pull gives of a partition is a lot ([`flow`]); many lots are in the engine at once, and what came
//! of them is written in the order of their partition. A partition whose oldest lot waits (for a retry, or for a sink for dead letters that is away) waits
//! alone, and may take up at most half of what is free, so there is room for the others.
//!
//! **Sinks** have tasks of their own ([`delivery`]), so that one that is slow or away does not stop the other. How much is in flight is bounded in
//! records and bytes, from pull to acknowledgement, so a slow sink stops the pulling.
//!
//! **What fails.** A failure that passes ([`AdapterError::is_retryable`]) is waited out with growing pauses, and [`Status`] says what is waited
//! for. A source that fails for good ends the run as if it had ended, and its error is reported once all that it gave is safe. A
//! sink that fails for good ends the run at once: nothing more can be made safe, nothing more is acknowledged, and what was in flight is given back.

mod backoff;
mod delivery;
mod flow;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use etl_config::TopicTemplate;
use etl_orchestrator::{Orchestrator, Outcome, ProcessError, Record};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::backoff::Backoff;
use self::delivery::{Delivered, Delivery, Job};
pub(crate) use self::flow::Tally;
use self::flow::{Flow, LotId, Ready, Slot};
use crate::counters::{Counters, add};
use crate::letters::{self, Cause};
use crate::status::{Role, Status, Waiting};
use crate::{
    AckToken, AdapterError, AdapterErrorKind, Batch, Demand, Item, Lag, Output, PartitionKey,
    Pulled, REDELIVERED, Revocation, Sink, Source,
};

/// Stands for the topic of what was no record, so that it has a dead-letter topic.
const INVALID: &str = "invalid";

/// When what was given back because its partition waits for the sink for dead letters may come again.
const GIVE_BACK_FOR: Duration = Duration::from_secs(1);

/// How often the source is asked how far it is behind.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// Answers of the engine and of sinks that are handled before the next acknowledgement.
const EVENTS: usize = 128;

/// How a [`Runner`] works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunnerOptions {
    /// Records that are pulled together, at most.
    pub batch: usize,
    /// Records in flight, from being pulled to being acknowledged, at most. What is in flight when the process dies comes again.
    pub in_flight_records: usize,
    /// The same in bytes; a pull may go over it by one record.
    pub in_flight_bytes: usize,
    /// The topic of dead letters that no module caused, by the topic of the record.
    pub dead_letter_topic: TopicTemplate,
    /// A record that comes again after so many deliveries becomes a dead letter unprocessed. `None`: it may come as often as it will.
    pub max_deliveries: Option<u32>,
    /// How long a runner that was told to stop goes on with what is in flight. What is left then is given back.
    pub shutdown_grace: Duration,
    /// Waits between attempts at what is away.
    pub backoff: Backoff,
    /// The sink commits the positions of the source: they were opened as a pair.
    pub atomic: bool,
}

impl Default for RunnerOptions {
    fn default() -> Self {
        Self {
            batch: 256,
            in_flight_records: 16_384,
            in_flight_bytes: 64 << 20,
            dead_letter_topic: TopicTemplate::default(),
            max_deliveries: None,
            shutdown_grace: Duration::from_secs(30),
            backoff: Backoff::default(),
            atomic: false,
        }
    }
}

/// Why a run ended, where it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The source had no more.
    AtTheEnd,
    /// [`StopHandle::stop`] was called first.
    Stopped,
}

/// Asks a runner to stop: it pulls no more, finishes or gives back what is in flight, and returns.
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
    options: RunnerOptions,
    counters: Arc<Counters>,
    status: Arc<Status>,
    stop: StopHandle,
    sinks: (Box<dyn Sink>, Option<Box<dyn Sink>>),
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
            options,
            counters: Arc::default(),
            status: Arc::default(),
            stop: StopHandle(Arc::new(watch::Sender::new(false))),
            sinks: (sink, dead_letters),
        }
    }

    /// What it has done, now and later.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// What it waits for, now and later.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
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
    pub async fn run(self) -> Result<Ended, AdapterError> {
        let (mut run, tasks) = Run::begin(self);
        let ended = run.drive().await;
        let left = run.flow.drop_all();
        add(&run.counters.given_back, left.len() as u64);
        run.counters.in_flight(0, 0);
        if !left.is_empty()
            && let Err(error) = run.source.give_back(&left, Duration::ZERO).await
        {
            tracing::warn!(%error, "what was in flight could not be given back; it comes again later");
        }
        let finished = if ended.is_ok() && left.is_empty() {
            run.finish(tasks).await
        } else {
            tasks.into_iter().for_each(|task| task.abort());
            Ok(())
        };
        let closed = run.source.close().await;
        let ended = ended?;
        finished?;
        closed?;
        ended
    }
}

/// What can happen to lots in flight.
enum Event {
    Processed(LotId, Result<Vec<Outcome>, ProcessError>),
    Delivered(Delivered),
}

/// A runner that runs.
struct Run {
    orchestrator: Arc<Orchestrator>,
    source: Box<dyn Source>,
    options: RunnerOptions,
    counters: Arc<Counters>,
    status: Arc<Status>,
    stop: watch::Receiver<bool>,
    flow: Flow,
    paused: HashSet<PartitionKey>,
    processed: mpsc::UnboundedSender<(LotId, Result<Vec<Outcome>, ProcessError>)>,
    from_engine: mpsc::UnboundedReceiver<(LotId, Result<Vec<Outcome>, ProcessError>)>,
    from_sinks: mpsc::UnboundedReceiver<Delivered>,
    to_sink: Option<mpsc::UnboundedSender<Job>>,
    to_letters: Option<mpsc::UnboundedSender<Job>>,
    /// Partitions of which something became safe.
    touched: HashSet<PartitionKey>,
    /// The source failed, and is tried again then.
    pull_failed: Option<(AdapterError, u32, Instant)>,
}

type Tasks = Vec<JoinHandle<Result<(), AdapterError>>>;

impl Run {
    fn begin(runner: Runner) -> (Self, Tasks) {
        let (processed, from_engine) = mpsc::unbounded_channel();
        let (delivered, from_sinks) = mpsc::unbounded_channel();
        let (sink, dead_letters) = runner.sinks;
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
            processed,
            from_engine,
            from_sinks,
            to_sink: Some(to_sink),
            to_letters,
            touched: HashSet::new(),
            pull_failed: None,
        };
        // The handle stays with whoever asked for it; without any, nobody can ask.
        (run, tasks)
    }

    /// Until nothing more comes and nothing is in flight. The outer error: a sink or the engine failed, and what is in flight is not safe.
    async fn drive(&mut self) -> Result<Result<Ended, AdapterError>, AdapterError> {
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
                () = until(give_up_at), if give_up_at.is_some() => break,
                event = event(&mut self.from_engine, &mut self.from_sinks) => self.handle(event).await?,
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

    /// Lets the sinks' tasks finish.
    async fn finish(&mut self, tasks: Tasks) -> Result<(), AdapterError> {
        self.to_sink = None;
        self.to_letters = None;
        for task in tasks {
            task.await.map_err(engine_failed)??;
        }
        Ok(())
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
        let mut order: Vec<PartitionKey> = Vec::new();
        let mut lots: HashMap<PartitionKey, Vec<Item>> = HashMap::new();
        for item in batch.items {
            // One that only has its share in flight is taken all the same: giving back costs more than there is to win.
            if self.paused.contains(&item.partition) && self.flow.is_stuck(item.partition) {
                unwanted.push(item.token);
                continue;
            }
            let lot = lots.entry(item.partition).or_insert_with(|| {
                order.push(item.partition);
                Vec::new()
            });
            lot.push(item);
        }
        for partition in order {
            if let Some(items) = lots.remove(&partition) {
                self.submit(partition, items)?;
            }
        }
        if !unwanted.is_empty() {
            add(&self.counters.given_back, unwanted.len() as u64);
            self.source.give_back(&unwanted, GIVE_BACK_FOR).await?;
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
        let orchestrator = self.orchestrator.clone();
        // The first poll puts the batch into the engine's queue, so batches are there in the order in which they were pulled.
        let mut outcomes = Box::pin(async move { orchestrator.process_batch(records).await });
        let first = outcomes
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        match first {
            Poll::Ready(outcomes) => self.processed(lot, outcomes),
            Poll::Pending => {
                let processed = self.processed.clone();
                tokio::spawn(async move {
                    // A run that has ended needs no answer.
                    let _ = processed.send((lot, outcomes.await));
                });
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
                Event::Processed(lot, outcomes) => self.processed(lot, outcomes)?,
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
        let processed = self.from_engine.try_recv().ok();
        processed.map(|(lot, outcomes)| Event::Processed(lot, outcomes))
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
            let event = event(&mut self.from_engine, &mut self.from_sinks);
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

/// Asks the source now and then how far it is behind, one question at a time.
struct LagProbe {
    counters: Arc<Counters>,
    next: Instant,
    asking: Option<JoinHandle<()>>,
}

impl LagProbe {
    fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            next: Instant::now(),
            asking: None,
        }
    }

    fn ask(&mut self, source: &dyn Source) {
        let now = Instant::now();
        if now < self.next || self.asking.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.next = now + LAG_EVERY;
        let (lag, counters) = (source.lag(), self.counters.clone());
        self.asking = Some(tokio::spawn(async move {
            match lag.await {
                Ok(lag) => counters.set_lag(lag.map(|lag: Lag| Arc::new(lag))),
                Err(error) => tracing::debug!(%error, "the lag is not known"),
            }
        }));
    }
}

impl Drop for LagProbe {
    fn drop(&mut self) {
        if let Some(task) = &self.asking {
            task.abort();
        }
    }
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

/// The next thing that happens. The runner holds a sender of each channel or a task does, so neither ends before.
async fn event(
    engine: &mut mpsc::UnboundedReceiver<(LotId, Result<Vec<Outcome>, ProcessError>)>,
    sinks: &mut mpsc::UnboundedReceiver<Delivered>,
) -> Event {
    tokio::select! {
        biased;
        Some(delivered) = sinks.recv() => Event::Delivered(delivered),
        Some((lot, outcomes)) = engine.recv() => Event::Processed(lot, outcomes),
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
