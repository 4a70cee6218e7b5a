//! What those who watch are told: figures, metrics, and whether all is well.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::Orchestrator;
use crate::breaker::CircuitState;
use crate::canary::{self, CanaryStatus};
use crate::health::{Health, Watch};
use crate::instances::{self, InstanceTotals};
use crate::metrics::Publisher;
use crate::queue::QueueStats;
use crate::stats::Counts;
use crate::sync::atomic::Ordering;

/// What [`Orchestrator::stats`] reads.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// What went through, in all, by pipeline and by module.
    pub counts: Counts,
    /// What is in flight.
    pub queue: QueueStats,
    /// The generation of the configuration in force: 1 is the first.
    pub generation: u64,
    /// Reloads that took effect.
    pub reloads: u64,
    /// Reloads that were refused.
    pub reloads_refused: u64,
    /// The circuit breakers, by pipeline and module.
    pub circuits: Vec<Circuit>,
    /// Instances alive.
    pub instances: usize,
    /// Their linear memory in bytes.
    pub instance_memory_bytes: u64,
    /// Instances that were made since the beginning.
    pub instances_created: u64,
    /// New versions of modules on trial, and those that were rolled back.
    pub canaries: Vec<CanaryStatus>,
    /// The instances of each module.
    pub modules: HashMap<Arc<str>, InstanceTotals>,
}

/// A circuit breaker, as [`Stats`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Circuit {
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// The module.
    pub module: Arc<str>,
    /// What it does.
    pub state: CircuitState,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub(super) struct Watching {
    publisher: Publisher,
    watch: Watch,
}

impl Orchestrator {
    /// Everything that is counted, added up now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let snapshot = self.shared.live.load();
        let circuits = snapshot.program.pipelines.iter().flat_map(|pipeline| {
            let modules = pipeline.stages.iter().flat_map(|stage| &stage.modules);
            modules.filter_map(|module| {
                let state = module.breaker.as_ref()?.state();
                Some(Circuit {
                    pipeline: pipeline.id.clone(),
                    module: module.id.clone(),
                    state,
                })
            })
        });
        let pool = self
            .shared
            .pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut counts = self.shared.hub.read(&snapshot.program);
        // What comes in by the queue is counted there, under its lock, before a lane can have it; and looked at here after what has come out.
        let queue = {
            let queue = self.shared.queue();
            counts.totals.records_in += queue.taken();
            queue.stats()
        };
        Stats {
            counts,
            queue,
            generation: snapshot.program.generation,
            reloads: self.reloads.load(Ordering::Relaxed),
            reloads_refused: self.reloads_refused.load(Ordering::Relaxed),
            circuits: circuits.collect(),
            instances: pool.as_ref().map_or(0, |pool| pool.instances()),
            instance_memory_bytes: pool.as_ref().map_or(0, |pool| pool.memory_bytes()),
            instances_created: self
                .created_before
                .load(Ordering::Relaxed)
                .wrapping_add(pool.as_ref().map_or(0, |pool| pool.instances_created())),
            canaries: canary::lock(&self.trials).status(),
            modules: instances::by_module(&snapshot.program),
        }
    }

    /// Hands everything that was counted since the last time to the recorder that the process has installed for the `metrics` crate.
    /// Call it whenever metrics are collected; how often makes no difference to what is counted.
    ///
    /// The metrics are those of [`METRICS`](crate::METRICS) that are not of the process. Where no recorder is installed nothing happens.
    pub fn publish_metrics(&self) {
        let (stats, snapshot) = (self.stats(), self.shared.live.load_full());
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        watching.publisher.publish(&stats, &snapshot.loaded);
    }

    /// Whether all is well, by the thresholds of [`alerts`](crate::alerts()), judged over the last minute (or since the start, as long as
    /// nobody has asked).
    #[must_use]
    pub fn health(&self) -> Health {
        let (stats, snapshot) = (self.stats(), self.shared.live.load_full());
        let limit = snapshot.loaded.config.instance_pool.max_total_memory_bytes;
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        watching.watch.judge(self.shared.clock.now(), &stats, limit)
    }

    /// Whether records are taken: from the start until [`shutdown`](Self::shutdown).
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.shared.queue().closed
    }
}
