//! What is counted, cheaply: every lane counts for itself, and whoever reads adds the lanes up.
//!
//! A lane is the only writer of its counters, so that counting is a load and a store and never a locked instruction. Counters belong
//! to names of the configuration (pipelines, modules), of which there are as many as the configuration has: no topic, key or message
//! ever becomes a label. A name that a new configuration does not have any more is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::failure::FailureKind;
use crate::program::Program;

/// A count with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of a [`Histogram`] are 1 µs, 2 µs, 4 µs and so on; the last one takes everything.
const BUCKETS: usize = 25;

/// How long something took, with one writer.
#[derive(Debug, Default)]
pub(crate) struct Timings {
    buckets: [Counter; BUCKETS],
    nanoseconds: Counter,
}

impl Timings {
    #[inline]
    pub(crate) fn observe(&self, duration: Duration, times: usize) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - (nanoseconds / 1000).leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].add(times as u64);
        self.nanoseconds
            .add(nanoseconds.saturating_mul(times as u64));
    }
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Histogram {
    /// Observations in each bucket. The upper bound of the one at `i` is [`Histogram::upper_bound`].
    pub buckets: Vec<u64>,
    /// The sum of all observations.
    pub sum: Duration,
}

impl Histogram {
    /// The number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound of a bucket, exclusive; `None` for the last one, which has none.
    #[must_use]
    pub fn upper_bound(bucket: usize) -> Option<Duration> {
        (bucket < BUCKETS - 1).then(|| Duration::from_micros(1 << bucket))
    }

    fn add(&mut self, timings: &Timings) {
        self.buckets.resize(BUCKETS, 0);
        for (sum, counter) in self.buckets.iter_mut().zip(&timings.buckets) {
            *sum += counter.get();
        }
        self.sum += Duration::from_nanos(timings.nanoseconds.get());
    }

    fn join(&mut self, other: &Self) {
        self.buckets.resize(BUCKETS, 0);
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
        self.sum += other.sum;
    }
}

macro_rules! counted {
    ($(#[$meta:meta])* $counters:ident => $stats:ident { $($(#[$doc:meta])* $field:ident),* $(,)? } timed { $($(#[$tdoc:meta])* $timed:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $stats {
            $($(#[$doc])* pub $field: u64,)*
            $($(#[$tdoc])* pub $timed: Histogram,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct $counters {
            $(pub(crate) $field: Counter,)*
            $(pub(crate) $timed: Timings,)*
        }

        impl $stats {
            fn add(&mut self, counters: &$counters) {
                $(self.$field += counters.$field.get();)*
                $(self.$timed.add(&counters.$timed);)*
            }

            fn join(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
                $(self.$timed.join(&other.$timed);)*
            }
        }
    };
}

counted! {
    /// What went through all lanes together.
    TotalCounters => Totals {
        /// Records that came in.
        records_in,
        /// Records that went out, dead letters not among them.
        records_out,
        /// Records that nothing selected, and that went straight through.
        passed_through,
        /// Records that modules dropped.
        dropped,
        /// Records that modules emitted.
        emitted,
        /// Dead letters, copies included.
        dead_lettered,
        /// Pipelines that were undone.
        stopped,
        /// Failed module calls that were skipped.
        skipped,
        /// Further attempts.
        retries,
        /// Plans that were found in the cache.
        plan_hits,
        /// Plans that had to be made.
        plan_misses,
    } timed {
        /// Matching a topic that was not in the cache against every rule.
        filter_duration,
    }
}

counted! {
    /// What went through one pipeline.
    PipelineCounters => PipelineTotals {
        /// Records that entered.
        entered,
        /// Records that left it for the next pipeline or the end.
        left,
        /// Records that its modules dropped.
        dropped,
        /// Dead letters, copies included.
        dead_lettered,
        /// Times that it was undone.
        stopped,
        /// Failed module calls that were skipped.
        skipped,
        /// Conflicts between parallel modules.
        conflicts,
    } timed {
        /// For each record that left: what its calls cost and its retries waited.
        duration,
    }
}

counted! {
    /// What one module did, in all pipelines together.
    ModuleCounters => ModuleTotals {
        /// Records that it kept as they were.
        kept,
        /// Records that it changed.
        changed,
        /// Records that it dropped.
        dropped,
        /// Calls that failed, by record, retries included.
        failed,
        /// Records whose topic selected it and whose conditions did not hold.
        not_selected,
        /// Failed with `Timeout`.
        timeout,
        /// Failed with `Trap`.
        trap,
        /// Failed with `MemoryLimit`.
        memory_limit,
        /// Failed with `InvalidOutput`.
        invalid_output,
        /// Failed with `Module`.
        module,
        /// Failed with `PoolExhausted`.
        pool_exhausted,
        /// Failed with `CircuitOpen`.
        circuit_open,
    } timed {
        /// Each call, of however many records.
        duration,
    }
}

impl ModuleCounters {
    pub(crate) fn error(&self, kind: FailureKind) {
        self.failed.add(1);
        let counter = match kind {
            FailureKind::Timeout => &self.timeout,
            FailureKind::Trap => &self.trap,
            FailureKind::MemoryLimit => &self.memory_limit,
            FailureKind::InvalidOutput => &self.invalid_output,
            FailureKind::Module => &self.module,
            FailureKind::PoolExhausted => &self.pool_exhausted,
            FailureKind::CircuitOpen => &self.circuit_open,
        };
        counter.add(1);
    }
}

impl ModuleTotals {
    /// The failures of one kind.
    #[must_use]
    pub fn errors(&self, kind: FailureKind) -> u64 {
        match kind {
            FailureKind::Timeout => self.timeout,
            FailureKind::Trap => self.trap,
            FailureKind::MemoryLimit => self.memory_limit,
            FailureKind::InvalidOutput => self.invalid_output,
            FailureKind::Module => self.module,
            FailureKind::PoolExhausted => self.pool_exhausted,
            FailureKind::CircuitOpen => self.circuit_open,
        }
    }
}

/// The counters of one lane, as its readers see them.
#[derive(Debug, Default)]
pub(crate) struct LaneStats {
    totals: TotalCounters,
    pipelines: Mutex<HashMap<Arc<str>, Arc<PipelineCounters>>>,
    modules: Mutex<HashMap<Arc<str>, Arc<ModuleCounters>>>,
}

/// The counters of one lane, as it uses them: by place in the program, without a lookup.
#[derive(Debug)]
pub(crate) struct LaneCounters {
    shared: Arc<LaneStats>,
    hub: Arc<StatsHub>,
    program: usize,
    pipelines: Vec<Arc<PipelineCounters>>,
    modules: Vec<Arc<ModuleCounters>>,
}

impl LaneCounters {
    pub(crate) fn totals(&self) -> &TotalCounters {
        &self.shared.totals
    }

    pub(crate) fn pipeline(&self, index: usize) -> &PipelineCounters {
        &self.pipelines[index]
    }

    pub(crate) fn module(&self, index: usize) -> &ModuleCounters {
        &self.modules[index]
    }

    /// Takes the counters for a program, if it has not got them. Names that the program does not have are forgotten.
    #[inline]
    pub(crate) fn adopt(&mut self, program: &Arc<Program>) {
        let identity = Arc::as_ptr(program) as usize;
        if self.program != identity {
            self.program = identity;
            self.take(program);
        }
    }

    #[cold]
    fn take(&mut self, program: &Program) {
        self.pipelines = handles(
            &self.shared.pipelines,
            program.pipelines.iter().map(|pipeline| &pipeline.id),
        );
        let mut modules: Vec<_> = program.modules().collect();
        modules.sort_by_key(|module| module.index);
        self.modules = handles(
            &self.shared.modules,
            modules.into_iter().map(|module| &module.id),
        );
    }
}

fn handles<'a, T: Default>(
    known: &Mutex<HashMap<Arc<str>, Arc<T>>>,
    names: impl Iterator<Item = &'a Arc<str>>,
) -> Vec<Arc<T>> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    names
        .map(|name| known.entry(name.clone()).or_default().clone())
        .collect()
}

impl Drop for LaneCounters {
    fn drop(&mut self) {
        self.hub.retire(&self.shared);
    }
}

/// Everything that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// All lanes together.
    pub totals: Totals,
    /// By pipeline.
    pub pipelines: HashMap<Arc<str>, PipelineTotals>,
    /// By module.
    pub modules: HashMap<Arc<str>, ModuleTotals>,
}

impl Counts {
    fn add(&mut self, lane: &LaneStats) {
        self.totals.add(&lane.totals);
        for (name, counters) in &*lane
            .pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            self.pipelines
                .entry(name.clone())
                .or_default()
                .add(counters);
        }
        for (name, counters) in &*lane.modules.lock().unwrap_or_else(PoisonError::into_inner) {
            self.modules.entry(name.clone()).or_default().add(counters);
        }
    }

    fn join(&mut self, other: &Self) {
        self.totals.join(&other.totals);
        for (name, totals) in &other.pipelines {
            self.pipelines.entry(name.clone()).or_default().join(totals);
        }
        for (name, totals) in &other.modules {
            self.modules.entry(name.clone()).or_default().join(totals);
        }
    }
}

/// Where the lanes' counters meet.
#[derive(Debug, Default)]
pub(crate) struct StatsHub {
    lanes: Mutex<Vec<Arc<LaneStats>>>,
    /// What lanes that are gone had counted.
    retired: Mutex<Counts>,
}

impl StatsHub {
    pub(crate) fn lane(self: &Arc<Self>) -> LaneCounters {
        let shared = Arc::new(LaneStats::default());
        self.lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(shared.clone());
        LaneCounters {
            shared,
            hub: self.clone(),
            program: 0,
            pipelines: Vec::new(),
            modules: Vec::new(),
        }
    }

    fn retire(&self, lane: &Arc<LaneStats>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|other| !Arc::ptr_eq(other, lane));
        self.retired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(lane);
    }

    /// Adds everything up, for the names that the program has.
    pub(crate) fn read(&self, program: &Program) -> Counts {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = Counts::default();
        counts.join(&self.retired.lock().unwrap_or_else(PoisonError::into_inner));
        for lane in &*lanes {
            counts.add(lane);
        }
        counts.pipelines.retain(|name, _| {
            program
                .pipelines
                .iter()
                .any(|pipeline| pipeline.id == *name)
        });
        let modules: std::collections::HashSet<&Arc<str>> =
            program.modules().map(|module| &module.id).collect();
        counts.modules.retain(|name, _| modules.contains(name));
        counts
    }

    /// Forgets the names that the program does not have.
    pub(crate) fn prune(&self, program: &Program) {
        let pipelines: std::collections::HashSet<&Arc<str>> = program
            .pipelines
            .iter()
            .map(|pipeline| &pipeline.id)
            .collect();
        let modules: std::collections::HashSet<&Arc<str>> =
            program.modules().map(|module| &module.id).collect();
        for lane in &*self.lanes.lock().unwrap_or_else(PoisonError::into_inner) {
            lane.pipelines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|name, _| pipelines.contains(name));
            lane.modules
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|name, _| modules.contains(name));
        }
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.pipelines.retain(|name, _| pipelines.contains(name));
        retired.modules.retain(|name, _| modules.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double() {
        let timings = Timings::default();
        for nanoseconds in [0, 999, 1_000, 1_999, 2_000, 1_000_000_000_000] {
            timings.observe(Duration::from_nanos(nanoseconds), 1);
        }
        let mut histogram = Histogram::default();
        histogram.add(&timings);
        assert_eq!(histogram.buckets[..4], [2, 2, 1, 0]);
        assert_eq!(histogram.buckets[BUCKETS - 1], 1);
        assert_eq!(histogram.count(), 6);
        assert_eq!(Histogram::upper_bound(0), Some(Duration::from_micros(1)));
        assert_eq!(Histogram::upper_bound(BUCKETS - 1), None);
    }

    #[test]
    fn a_lane_that_is_gone_still_counts() {
        let hub = Arc::new(StatsHub::default());
        let lane = hub.lane();
        lane.totals().records_in.add(2);
        let other = hub.lane();
        other.totals().records_in.add(3);
        drop(lane);
        assert_eq!(hub.read(&Program::empty()).totals.records_in, 5);
    }
}
