//! Remembers which plan a topic selects, for as many topics as it may.
//!
//! Two generations: what is used moves to the young one; when that is half of all that may be kept, it becomes the old one and the
//! old one is dropped. So topics in use stay, a stream of ever new topics costs no more than its own matching, and nothing has to be
//! written on a hit. Topics that select the same modules share one plan, so that a batch of many topics is still one call.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use etl_filter::Scratch;
use rustc_hash::FxHashMap;

use crate::program::Plan;
use crate::snapshot::Snapshot;
use crate::stats::TotalCounters;

/// Topics that one cache may remember.
pub(crate) const CAPACITY: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    /// The last topic and its plan: streams repeat themselves.
    last: Option<(Arc<str>, Arc<Plan>)>,
    young: HashMap<Arc<str>, Arc<Plan>>,
    old: HashMap<Arc<str>, Arc<Plan>>,
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
        let generation = snapshot.program.generation;
        let hit = self.generation == generation
            && self
                .last
                .as_ref()
                .is_some_and(|(last, _)| Arc::ptr_eq(last, topic) || last == topic);
        if hit {
            counters.plan_hits.add(1);
        } else {
            let plan = self.find(snapshot, topic, counters);
            self.last = Some((topic.clone(), plan));
        }
        match &self.last {
            Some((_, plan)) => plan,
            None => &snapshot.nothing,
        }
    }

    fn find(
        &mut self,
        snapshot: &Snapshot,
        topic: &Arc<str>,
        counters: &TotalCounters,
    ) -> Arc<Plan> {
        if self.generation != snapshot.program.generation {
            let scratch = std::mem::take(&mut self.scratch);
            *self = Self {
                scratch,
                generation: snapshot.program.generation,
                ..Self::default()
            };
        }
        if let Some(plan) = self.young.get(topic) {
            counters.plan_hits.add(1);
            return plan.clone();
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
        self.young.insert(topic.clone(), plan.clone());
        plan
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
