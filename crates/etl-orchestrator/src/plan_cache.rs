//! Remembers which plan a topic selects, for as many topics as it may.
//!
//! Two generations: what is used moves to the young one; when that is half of all that may be kept, it becomes the old one and the
//! old one is dropped. So topics in use stay, a stream of ever new topics costs no more than its own matching, and a hit writes nothing but
//! which topic was the last and touches no count of references. Topics that select the same modules share one plan, so that a batch of
//! many topics is still one call.
//!
//! Topics come from whoever may publish, so the hash has a seed of this process; who could still make all topics of a cache collide would make its
//! lookups as slow as comparing [`CAPACITY`] strings, and no slower.

use std::sync::Arc;
use std::time::Instant;

use etl_filter::Scratch;
use foldhash::quality::RandomState;
use indexmap::IndexMap;
use rustc_hash::FxHashMap;

use crate::program::Plan;
use crate::snapshot::Snapshot;
use crate::stats::TotalCounters;

/// Topics that one cache may remember.
pub(crate) const CAPACITY: usize = 16 * 1024;

type Topics = IndexMap<Arc<str>, Arc<Plan>, RandomState>;

#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    young: Topics,
    old: Topics,
    /// Where in `young` the last topic is: streams repeat themselves.
    last: usize,
    /// By the modules that they select.
    plans: FxHashMap<Box<[u32]>, Arc<Plan>>,
    scratch: Scratch,
    /// Which snapshot all of this is about.
    generation: u64,
}

impl PlanCache {
    /// The plan of a topic.
    #[inline]
    pub(crate) fn plan<'a>(
        &'a mut self,
        snapshot: &'a Snapshot,
        topic: &Arc<str>,
        counters: &TotalCounters,
    ) -> &'a Arc<Plan> {
        let hit = self.generation == snapshot.program.generation
            && self
                .young
                .get_index(self.last)
                .is_some_and(|(last, _)| Arc::ptr_eq(last, topic) || last == topic);
        if hit {
            counters.plan_hits.add(1);
        } else {
            self.last = self.find(snapshot, topic, counters);
        }
        match self.young.get_index(self.last) {
            Some((_, plan)) => plan,
            None => &snapshot.nothing,
        }
    }

    /// Where in `young` a topic is, from now on.
    fn find(&mut self, snapshot: &Snapshot, topic: &Arc<str>, counters: &TotalCounters) -> usize {
        if self.generation != snapshot.program.generation {
            let scratch = std::mem::take(&mut self.scratch);
            *self = Self {
                scratch,
                generation: snapshot.program.generation,
                ..Self::default()
            };
        }
        if let Some(place) = self.young.get_index_of(topic) {
            counters.plan_hits.add(1);
            return place;
        }
        let plan = match self.old.get(topic) {
            Some(plan) => {
                counters.plan_hits.add(1);
                plan.clone()
            }
            None => {
                counters.plan_misses.add(1);
                self.make(snapshot, topic, counters)
            }
        };
        if self.young.len() >= CAPACITY / 2 {
            self.old = std::mem::take(&mut self.young);
            self.plans.retain(|_, plan| Arc::strong_count(plan) > 1);
        }
        self.young.insert_full(topic.clone(), plan).0
    }

    fn make(&mut self, snapshot: &Snapshot, topic: &str, counters: &TotalCounters) -> Arc<Plan> {
        let started = Instant::now();
        let matching = snapshot.rules.matches(topic, &mut self.scratch);
        counters.filter_duration.observe(started.elapsed(), 1);
        // The rules of disabled pipelines come last.
        let count = snapshot.program.module_count;
        let selected: Box<[u32]> = matching
            .iter()
            .map(|rule| rule.index())
            .take_while(|index| *index < count)
            .map(|index| index as u32)
            .collect();
        if selected.is_empty() {
            return snapshot.nothing.clone();
        }
        if let Some(plan) = self.plans.get(&selected) {
            return plan.clone();
        }
        let plan = Arc::new(Plan::select(&snapshot.program, &selected));
        self.plans.insert(selected, plan.clone());
        plan
    }
}
