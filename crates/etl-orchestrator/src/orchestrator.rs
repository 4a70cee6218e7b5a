//! The engine: configuration in, lanes running, records through, and a new configuration while they run.

mod changing;
mod error;
mod generations;
mod processing;
mod reading;
mod reloading;
mod submitted;

use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use etl_config::{Loaded, Problem, Report};
use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot};

use crate::canary::{Home, SharedTrials};
use crate::clock::Clock;
use crate::core::Core;
use crate::explain::{self, TopicExplanation};
use crate::groups::Groups;
use crate::job::Job;
use crate::lane::{Lane, LaneContext};
use crate::modules::{Modules, TransformFor};
use crate::outcome::Outcome;
use crate::plan_cache::PlanCache;
use crate::queue::{Bounds, Exit, Partition, Queue};
use crate::record::Record;
use crate::run::Run;
use crate::snapshot::{Live, Snapshot, compile};
use crate::stats::{LaneCounters, StatsHub};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::trace::Step;
use crate::worker;

pub use changing::{ChangeError, ChangeErrorKind, ChangeOptions, Changed};
pub use error::{ProcessError, ProcessErrorKind};
use generations::History;
pub use generations::{Difference, Generation, ModuleEntry, PipelineEntry};
use reading::Watching;
pub use reading::{Circuit, Stats};
use reloading::Control;
use submitted::{Partitions, Submitted, Ticket};

/// Records of one batch that a lane takes at once; a larger batch is shared between lanes.
const CHUNK: usize = 256;

/// Planners that callers of [`Orchestrator::process`] share, so that they seldom meet.
const PLANNERS: usize = 16;

/// How an [`Orchestrator`] runs, where its configuration does not say.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Threads that run pipelines. `None`: what the configuration says, or one per core that the process may use.
    pub lanes: Option<usize>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Where the jitter of retries starts from. `None`: anywhere.
    pub seed: Option<u64>,
    /// Takes the place of module files: what runs for each use of a module. Nothing is read, compiled or checked then.
    pub transforms: Option<TransformFor>,
    /// The number of the first configuration: one after the last of an earlier process, where those are kept. `None`: 1.
    pub first_generation: Option<u64>,
}

/// Runs pipelines over records on threads of its own, and hands out lanes to threads of others.
///
/// ```
/// use std::sync::Arc;
/// use etl_config::{LoadOptions, load_text};
/// use etl_orchestrator::{Delta, Options, Orchestrator, Record, Reply, TransformFor, View};
///
/// let loaded = load_text("etl.toml", r#"
///     [[pipelines]]
///     pipeline_id = "shout"
///     [[pipelines.stages]]
///     priority = 0
///     [[pipelines.stages.modules]]
///     module_id = "upper"
/// "#, &LoadOptions::isolated())?;
///
/// // A closure stands in for the module's file here.
/// let mut options = Options::default();
/// options.transforms = Some(TransformFor::new(|_| {
///     Arc::new(|record: &View| Reply::Value(record.value().to_ascii_uppercase().into()))
/// }));
/// let orchestrator = Orchestrator::start(loaded, options)?;
/// let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// let outcome = runtime.block_on(orchestrator.process(Arc::new(Record::new("greetings", "hello"))))?;
/// assert_eq!(outcome.outputs[0].value(), "HELLO");
/// runtime.block_on(orchestrator.shutdown());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Orchestrator {
    shared: Arc<Shared>,
    threads: Mutex<Vec<Option<JoinHandle<()>>>>,
    /// What the options said, which goes before what a configuration says.
    lanes_given: Option<usize>,
    control: Mutex<Control>,
    trials: SharedTrials,
    planners: Vec<Mutex<Planner>>,
    next_planner: AtomicUsize,
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
    /// Instances that pools made that are no longer in use.
    created_before: AtomicU64,
    watching: Mutex<Watching>,
}

struct Planner {
    plans: PlanCache,
    counters: LaneCounters,
}

/// What the lanes' threads share.
pub(crate) struct Shared {
    pub(crate) live: Arc<ArcSwap<Snapshot>>,
    pub(crate) hub: Arc<StatsHub>,
    pub(crate) clock: Clock,
    seed: Option<u64>,
    queue: Mutex<Queue>,
    pub(crate) exit: Exit,
    /// Something is ready to run, or there is something else to do.
    pub(crate) work: Condvar,
    /// Goes up with everything that is given: a lane that is about to fall asleep looks here for a moment.
    pub(crate) arrivals: AtomicU64,
    /// Lanes that look.
    pub(crate) looking: AtomicUsize,
    /// Goes up whenever there is something to do for lanes beside the queue, once it can be seen.
    pub(crate) attention: AtomicU64,
    /// Nothing is in flight.
    drained: Notify,
    pool: Mutex<Option<Arc<etl_pool::Pool>>>,
    /// How many lanes there are to be; one beyond ends when it has nothing in hand.
    pub(crate) lanes: AtomicUsize,
    /// For each lane the snapshots that it shall make instances ready for.
    pub(crate) warming: Mutex<Vec<Vec<Warming>>>,
}

/// A snapshot to make instances ready for, and whom to tell.
pub(crate) struct Warming {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) done: crate::sync::mpsc::Sender<()>,
}

impl Shared {
    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn core(&self) -> Core {
        Core::new(
            LaneContext::default(),
            self.hub.lane(),
            self.clock.clone(),
            self.seed,
        )
    }

    /// Changes what may be in flight.
    fn set_bounds(&self, bounds: Bounds) {
        let mut queue = self.queue();
        queue.set_bounds(bounds);
        Queue::let_go(queue, &self.exit);
    }

    /// Whether nothing is in flight, not even on the doorstep.
    fn is_drained(&self) -> bool {
        let is_empty = self.queue().is_empty();
        if is_empty {
            self.exit.wait();
        }
        is_empty
    }

    /// Wakes whoever waits for the end, if this is it.
    pub(crate) fn tell_if_drained(&self, queue: &Queue) {
        if queue.is_empty() {
            self.drained.notify_waiters();
            if queue.closed {
                self.work.notify_all();
            }
        }
    }
}

impl Orchestrator {
    /// Builds a configuration, makes instances ready and starts the lanes.
    ///
    /// # Errors
    /// Everything that is wrong and that only building finds, each with its place in the files: patterns, paths, modules.
    pub fn start(loaded: Loaded, options: Options) -> Result<Arc<Self>, Report> {
        let (trials, home) = (SharedTrials::default(), Home::default());
        let mut modules = Modules::new(options.transforms.clone(), trials.clone(), home.clone());
        let bounds = bounds(&loaded);
        let lanes = wanted_lanes(&loaded, options.lanes);
        // Nothing is ever numbered 0: counters and caches that are new stand there.
        let first = options.first_generation.unwrap_or(1).max(1);
        let snapshot = compile(&loaded, first, &mut modules.begin(&loaded)?)?.with(loaded);
        modules.keep();
        let hub = Arc::new(StatsHub::default());
        let unix_ms = options.clock.unix_ms();
        let shared = Arc::new(Shared {
            live: Arc::new(ArcSwap::new(snapshot.clone())),
            hub: hub.clone(),
            queue: Mutex::new(Queue::new(bounds, options.clock.now())),
            exit: Exit::new(),
            clock: options.clock,
            seed: options.seed,
            work: Condvar::new(),
            arrivals: AtomicU64::new(0),
            looking: AtomicUsize::new(0),
            attention: AtomicU64::new(0),
            drained: Notify::new(),
            pool: Mutex::new(modules.pool().map(|(_, pool)| pool)),
            lanes: AtomicUsize::new(0),
            warming: Mutex::new(Vec::new()),
        });
        let planner = || {
            Mutex::new(Planner {
                plans: PlanCache::default(),
                counters: hub.lane(),
            })
        };
        let orchestrator = Arc::new(Self {
            shared,
            threads: Mutex::new(Vec::new()),
            lanes_given: options.lanes,
            control: Mutex::new(Control {
                history: History::begin(&snapshot, modules.keepsake(), unix_ms),
                modules,
            }),
            trials,
            planners: (0..PLANNERS).map(|_| planner()).collect(),
            next_planner: AtomicUsize::new(0),
            reloads: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            created_before: AtomicU64::new(0),
            watching: Mutex::default(),
        });
        // It is set here and nowhere else.
        let _ = home.set(Arc::downgrade(&orchestrator));
        orchestrator.set_lanes(lanes);
        orchestrator.warm(&snapshot);
        orchestrator.publish_metrics();
        Ok(orchestrator)
    }

    /// Builds a configuration, starts one instance of each of its modules, and throws it all away. Answers the warnings.
    ///
    /// # Errors
    /// Everything that is wrong and that only building finds.
    pub fn check(loaded: &Loaded) -> Result<Vec<Problem>, Report> {
        let mut modules = Modules::new(None, SharedTrials::default(), Home::default());
        let compiled = compile(loaded, 1, &mut modules.begin(loaded)?)?;
        let mut warnings = loaded.warnings.clone();
        warnings.extend(compiled.warnings);
        Ok(warnings)
    }

    /// What in the configuration in force probably does not mean what its author meant.
    pub fn warnings(&self) -> Vec<Problem> {
        self.shared.live.load().loaded.warnings.clone()
    }

    /// A lane for the calling thread, with instances of its own.
    #[must_use]
    pub fn lane(&self) -> Lane {
        let mut core = self.shared.core();
        let snapshot = self.shared.live.load_full();
        worker::warm(&snapshot, &mut core);
        Lane::new(Live::new(&self.shared.live), core)
    }

    /// Handles one record and tells every step of its way. Waits for retries. For people and tools: it makes instances of its own, and since
    /// nothing of it goes out it leaves nothing behind: it is in no statistics, and moves neither a circuit breaker nor a trial. It meets them as
    /// any record would.
    ///
    /// ```no_run
    /// # fn example(orchestrator: &etl_orchestrator::Orchestrator, record: std::sync::Arc<etl_orchestrator::Record>) {
    /// let (outcome, steps) = orchestrator.process_traced(&record);
    /// for step in steps {
    ///     println!("{} {} {:?}", step.pipeline, step.module, step.happened);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn process_traced(&self, record: &Arc<Record>) -> (Outcome, Vec<Step>) {
        let shared = &self.shared;
        let apart = Arc::new(StatsHub::default()).lane();
        let core = Core::new(
            LaneContext::explaining(),
            apart,
            shared.clock.clone(),
            shared.seed,
        );
        Lane::new(Live::new(&shared.live), core).process_traced(record)
    }

    /// Which modules a topic selects, and why not the others.
    #[must_use]
    pub fn explain(&self, topic: &str) -> TopicExplanation {
        explain::explain(&self.shared.live.load(), topic)
    }

    /// The generation of the configuration in force. The first is 1, or what the options say, and each change that takes effect adds one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.live.load().program.generation
    }

    /// The number of threads that run pipelines.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.shared.lanes.load(Ordering::Relaxed)
    }

    /// Has every lane look whether there is something to do beside the queue. Under the lock, so that none is between looking and falling asleep.
    pub(crate) fn wake_all(&self) {
        let _queue = self.shared.queue();
        self.shared.attention.fetch_add(1, Ordering::Release);
        self.shared.work.notify_all();
    }

    /// Waits until nothing is in flight. More may be given meanwhile, and is waited for too.
    pub async fn drain(&self) {
        loop {
            let drained = self.shared.drained.notified();
            let mut drained = std::pin::pin!(drained);
            drained.as_mut().enable();
            if self.shared.is_drained() {
                return;
            }
            drained.await;
        }
    }

    /// Takes no more records, finishes those that were taken (retries included), and ends the lanes.
    pub async fn shutdown(&self) {
        self.close();
        self.drain().await;
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads.into_iter().flatten() {
            // A lane that broke has told whom it concerns.
            let _ = thread.join();
        }
    }

    fn close(&self) {
        self.shared.queue().close();
        self.wake_all();
    }
}

impl Drop for Orchestrator {
    /// Takes no more records; the lanes end by themselves when they have finished those that were taken.
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Orchestrator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Orchestrator")
            .field("lanes", &self.lanes())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

fn wanted_lanes(loaded: &Loaded, given: Option<usize>) -> usize {
    let configured = loaded.config.engine.lanes.map(|lanes| lanes as usize);
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    given.or(configured).unwrap_or_else(cores).max(1)
}

fn bounds(loaded: &Loaded) -> Bounds {
    let engine = &loaded.config.engine;
    Bounds {
        records: engine.max_in_flight_records,
        bytes: engine.max_in_flight_bytes,
        ageing: engine.ageing,
    }
}
