//! What is counted, cheaply: every lane counts for itself, and whoever reads adds the lanes up.
//!
//! A lane is the only writer of its counters, so that counting is a load and a store and never a locked instruction. Counters belong
//! to names of the configuration (pipelines, modules), of which there are as many as the configuration has: no topic, key or message
//! ever becomes a label. A name that a new configuration does not have any more is forgotten.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::failure::FailureKind;
use crate::histogram::{Histogram, Timings};
use crate::program::Program;

/// A count with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        // Released, so that whoever sees this count sees those that were made before it.
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Release,
        );
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
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
        /// Conditions that met a payload that is not JSON.
        conditions_not_json,
        /// Conditions that met something that cannot be compared with their constant.
        conditions_ill_typed,
        /// Conditions whose query selected more than any sensible payload holds, and was given up.
        conditions_abandoned,
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
        /// Of the dead letters: copies of records that went on.
        copied,
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
    /// How long one stage takes.
    StageCounters => StageTotals {
    } timed {
        /// For each record that left it: what its calls there cost and its retries waited.
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

impl PipelineTotals {
    /// What became of its records, by name. Each record is in one of them; emitted ones count for themselves.
    #[must_use]
    pub fn outcomes(&self) -> [(&'static str, u64); 4] {
        [
            ("forwarded", self.left.saturating_sub(self.stopped)),
            ("stopped", self.stopped),
            ("dropped", self.dropped),
            (
                "dead_lettered",
                self.dead_lettered.saturating_sub(self.copied),
            ),
        ]
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
    stages: Mutex<HashMap<StageKey, Arc<StageCounters>>>,
    letters: Mutex<HashMap<LetterKey, u64>>,
}

/// A pipeline and a priority in it.
pub(crate) type StageKey = (Arc<str>, u32);
/// The pipeline, module and kind of dead letters.
pub(crate) type LetterKey = (Arc<str>, Arc<str>, FailureKind);

/// The counters of one lane, as it uses them: by place in the program, without a lookup.
#[derive(Debug)]
pub(crate) struct LaneCounters {
    shared: Arc<LaneStats>,
    hub: Arc<StatsHub>,
    /// The program that the rest is for. Not its address: another program may come to lie where one lay that is gone.
    generation: u64,
    pipelines: Vec<Arc<PipelineCounters>>,
    modules: Vec<Arc<ModuleCounters>>,
    stages: Vec<Arc<StageCounters>>,
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

    pub(crate) fn stage(&self, index: usize) -> &StageCounters {
        &self.stages[index]
    }

    /// Counts a dead letter. They are rare and cost more than a lock.
    pub(crate) fn letter(&self, pipeline: &Arc<str>, module: &Arc<str>, kind: FailureKind) {
        *lock(&self.shared.letters)
            .entry((pipeline.clone(), module.clone(), kind))
            .or_default() += 1;
    }

    /// Takes the counters for a program, if it has not got them. Names that the program does not have are forgotten.
    #[inline]
    pub(crate) fn adopt(&mut self, program: &Arc<Program>) {
        if self.generation != program.generation {
            self.generation = program.generation;
            self.take(program);
        }
    }

    #[cold]
    fn take(&mut self, program: &Program) {
        self.pipelines = handles(
            &self.shared.pipelines,
            program.pipelines.iter().map(|pipeline| pipeline.id.clone()),
        );
        self.stages = handles(&self.shared.stages, program.stage_keys());
        let mut modules: Vec<_> = program.modules().collect();
        modules.sort_by_key(|module| module.index);
        self.modules = handles(
            &self.shared.modules,
            modules.into_iter().map(|module| module.id.clone()),
        );
    }
}

fn handles<K: Eq + Hash, T: Default>(
    known: &Mutex<HashMap<K, Arc<T>>>,
    names: impl Iterator<Item = K>,
) -> Vec<Arc<T>> {
    let mut known = lock(known);
    names
        .map(|name| known.entry(name).or_default().clone())
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// By pipeline and priority.
    pub stages: HashMap<(Arc<str>, u32), StageTotals>,
    /// Dead letters by pipeline, module and kind, copies included.
    pub dead_letters: HashMap<(Arc<str>, Arc<str>, FailureKind), u64>,
}

impl Counts {
    fn add(&mut self, lane: &LaneStats) {
        self.totals.add(&lane.totals);
        for (name, counters) in &*lock(&lane.pipelines) {
            self.pipelines
                .entry(name.clone())
                .or_default()
                .add(counters);
        }
        for (name, counters) in &*lock(&lane.modules) {
            self.modules.entry(name.clone()).or_default().add(counters);
        }
        for (key, counters) in &*lock(&lane.stages) {
            self.stages.entry(key.clone()).or_default().add(counters);
        }
        for (key, count) in &*lock(&lane.letters) {
            *self.dead_letters.entry(key.clone()).or_default() += count;
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
        for (key, totals) in &other.stages {
            self.stages.entry(key.clone()).or_default().join(totals);
        }
        for (key, count) in &other.dead_letters {
            *self.dead_letters.entry(key.clone()).or_default() += count;
        }
    }

    fn retain(&mut self, names: &Names<'_>) {
        self.pipelines.retain(|name, _| names.pipeline(name));
        self.modules.retain(|name, _| names.module(name));
        self.stages.retain(|key, _| names.stages.contains(key));
        self.dead_letters
            .retain(|(pipeline, module, _), _| names.pipeline(pipeline) && names.module(module));
    }
}

/// What a program has names for.
struct Names<'a> {
    pipelines: HashSet<&'a str>,
    modules: HashSet<&'a str>,
    stages: HashSet<StageKey>,
}

impl<'a> Names<'a> {
    fn of(program: &'a Program) -> Self {
        Self {
            pipelines: program
                .pipelines
                .iter()
                .map(|pipeline| &*pipeline.id)
                .collect(),
            modules: program.modules().map(|module| &*module.id).collect(),
            stages: program.stage_keys().collect(),
        }
    }

    fn pipeline(&self, name: &str) -> bool {
        self.pipelines.contains(name)
    }

    fn module(&self, name: &str) -> bool {
        self.modules.contains(name)
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
        lock(&self.lanes).push(shared.clone());
        LaneCounters {
            shared,
            hub: self.clone(),
            generation: 0,
            pipelines: Vec::new(),
            modules: Vec::new(),
            stages: Vec::new(),
        }
    }

    fn retire(&self, lane: &Arc<LaneStats>) {
        let mut lanes = lock(&self.lanes);
        lanes.retain(|other| !Arc::ptr_eq(other, lane));
        lock(&self.retired).add(lane);
    }

    /// Adds everything up, for the names that the program has.
    pub(crate) fn read(&self, program: &Program) -> Counts {
        let lanes = lock(&self.lanes);
        let mut counts = Counts::default();
        counts.join(&lock(&self.retired));
        // What has come out is read before what has gone in, so that nobody sees a record of which only the end is counted.
        let out: u64 = lanes.iter().map(|lane| lane.totals.records_out.get()).sum();
        let out = counts.totals.records_out + out;
        for lane in &*lanes {
            counts.add(lane);
        }
        counts.totals.records_out = out;
        counts.retain(&Names::of(program));
        counts
    }

    /// Forgets the names that the program does not have.
    pub(crate) fn prune(&self, program: &Program) {
        let names = Names::of(program);
        for lane in &*lock(&self.lanes) {
            lock(&lane.pipelines).retain(|name, _| names.pipeline(name));
            lock(&lane.modules).retain(|name, _| names.module(name));
            lock(&lane.stages).retain(|key, _| names.stages.contains(key));
            lock(&lane.letters).retain(|(pipeline, module, _), _| {
                names.pipeline(pipeline) && names.module(module)
            });
        }
        lock(&self.retired).retain(&names);
    }
}

#[cfg(test)]
mod tests {
    use etl_config::ErrorHandling;

    use super::*;
    use crate::program::PipelineProgram;

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

    #[test]
    fn a_program_is_known_by_its_generation_and_not_by_its_place() {
        let hub = Arc::new(StatsHub::default());
        let mut lane = hub.lane();
        let mut program = Arc::new(Program::empty());
        let same = Arc::get_mut(&mut program).expect("held once");
        same.generation = 1;
        lane.adopt(&program);
        // As after two reloads, when the allocator gives the first one's memory to the third.
        let same = Arc::get_mut(&mut program).expect("held once");
        same.generation = 3;
        same.pipelines.push(PipelineProgram {
            id: "orders".into(),
            first_module: 0,
            stages: Vec::new(),
            timeout: std::time::Duration::from_secs(1),
            max_retries: 0,
            strategy: ErrorHandling::StopPipeline,
            dead_letter_topic: "dead".parse().expect("a template"),
        });
        lane.adopt(&program);
        lane.pipeline(0).entered.add(1);
    }
}
