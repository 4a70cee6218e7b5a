//! What is known of the instances behind the modules, for those who watch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::histogram::Histogram;
use crate::program::Program;

/// The instances of one [`Transform`](crate::Transform), where it has any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instances {
    /// Transforms that share their instances say the same here, and are counted once.
    pub shared: usize,
    /// What is counted.
    pub totals: InstanceTotals,
}

/// What instances did and hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceTotals {
    /// Instances alive.
    pub alive: u64,
    /// Instances that may be alive at once.
    pub allowed: u64,
    /// Bytes that they have: linear memory, tables, and what is kept to put them back.
    pub memory_bytes: u64,
    /// Records answered from the result cache.
    pub cache_hits: u64,
    /// Records that were looked for there in vain.
    pub cache_misses: u64,
    /// What guests have counted with `etl.counter`, by the name that they gave.
    pub counters: BTreeMap<String, i64>,
    /// How long calls waited for an instance that had to be made first.
    pub waits: Histogram,
}

impl InstanceTotals {
    fn join(&mut self, other: &Self) {
        self.alive += other.alive;
        self.allowed = self.allowed.saturating_add(other.allowed);
        self.memory_bytes += other.memory_bytes;
        self.cache_hits += other.cache_hits;
        self.cache_misses += other.cache_misses;
        for (name, count) in &other.counters {
            let sum = self.counters.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        self.waits.join(&other.waits);
    }
}

/// The instances of every module of a program, all of its uses together.
pub(crate) fn by_module(program: &Program) -> HashMap<Arc<str>, InstanceTotals> {
    let mut modules: HashMap<Arc<str>, InstanceTotals> = HashMap::new();
    let mut seen = HashSet::new();
    for module in program.modules() {
        for instances in module.transform.instances() {
            if seen.insert(instances.shared) {
                modules
                    .entry(module.id.clone())
                    .or_default()
                    .join(&instances.totals);
            }
        }
    }
    modules
}

/// The instances of one template of the pool.
pub(crate) fn of_template(template: &Arc<etl_pool::Template>) -> Instances {
    let (stats, waits) = (template.stats(), template.waits());
    Instances {
        shared: Arc::as_ptr(template) as usize,
        totals: InstanceTotals {
            alive: template.instances() as u64,
            allowed: template.most_instances() as u64,
            memory_bytes: template.memory_bytes(),
            cache_hits: stats.cache_hits,
            cache_misses: stats.cache_misses,
            counters: template.counters().into_iter().collect(),
            waits: Histogram {
                buckets: waits.buckets.to_vec(),
                sum: waits.sum,
            },
        },
    }
}

const _: () = assert!(etl_pool::Waits::BUCKETS == Histogram::BUCKETS);
