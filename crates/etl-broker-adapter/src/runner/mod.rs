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
//! sink that fails for good ends the run at once: nothing more can be made safe, nothing more is acknowledged, and what was in flight is given back. However a run ends, its sinks are
//! [finished](Sink::finish), as what they confirmed was acknowledged.

mod backoff;
mod delivery;
mod flow;
mod lag;
mod run;

use std::sync::Arc;
use std::time::Duration;

use etl_config::TopicTemplate;
use etl_orchestrator::Orchestrator;
use tokio::sync::watch;

pub use self::backoff::Backoff;
pub(crate) use self::flow::Tally;
use self::run::Run;
use crate::counters::{Counters, add};
use crate::status::Status;
use crate::{AdapterError, Sink, Source};

/// How a [`Runner`] works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunnerOptions {
    /// Records that are pulled together, at most: 1,024.
    pub batch: usize,
    /// Records in flight, from being pulled to being acknowledged, at most: 32,768. What is in flight when the process dies comes again.
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
            batch: 1024,
            in_flight_records: 32_768,
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
        let finished = run.finish(tasks, ended.is_ok() && left.is_empty()).await;
        let closed = run.source.close().await;
        let ended = ended?;
        finished?;
        closed?;
        ended
    }
}
