//! A lane: a thread's own instances and working memory, and the synchronous way in.
//!
//! Everything that a lane touches while it works is its own: nothing is locked, and nothing of it can be sent to another thread. A
//! record that has to wait for a retry is handed back as [`Deferred`], and so is one that would have to wait for an instance, where the
//! thread may not wait for that either ([`Lane::without_waiting`]).

use std::sync::Arc;
use std::time::Instant;

use etl_pool::{Pool, Shelves};

use crate::core::Core;
use crate::groups::Groups;
use crate::outcome::Outcome;
use crate::plan_cache::PlanCache;
use crate::record::Record;
use crate::run::{Advance, Convoy, Route, Run, Waiting};
use crate::snapshot::Live;
use crate::trace::{Step, Trace};

/// What a [`Transform`](crate::Transform) finds on the lane that calls it.
///
/// Its warm instances, above all. `Default` is a context without any, for calling a transform by itself.
#[derive(Default)]
pub struct LaneContext {
    /// The shelves of the pool in use, and of the one before it while records of an older configuration are under way.
    shelves: Vec<(Arc<Pool>, Shelves)>,
    /// Calls do not wait for instances.
    never_waits: bool,
    /// The records of this lane are only explained.
    explains: bool,
}

impl LaneContext {
    /// For a lane whose records are only explained: nothing that outlives it may count them.
    pub(crate) fn explaining() -> Self {
        Self {
            explains: true,
            ..Self::default()
        }
    }

    /// Whether the records of this lane are only explained.
    pub(crate) fn explains(&self) -> bool {
        self.explains
    }

    /// The lane's shelves in a pool.
    #[inline]
    pub(crate) fn shelves(&mut self, pool: &Arc<Pool>) -> &mut Shelves {
        let place = match self.shelves.first() {
            Some((first, _)) if Arc::ptr_eq(first, pool) => 0,
            _ => self.find(pool),
        };
        &mut self.shelves[place].1
    }

    #[cold]
    fn find(&mut self, pool: &Arc<Pool>) -> usize {
        if let Some(place) = self
            .shelves
            .iter()
            .position(|(other, _)| Arc::ptr_eq(other, pool))
        {
            return place;
        }
        let mut shelves = pool.shelves();
        if self.never_waits {
            shelves.never_wait();
        }
        self.shelves.insert(0, (pool.clone(), shelves));
        self.shelves.truncate(2);
        0
    }

    /// Calls no longer wait for instances.
    fn never_wait(&mut self) {
        self.never_waits = true;
        for (_, shelves) in &mut self.shelves {
            shelves.never_wait();
        }
    }

    /// Drops instances that have been idle for too long, and those of configurations that are gone.
    pub(crate) fn tend(&mut self, now: Instant) {
        for (_, shelves) in &mut self.shelves {
            shelves.tend(now);
        }
    }

    /// Gives up idle instances whose place another lane waits for.
    pub(crate) fn give_way(&mut self) {
        for (_, shelves) in &mut self.shelves {
            shelves.give_way();
        }
    }
}

impl std::fmt::Debug for LaneContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let idle: usize = self.shelves.iter().map(|(_, shelves)| shelves.idle()).sum();
        formatter
            .debug_struct("LaneContext")
            .field("idle", &idle)
            .finish()
    }
}

/// A thread's way into the engine, without a runtime: for brokers that own their threads.
///
/// Made by [`Orchestrator::lane`](crate::Orchestrator::lane); it stays on the thread that made it.
pub struct Lane {
    live: Live,
    core: Core,
    plans: PlanCache,
    waiting: Vec<Waiting>,
    groups: Groups,
    /// The convoy of records that come alone.
    alone: Convoy,
}

/// What became of a record that was given to a lane.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "done is the rule, and a box for it would cost an allocation a record"
)]
pub enum Progress {
    /// It is done.
    Done(Outcome),
    /// It waits for a retry, or for an instance where the lane does not wait.
    Deferred(Deferred),
}

/// A record that waits for a retry, or for an instance. It holds neither an instance nor a lane, and any lane of the same engine may resume it.
///
/// Whoever holds it must also hold back what comes after it in its partition, if order matters there.
pub struct Deferred {
    run: Box<Run>,
    until: Instant,
    busy: bool,
}

impl Deferred {
    /// When to resume it.
    #[must_use]
    pub fn resume_at(&self) -> Instant {
        self.until
    }

    /// Whether nothing has failed, and the only thing that it waits for is an instance. Once that has gone on for as long as the call
    /// might take, it counts as a failure, `PoolExhausted`.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Deferred")
            .field("until", &self.until)
            .field("busy", &self.busy)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// The outcome, if it is done.
    #[must_use]
    pub fn done(self) -> Option<Outcome> {
        match self {
            Self::Done(outcome) => Some(outcome),
            Self::Deferred(_) => None,
        }
    }
}

impl Lane {
    pub(crate) fn new(live: Live, core: Core) -> Self {
        Self {
            live,
            core,
            plans: PlanCache::default(),
            waiting: Vec::new(),
            groups: Groups::new(usize::MAX),
            alone: Convoy::default(),
        }
    }

    /// The same lane, for a thread that may not even wait for an instance: where the pool's budgets would have a call wait (all
    /// instances or all memory in use, or made too fast), the record is handed back as a [`Deferred`] that [is
    /// busy](Deferred::is_busy).
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.core.context.never_wait();
        self
    }

    /// Handles one record.
    pub fn process(&mut self, record: &Arc<Record>) -> Progress {
        let Self {
            live,
            core,
            plans,
            waiting,
            alone: convoy,
            ..
        } = self;
        // Whatever a panic may have left goes first.
        waiting.clear();
        let snapshot = live.load();
        let totals = core.counters.totals();
        totals.records_in.add(1);
        let plan = plans.plan(snapshot, &record.topic, totals);
        if plan.is_empty() {
            totals.passed_through.add(1);
            totals.records_out.add(1);
            return Progress::Done(Outcome::passed(record.clone()));
        }
        let route = Route {
            program: &snapshot.program,
            plan,
        };
        convoy.clear();
        convoy.push(0, record.clone());
        let _: Advance = convoy.advance(route, core, waiting, |_| false);
        arrived(core, waiting, convoy)
    }

    /// Handles a batch: each module is called once for all records that want it. What comes back is in the order of `records`, and
    /// the same as if each had been handled alone.
    pub fn process_batch(&mut self, records: &[Arc<Record>]) -> Vec<Progress> {
        let Self {
            live,
            core,
            plans,
            waiting,
            groups,
            ..
        } = self;
        waiting.clear();
        let snapshot = live.load();
        let totals = core.counters.totals();
        totals.records_in.add(records.len() as u64);
        let mut results: Vec<Progress> = Vec::with_capacity(records.len());
        let mut passed = 0;
        let mut first = 0;
        while let Some(record) = records.get(first) {
            // Neighbours mostly have the same topic.
            let topic = &record.topic;
            let same =
                |record: &&Arc<Record>| Arc::ptr_eq(&record.topic, topic) || record.topic == *topic;
            let end = first + records[first..].iter().take_while(same).count();
            let plan = plans.plan(snapshot, topic, totals);
            totals.plan_hits.add((end - first - 1) as u64);
            let neighbours = &records[first..end];
            if plan.is_empty() {
                // The places of those before that are on their way.
                results.resize_with(first, on_its_way);
                let outcomes = neighbours.iter().cloned().map(Outcome::passed);
                results.extend(outcomes.map(Progress::Done));
                passed += neighbours.len() as u64;
            } else {
                groups.extend(snapshot, plan, first, neighbours);
            }
            first = end;
        }
        totals.passed_through.add(passed);
        totals.records_out.add(passed);
        let mut runs = groups.take();
        for run in &mut runs {
            let _: Advance = run.advance(core, waiting, |_| false);
            let totals = core.counters.totals();
            if results.is_empty()
                && run.convoy.records() == records.len()
                && let Some(outcomes) = run.convoy.forwarded(totals)
            {
                // All of them, in their order.
                results.extend(outcomes.map(Progress::Done));
                break;
            }
            results.resize_with(records.len(), on_its_way);
            for (input, outcome) in run.convoy.outcomes(totals) {
                results[input] = Progress::Done(outcome);
            }
            for waiting in waiting.drain(..) {
                let input = waiting.run.convoy.first_input().unwrap_or_default();
                results[input] = Progress::Deferred(waiting.into());
            }
        }
        for run in runs.drain(..) {
            groups.keep(run.convoy);
        }
        groups.keep_list(runs);
        results
    }

    /// Gives up warm instances that are not needed: those that have been idle for too long, those of configurations that are gone, and
    /// those whose place another lane waits for.
    ///
    /// A lane does this by itself while it works. A thread that has nothing to do for longer than some milliseconds calls it now and
    /// then, since nobody else can: an instance belongs to its thread.
    pub fn tend(&mut self) {
        self.core.context.give_way();
        self.core.context.tend(Instant::now());
    }

    /// Goes on with a record whose time has come; earlier is allowed and only makes its wait shorter.
    pub fn resume(&mut self, deferred: Deferred) -> Progress {
        self.waiting.clear();
        let mut run = deferred.run;
        let _: Advance = run.advance(&mut self.core, &mut self.waiting, |_| false);
        arrived(&mut self.core, &mut self.waiting, &mut run.convoy)
    }

    /// Handles one record and tells every step of its way. Waits for retries, so it is for people and tools.
    pub fn process_traced(&mut self, record: &Arc<Record>) -> (Outcome, Vec<Step>) {
        self.waiting.clear();
        let snapshot = self.live.load();
        let totals = self.core.counters.totals();
        totals.records_in.add(1);
        let plan = self.plans.plan(snapshot, &record.topic, totals).clone();
        if plan.is_empty() {
            totals.passed_through.add(1);
            totals.records_out.add(1);
            return (Outcome::passed(record.clone()), Vec::new());
        }
        let mut run = Run {
            program: snapshot.program.clone(),
            plan,
            convoy: Convoy::default(),
        };
        run.convoy.push(0, record.clone());
        run.convoy.trace = Some(Box::new(Trace::default()));
        loop {
            let _: Advance = run.advance(&mut self.core, &mut self.waiting, |_| false);
            match self.waiting.pop() {
                Some(Waiting {
                    run: apart, until, ..
                }) => {
                    self.core.clock().sleep_until(until);
                    run = apart;
                }
                None => {
                    let totals = self.core.counters.totals();
                    let outcome = run.convoy.outcomes(totals).next();
                    let outcome = outcome.map(|(_, outcome)| outcome).unwrap_or_default();
                    return (
                        outcome,
                        run.convoy
                            .trace
                            .map(|trace| trace.steps)
                            .unwrap_or_default(),
                    );
                }
            }
        }
    }
}

/// What became of the only record of a convoy.
fn arrived(core: &mut Core, waiting: &mut Vec<Waiting>, convoy: &mut Convoy) -> Progress {
    let totals = core.counters.totals();
    if let Some(mut outcomes) = convoy.forwarded(totals) {
        return Progress::Done(outcomes.next().unwrap_or_default());
    }
    let outcome = convoy.outcomes(totals).next();
    match (outcome, waiting.pop()) {
        (Some((_, outcome)), _) => Progress::Done(outcome),
        (None, Some(waiting)) => Progress::Deferred(waiting.into()),
        (None, None) => Progress::Done(Outcome::default()),
    }
}

/// Stands in the place of a record of which it is not known yet what became of it.
fn on_its_way() -> Progress {
    Progress::Done(Outcome::default())
}

impl From<Waiting> for Deferred {
    fn from(waiting: Waiting) -> Self {
        Self {
            run: Box::new(waiting.run),
            until: waiting.until,
            busy: waiting.busy,
        }
    }
}
