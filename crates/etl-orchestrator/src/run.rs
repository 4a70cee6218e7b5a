//! Carries records through their plan.
//!
//! A [`Run`] is one or more input records that have the same plan and stand at the same stage of it. It goes from module to module,
//! calling each once for all records that want it, so that a batch crosses into a guest once per module. What happens to one record
//! never depends on the others in its run: a record that waits for a retry leaves it and goes on alone, and a call that runs out of
//! time is made again in halves until the culprit stands alone.
//!
//! Words used here: a **slot** is an input record of the run. A **flight** is a record on its way: the input itself, or one that a
//! module emitted. A **family** is what has become of one record that entered the present pipeline: it and all that was emitted for it
//! there. A pipeline that is undone puts the record that entered in the place of its family.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_config::{ErrorHandling, MergePolicy};
use etl_filter::conditions::GroupId;
use smallvec::SmallVec;

use crate::breaker::Admission;
use crate::core::{Core, Touched};
use crate::delta::{Change, NewRecord};
use crate::failure::{FailureKind, TransformError};
use crate::merge::{self, Written};
use crate::outcome::{Circumstances, Outcome, dead_letter};
use crate::program::{ModuleProgram, PipelineProgram, Plan, Program, StageProgram};
use crate::record::Record;
use crate::trace::{Happened, Trace};
use crate::transform::Reply;
use crate::view::View;

/// First wait before a retry, at most; it doubles with every attempt.
pub(crate) const BACKOFF_BASE: Duration = Duration::from_millis(50);
/// Longest wait before a retry.
pub(crate) const BACKOFF_CAP: Duration = Duration::from_secs(10);

/// Places in the flights of a run.
type Chosen = SmallVec<[usize; 64]>;

/// Input records with the same plan, at the same stage of it.
pub(crate) struct Run {
    pub(crate) program: Arc<Program>,
    pub(crate) plan: Arc<Plan>,
    /// Place among the plan's pipelines, and among that one's stages.
    pipeline: usize,
    stage: usize,
    /// Whether the pipeline has counted the records as entered.
    entered: bool,
    flights: Vec<Flight>,
    families: Vec<Family>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) trace: Option<Box<Trace>>,
}

/// One input record of a run.
pub(crate) struct Slot {
    /// Its place in the caller's batch.
    pub(crate) input: usize,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
struct Flight {
    view: View,
    slot: usize,
    family: usize,
    /// Place of the next module in the planned stage.
    module: usize,
    /// Attempts of that module so far.
    attempts: u32,
    state: State,
    /// What its calls have cost and its retries waited, in this stage and in this pipeline.
    in_stage: Duration,
    in_pipeline: Duration,
    /// What a parallel stage or an emission has left for the end of the stage.
    pending: Option<Box<Pending>>,
    /// Where the conditions remember what they know of it.
    scratch: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// On its way.
    Live,
    /// Waits for a retry until then.
    Waiting(Instant),
    /// Out of this pipeline with what it has, while others are still in it.
    Through,
    /// Dropped, dead-lettered or undone.
    Gone,
}

#[derive(Debug, Default)]
struct Pending {
    /// Of a parallel stage: a module dropped the record, and the others still see it.
    dropped: bool,
    /// Of a parallel stage: the changes of its modules, with their place in the planned stage.
    written: Vec<(usize, Written)>,
    /// Records that the stage's modules emitted for this one.
    emitted: Vec<Arc<Record>>,
}

/// The record that entered the pipeline, once something has changed.
#[derive(Debug, Default)]
struct Family(Option<View>);

/// Why [`Run::advance`] came back.
pub(crate) enum Advance {
    /// Every slot that is still in the run has its outcome.
    Done,
    /// Something more urgent waits.
    Yielded,
}

/// A record that waits for a retry.
pub(crate) struct Waiting {
    pub(crate) run: Run,
    pub(crate) until: Instant,
}

/// The nearest of the timeouts that hold for a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Module,
    Stage,
    Pipeline,
}

impl Flight {
    fn new(view: View, slot: usize, family: usize) -> Self {
        Self {
            view,
            slot,
            family,
            module: 0,
            attempts: 0,
            state: State::Live,
            in_stage: Duration::ZERO,
            in_pipeline: Duration::ZERO,
            pending: None,
            scratch: None,
        }
    }

    fn wants(&self, module: usize) -> bool {
        self.module == module && self.state == State::Live
    }

    fn next_module(&mut self) {
        self.module += 1;
        self.attempts = 0;
    }
}

impl Run {
    /// A run for records that have just arrived. The plan must not be empty.
    pub(crate) fn new(program: Arc<Program>, plan: Arc<Plan>) -> Self {
        Self {
            program,
            plan,
            pipeline: 0,
            stage: 0,
            entered: false,
            flights: Vec::new(),
            families: Vec::new(),
            slots: Vec::new(),
            trace: None,
        }
    }

    pub(crate) fn push(&mut self, input: usize, record: Arc<Record>) {
        let index = self.slots.len();
        self.slots.push(Slot {
            input,
            outcome: Outcome::default(),
        });
        self.families.push(Family::default());
        self.flights
            .push(Flight::new(View::new(record), index, index));
    }

    /// How urgent it is: the priority of its next stage.
    pub(crate) fn priority(&self) -> u32 {
        self.plan.priority(&self.program, self.pipeline, self.stage)
    }

    /// Goes on until every record has its outcome, waits for a retry, or `yields` says at a stage boundary that something more urgent
    /// than the next stage waits. Records that wait are pushed to `waiting`, each with a run of its own.
    pub(crate) fn advance(
        &mut self,
        core: &mut Core,
        waiting: &mut Vec<Waiting>,
        mut yields: impl FnMut(u32) -> bool,
    ) -> Advance {
        let (program, plan) = (self.program.clone(), self.plan.clone());
        core.counters.adopt(&program);
        if plan.has_conditions {
            core.conditions.begin(core.clock().unix_ms());
            self.flights
                .iter_mut()
                .for_each(|flight| flight.scratch = None);
        }
        loop {
            let planned = &plan.pipelines[self.pipeline];
            let pipeline = &program.pipelines[planned.index];
            let planned_stage = &planned.stages[self.stage];
            let stage = &pipeline.stages[planned_stage.index];
            let place = Place {
                program: &program,
                plan: &plan,
                index: planned.index,
                pipeline,
                stage,
                modules: &planned_stage.modules,
                keeps_input: planned.keeps_input,
            };
            if !self.entered {
                self.entered = true;
                core.counters
                    .pipeline(planned.index)
                    .entered
                    .add(self.flights.len() as u64);
            }

            for module in 0..place.modules.len() {
                self.call_module(core, &place, module);
            }
            self.part_from_waiting(waiting);
            if self.flights.is_empty() && self.slots.is_empty() {
                return Advance::Done;
            }
            self.end_stage(core, &place);
            self.stage += 1;
            if self.stage == planned.stages.len() {
                self.end_pipeline(core, planned.index);
                self.stage = 0;
                self.pipeline += 1;
                self.entered = false;
                if self.pipeline == plan.pipelines.len() {
                    self.finish();
                    return Advance::Done;
                }
            }
            if yields(self.priority()) {
                return Advance::Yielded;
            }
        }
    }

    /// Calls one module for every flight that wants it.
    fn call_module(&mut self, core: &mut Core, place: &Place<'_>, module: usize) {
        let program = place.module(module);
        let mut chosen: Chosen = SmallVec::new();
        for index in 0..self.flights.len() {
            if !self.flights[index].wants(module) {
                continue;
            }
            // A retry is the same turn: its conditions have held.
            if let Some(group) = program.conditions
                && self.flights[index].attempts == 0
                && !self.holds(core, place, group, index)
            {
                core.counters.module(program.index).not_selected.add(1);
                self.flights[index].next_module();
                if self.trace.is_some() {
                    let because = self.why_not(core, place, group, index);
                    self.trace(place, module, index, None, Happened::NotSelected(because));
                }
                continue;
            }
            chosen.push(index);
        }
        if !chosen.is_empty() {
            self.call(core, place, module, &chosen);
        }
    }

    /// Asks a module's conditions about a flight. What is learned about the flight is kept until it changes.
    fn holds(&mut self, core: &mut Core, place: &Place<'_>, group: GroupId, index: usize) -> bool {
        let flight = &mut self.flights[index];
        let scratch = core.conditions.scratch(&mut flight.scratch);
        place
            .program
            .conditions
            .evaluate_in(&place.plan.conditions, group, &flight.view, scratch)
    }

    /// The first condition that a flight does not meet, in words. For traces.
    fn why_not(&self, core: &Core, place: &Place<'_>, group: GroupId, index: usize) -> String {
        let now = core.clock().unix_ms();
        let conditions = &place.program.conditions;
        let explanation = conditions.explain(group, &self.flights[index].view, now);
        match explanation.first_failure() {
            Some((_, explained)) => {
                format!("{}: {}", explained.condition(), explained.evidence())
            }
            None => String::new(),
        }
    }

    fn trace(
        &mut self,
        place: &Place<'_>,
        module: usize,
        index: usize,
        before: Option<View>,
        happened: Happened,
    ) {
        if let Some(trace) = &mut self.trace {
            let after = &self.flights[index].view;
            trace.step(
                place.pipeline,
                place.stage,
                place.module(module),
                after,
                before,
                happened,
            );
        }
    }

    /// Calls a module for these flights, within the nearest of their timeouts and as far as its circuit breaker lets them.
    fn call(&mut self, core: &mut Core, place: &Place<'_>, module: usize, chosen: &[usize]) {
        let program = place.module(module);
        let (mut able, nearest) = self.within_time(core, place, module, chosen);
        let admission = self.admitted(core, place, module, &mut able);
        if able.is_empty() {
            return;
        }

        let mut replies = std::mem::take(&mut core.replies);
        let cost = self.ask(core, place, module, &able, nearest.0, &mut replies);
        let mut told = Told::default();
        if able.len() > 1 && replies.iter().any(timed_out) {
            // Only what a record does alone, with all its time, counts. Until then nothing is done to any of them, so that what
            // happens to them happens in their order.
            let mut answers = Vec::with_capacity(able.len());
            self.ask_again(core, place, module, &able, cost, &mut replies, &mut answers);
            for (&index, answer) in able.iter().zip(answers) {
                let (reply, cost) = answer;
                let scope = place.limit(program, &self.flights[index]).1;
                self.answer(core, place, module, index, (reply, cost, scope), &mut told);
            }
        } else {
            for (&index, reply) in able.iter().zip(replies.drain(..)) {
                self.answer(
                    core,
                    place,
                    module,
                    index,
                    (reply, cost, nearest.1),
                    &mut told,
                );
            }
        }
        core.replies = replies;
        if let (Some(breaker), Some(admission)) = (&program.breaker, admission) {
            breaker.record(core.now(), admission, told.well, told.unwell);
        }
    }

    /// Makes one call: one reply for each flight. Answers what it cost each of them.
    fn ask(
        &self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        able: &[usize],
        limit: Duration,
        replies: &mut Vec<Reply>,
    ) -> Duration {
        let program = place.module(module);
        let started = core.now();
        replies.clear();
        let views: SmallVec<[&View; 64]> = able
            .iter()
            .map(|&index| &self.flights[index].view)
            .collect();
        program
            .transform
            .call(&mut core.context, &views, started + limit, replies);
        let elapsed = core.now().saturating_duration_since(started);
        core.counters
            .module(program.index)
            .duration
            .observe(elapsed, 1);
        if replies.is_empty() {
            replies.resize_with(able.len(), || Reply::Keep);
        } else if replies.len() != able.len() {
            let error = TransformError::new(
                FailureKind::InvalidOutput,
                "the module answered for another number of records",
            );
            replies.clear();
            replies.resize_with(able.len(), || Reply::Fail(error.clone()));
        }
        elapsed / u32::try_from(able.len()).unwrap_or(u32::MAX)
    }

    /// Calls again, in halves, for those whose time was over together with others'. What the call that was cut short cost is
    /// charged to none of them.
    #[allow(
        clippy::too_many_arguments,
        reason = "one call's flights, replies and cost"
    )]
    fn ask_again(
        &self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        able: &[usize],
        cost: Duration,
        replies: &mut Vec<Reply>,
        answers: &mut Vec<(Reply, Duration)>,
    ) {
        let first = answers.len();
        answers.extend(replies.drain(..).map(|reply| (reply, cost)));
        let again: Vec<usize> = (0..able.len())
            .filter(|&at| able.len() > 1 && timed_out(&answers[first + at].0))
            .collect();
        let (left, right) = again.split_at(again.len().div_ceil(2));
        for half in [left, right] {
            if half.is_empty() {
                continue;
            }
            let flights: Chosen = half.iter().map(|&at| able[at]).collect();
            let limits = flights
                .iter()
                .map(|&index| place.limit(place.module(module), &self.flights[index]).0);
            let limit = limits.min().unwrap_or_default();
            let cost = self.ask(core, place, module, &flights, limit, replies);
            let mut settled = Vec::with_capacity(half.len());
            self.ask_again(core, place, module, &flights, cost, replies, &mut settled);
            for (&at, answer) in half.iter().zip(settled) {
                answers[first + at] = answer;
            }
        }
    }

    /// Does to a flight what its module answered, and charges it what the call cost.
    fn answer(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        (reply, cost, scope): (Reply, Duration, Scope),
        told: &mut Told,
    ) {
        let flight = &mut self.flights[index];
        // One before it in this call may have undone its family.
        if !flight.wants(module) {
            return;
        }
        flight.in_stage += cost;
        flight.in_pipeline += cost;
        flight.attempts += 1;
        match self.take(core, place, module, index, reply) {
            Ok(()) => told.well += 1,
            Err(error) => {
                match against_the_module(&error) {
                    Some(true) => told.unwell += 1,
                    Some(false) => told.well += 1,
                    None => {}
                }
                let over = place.pipeline.timeout <= self.flights[index].in_pipeline;
                if error.kind() == FailureKind::Timeout && scope == Scope::Pipeline && over {
                    self.pipeline_timed_out(core, place, module, index);
                } else {
                    self.fail(core, place, module, index, error);
                }
            }
        }
    }

    /// Those of the flights that have time left for a call, and the nearest of their timeouts. The others fail.
    fn within_time(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        chosen: &[usize],
    ) -> (Chosen, (Duration, Scope)) {
        let program = place.module(module);
        let mut able = Chosen::new();
        let mut nearest = (program.timeout, Scope::Module);
        for &index in chosen {
            let flight = &self.flights[index];
            // One before it in this stage may just have undone its family.
            if !flight.wants(module) {
                continue;
            }
            match place.limit(program, flight) {
                (Duration::ZERO, Scope::Pipeline) => {
                    self.pipeline_timed_out(core, place, module, index);
                }
                (Duration::ZERO, _) => {
                    let error = TransformError::new(
                        FailureKind::Timeout,
                        "the stage's time was spent before",
                    )
                    .retryable(false);
                    self.fail(core, place, module, index, error);
                }
                limit => {
                    if limit.0 < nearest.0 {
                        nearest = limit;
                    }
                    able.push(index);
                }
            }
        }
        // A failure of a later one may have undone the family of an earlier one.
        able.retain(|index| self.flights[*index].wants(module));
        (able, nearest)
    }

    /// Cuts the flights down to those that the module's circuit breaker lets through. The others fail.
    fn admitted(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        able: &mut Chosen,
    ) -> Option<Admission> {
        let breaker = place.module(module).breaker.as_ref()?;
        if able.is_empty() {
            return None;
        }
        let admission = breaker.admit(core.now(), able.len());
        for index in able.drain(admission.records..) {
            let flight = &mut self.flights[index];
            if flight.wants(module) {
                flight.attempts += 1;
                let error = TransformError::new(
                    FailureKind::CircuitOpen,
                    "the module's circuit is open: it failed too often",
                );
                self.fail(core, place, module, index, error);
            }
        }
        able.retain(|index| self.flights[*index].wants(module));
        Some(admission)
    }

    /// Does to a flight what the module answered.
    fn take(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        reply: Reply,
    ) -> Result<(), TransformError> {
        let before = self
            .trace
            .is_some()
            .then(|| self.flights[index].view.clone());
        let counters = place.module(module).index;
        let happened = match reply {
            Reply::Fail(error) => return Err(error),
            Reply::Keep => {
                core.counters.module(counters).kept.add(1);
                Happened::Kept
            }
            Reply::Drop => {
                core.counters.module(counters).dropped.add(1);
                if place.stage.parallel {
                    self.flights[index].pending.get_or_insert_default().dropped = true;
                } else {
                    self.drop(core, place, index);
                }
                Happened::Dropped
            }
            Reply::Change(delta) => {
                if self.change(core, place, module, index, delta.into_changes())? {
                    core.counters.module(counters).changed.add(1);
                    Happened::Changed
                } else {
                    core.counters.module(counters).kept.add(1);
                    Happened::Kept
                }
            }
        };
        self.flights[index].next_module();
        self.trace(place, module, index, before, happened);
        Ok(())
    }

    fn drop(&mut self, core: &mut Core, place: &Place<'_>, index: usize) {
        self.keep_input(place, index);
        let flight = &mut self.flights[index];
        flight.state = State::Gone;
        self.slots[flight.slot].outcome.dropped += 1;
        core.counters.pipeline(place.index).dropped.add(1);
    }

    /// Makes the changes of a module, all of them or none.
    fn change(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        mut changes: SmallVec<[Change; 1]>,
    ) -> Result<bool, TransformError> {
        let bad = |error: crate::view::BadChange| {
            TransformError::new(FailureKind::InvalidOutput, error.0)
        };
        let mut emitted: Vec<NewRecord> = Vec::new();
        if changes
            .iter()
            .any(|change| matches!(change, Change::Emit(_)))
        {
            changes.retain(|change| match change {
                Change::Emit(record) => {
                    emitted.push(std::mem::take(&mut **record));
                    false
                }
                _ => true,
            });
            let slot = self.flights[index].slot;
            let total = self.slots[slot].outcome.emitted as usize + emitted.len();
            if total > place.program.max_emitted as usize {
                let message = format!(
                    "{total} records emitted for one input, {} are allowed",
                    place.program.max_emitted
                );
                return Err(TransformError::new(FailureKind::InvalidOutput, message));
            }
        }
        let changed = if place.stage.parallel {
            match Written::of(&self.flights[index].view, &changes).map_err(bad)? {
                Some(written) => {
                    self.flights[index]
                        .pending
                        .get_or_insert_default()
                        .written
                        .push((module, written));
                    true
                }
                None => false,
            }
        } else if changes.len() == 1 {
            // One change is made or not made: nothing has to be taken back. Most are a new value, which cannot fail.
            self.keep_input(place, index);
            let flight = &mut self.flights[index];
            let mut changed = false;
            for change in changes {
                let touched = Touched::by(&change);
                if flight.view.apply(change).map_err(bad)? {
                    core.conditions.changed(flight.scratch, touched);
                    changed = true;
                }
            }
            changed
        } else {
            let mut after = self.flights[index].view.clone();
            let mut touched = Touched::default();
            let mut changed = false;
            for change in changes {
                touched = touched.and(Touched::by(&change));
                changed |= after.apply(change).map_err(bad)?;
            }
            if changed {
                self.keep_input(place, index);
                let flight = &mut self.flights[index];
                flight.view = after;
                core.conditions.changed(flight.scratch, touched);
            }
            changed
        };
        if emitted.is_empty() {
            return Ok(changed);
        }
        self.keep_input(place, index);
        let flight = &mut self.flights[index];
        let outcome = &mut self.slots[flight.slot].outcome;
        outcome.emitted += u32::try_from(emitted.len()).unwrap_or(u32::MAX);
        let original = flight.view.original().clone();
        let topic = flight.view.topic().clone();
        let pending = flight.pending.get_or_insert_default();
        pending.emitted.extend(emitted.into_iter().map(|record| {
            Arc::new(Record {
                topic: record
                    .topic
                    .filter(|topic| !topic.is_empty())
                    .unwrap_or_else(|| topic.clone()),
                partition: original.partition,
                offset: original.offset,
                key: record.key,
                value: record.value,
                headers: record.headers,
                timestamp: record.timestamp,
            })
        }));
        Ok(true)
    }

    /// Keeps the record that entered the pipeline, before the first thing that happens to it, if a failure may still undo that.
    fn keep_input(&mut self, place: &Place<'_>, index: usize) {
        let flight = &self.flights[index];
        let family = &mut self.families[flight.family];
        if place.keeps_input && family.0.is_none() {
            family.0 = Some(flight.view.clone());
        }
    }

    /// A module failed for a flight: tries again later, or does what the strategy says.
    fn fail(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        error: TransformError,
    ) {
        let program = place.module(module);
        core.counters.module(program.index).error(error.kind());
        let flight = &mut self.flights[index];
        if place.pipeline.strategy == ErrorHandling::RetryWithBackoff
            && error.is_retryable()
            && flight.attempts <= place.pipeline.max_retries
        {
            let wait = core.backoff(flight.attempts);
            // A wait that would outlast the timeouts is a failure now rather than later.
            if wait < place.left(flight) {
                flight.in_stage += wait;
                flight.in_pipeline += wait;
                flight.state = State::Waiting(core.now() + wait);
                self.slots[flight.slot].outcome.retries += 1;
                core.counters.totals().retries.add(1);
                self.trace(
                    place,
                    module,
                    index,
                    None,
                    Happened::Retried { error, wait },
                );
                return;
            }
        }
        self.trace(place, module, index, None, Happened::Failed(error.clone()));
        self.settle(core, place, module, index, &error, 1);
    }

    /// Does what the strategy says about a failure that no retry will cure. `through` modules are passed where it is skipped.
    fn settle(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        error: &TransformError,
        through: usize,
    ) {
        let skips = place.stage.continue_on_error;
        match place.pipeline.strategy {
            ErrorHandling::SendToDeadLetter => {
                let view = self.flights[index].view.clone();
                self.dead_letter(core, place, module, index, &view, error, skips);
                if skips {
                    self.skip(core, place, index, through);
                } else {
                    self.keep_input(place, index);
                    self.flights[index].state = State::Gone;
                    self.flights[index].pending = None;
                }
            }
            ErrorHandling::SkipModule => self.skip(core, place, index, through),
            ErrorHandling::StopPipeline | ErrorHandling::RetryWithBackoff if skips => {
                self.skip(core, place, index, through);
            }
            ErrorHandling::StopPipeline | ErrorHandling::RetryWithBackoff => {
                self.undo(core, place, index);
            }
        }
    }

    fn skip(&mut self, core: &mut Core, place: &Place<'_>, index: usize, through: usize) {
        let flight = &mut self.flights[index];
        self.slots[flight.slot].outcome.skipped += 1;
        core.counters.pipeline(place.index).skipped.add(1);
        if through > 0 {
            flight.next_module();
        }
    }

    /// Puts the pipeline's input in the place of the whole family.
    fn undo(&mut self, core: &mut Core, place: &Place<'_>, index: usize) {
        let (family, slot) = (self.flights[index].family, self.flights[index].slot);
        self.slots[slot].outcome.stopped += 1;
        core.counters.pipeline(place.index).stopped.add(1);
        let input = self.families[family].0.take();
        let mut first = true;
        for flight in self
            .flights
            .iter_mut()
            .filter(|flight| flight.family == family)
        {
            flight.pending = None;
            flight.scratch = None;
            flight.state = State::Gone;
            if first {
                first = false;
                flight.state = State::Through;
                if let Some(input) = &input {
                    flight.view = input.clone();
                }
            }
        }
    }

    /// The time of the pipeline is over for a flight, and so for its family.
    fn pipeline_timed_out(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
    ) {
        let message = format!(
            "the pipeline took longer than its {} ms",
            place.pipeline.timeout.as_millis()
        );
        let error = TransformError::new(FailureKind::Timeout, message).retryable(false);
        core.counters
            .module(place.module(module).index)
            .error(FailureKind::Timeout);
        self.trace(place, module, index, None, Happened::Failed(error.clone()));
        let family = self.flights[index].family;
        match place.pipeline.strategy {
            ErrorHandling::StopPipeline | ErrorHandling::RetryWithBackoff => {
                self.undo(core, place, index);
            }
            ErrorHandling::SkipModule => {
                self.slots[self.flights[index].slot].outcome.skipped += 1;
                core.counters.pipeline(place.index).skipped.add(1);
                for flight in self
                    .flights
                    .iter_mut()
                    .filter(|flight| flight.family == family)
                {
                    match flight.state {
                        State::Live | State::Waiting(_) => flight.state = State::Through,
                        State::Through | State::Gone => {}
                    }
                }
            }
            ErrorHandling::SendToDeadLetter => {
                let input = self.families[family]
                    .0
                    .take()
                    .unwrap_or_else(|| self.flights[index].view.clone());
                self.dead_letter(core, place, module, index, &input, &error, false);
                for flight in self
                    .flights
                    .iter_mut()
                    .filter(|flight| flight.family == family)
                {
                    flight.state = State::Gone;
                    flight.pending = None;
                }
            }
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "a failure, its place and its record"
    )]
    fn dead_letter(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        view: &View,
        error: &TransformError,
        copy: bool,
    ) {
        let program = place.module(module);
        let flight = &self.flights[index];
        let trace = core.trace_of(view);
        let letter = dead_letter(
            view,
            error,
            Circumstances {
                topic: place
                    .pipeline
                    .dead_letter_topic
                    .render(&view.original().topic),
                pipeline: &place.pipeline.id,
                priority: place.stage.priority,
                module: &program.id,
                sha256: program.sha256.as_deref(),
                generation: place.program.generation,
                attempts: flight.attempts,
                failed_at: core.clock().unix_ms(),
                trace,
                copy,
            },
        );
        tracing::warn!(
            pipeline = %place.pipeline.id, module = %program.id, topic = %view.topic(), partition = view.original().partition,
            offset = view.original().offset, trace = %letter.trace, "dead letter: {error}"
        );
        core.counters.pipeline(place.index).dead_lettered.add(1);
        self.slots[flight.slot].outcome.dead_letters.push(letter);
    }

    /// Moves every slot of which a flight waits for a retry into a run of its own.
    fn part_from_waiting(&mut self, waiting: &mut Vec<Waiting>) {
        let mut untils: SmallVec<[Option<Instant>; 8]> = SmallVec::new();
        for flight in &self.flights {
            if let State::Waiting(until) = flight.state {
                untils.resize(self.slots.len(), None);
                let slot = &mut untils[flight.slot];
                *slot = Some(slot.map_or(until, |other| other.max(until)));
            }
        }
        if untils.is_empty() {
            return;
        }
        // Flights stand in the order of their slots, and those of a family together.
        let mut here = Self::new(self.program.clone(), self.plan.clone());
        let mut flights = std::mem::take(&mut self.flights).into_iter().peekable();
        for (slot, (content, until)) in std::mem::take(&mut self.slots)
            .into_iter()
            .zip(untils)
            .enumerate()
        {
            let mut apart = Self::new(self.program.clone(), self.plan.clone());
            (apart.pipeline, apart.stage, apart.entered) =
                (self.pipeline, self.stage, self.entered);
            let run = if until.is_some() {
                &mut apart
            } else {
                &mut here
            };
            run.slots.push(content);
            let mut previous = None;
            while let Some(mut flight) = flights.next_if(|flight| flight.slot == slot) {
                if previous != Some(flight.family) {
                    previous = Some(flight.family);
                    run.families
                        .push(std::mem::take(&mut self.families[flight.family]));
                }
                (flight.slot, flight.family) = (run.slots.len() - 1, run.families.len() - 1);
                if let State::Waiting(_) = flight.state {
                    flight.state = State::Live;
                }
                run.flights.push(flight);
            }
            if let Some(until) = until {
                apart.trace = self.trace.take();
                waiting.push(Waiting { run: apart, until });
            }
        }
        self.flights = here.flights;
        self.families = here.families;
        self.slots = here.slots;
    }

    /// Merges what parallel modules wrote, and lets emitted records join.
    fn end_stage(&mut self, core: &mut Core, place: &Place<'_>) {
        for index in 0..self.flights.len() {
            let flight = &mut self.flights[index];
            flight.module = 0;
            flight.attempts = 0;
            flight.in_stage = Duration::ZERO;
            let Some(mut pending) = flight.pending.take() else {
                continue;
            };
            if pending.dropped {
                self.drop(core, place, index);
            } else if !pending.written.is_empty() {
                self.merge(core, place, index, &mut pending);
            }
            if !pending.emitted.is_empty() {
                self.flights[index].pending = Some(pending);
            }
        }
        if !self
            .flights
            .iter()
            .any(|flight| flight.state == State::Gone || flight.pending.is_some())
        {
            return;
        }
        let mut flights = Vec::with_capacity(self.flights.len());
        for mut flight in self.flights.drain(..) {
            let (slot, family, spent) = (flight.slot, flight.family, flight.in_pipeline);
            let emitted = flight
                .pending
                .take()
                .map(|pending| pending.emitted)
                .unwrap_or_default();
            let state = if flight.state == State::Through {
                State::Through
            } else {
                State::Live
            };
            if flight.state != State::Gone {
                flights.push(flight);
            }
            flights.extend(emitted.into_iter().map(|record| {
                let mut flight = Flight::new(View::new(record), slot, family);
                flight.in_pipeline = spent;
                flight.state = state;
                flight
            }));
        }
        self.flights = flights;
    }

    fn merge(&mut self, core: &mut Core, place: &Place<'_>, index: usize, pending: &mut Pending) {
        self.keep_input(place, index);
        let before = self
            .trace
            .is_some()
            .then(|| self.flights[index].view.clone());
        let flight = &mut self.flights[index];
        let strict = place.stage.merge_policy == MergePolicy::Strict;
        let (modules, written): (Vec<usize>, Vec<Written>) = pending.written.drain(..).unzip();
        match merge::merge(&mut flight.view, &written, strict) {
            Ok(conflicts) => {
                core.conditions.changed(
                    flight.scratch,
                    Touched {
                        value: true,
                        headers: true,
                        timestamp: true,
                    },
                );
                self.slots[flight.slot].outcome.conflicts += conflicts;
                core.counters
                    .pipeline(place.index)
                    .conflicts
                    .add(u64::from(conflicts));
                let last = modules.last().copied().unwrap_or_default();
                self.trace(place, last, index, before, Happened::Merged);
            }
            Err(conflict) => {
                let (earlier, later) = (modules[conflict.earlier], modules[conflict.later]);
                let message = format!(
                    "it and {} wrote the same thing differently",
                    place.module(earlier).id
                );
                let error = TransformError::new(FailureKind::InvalidOutput, message);
                core.counters
                    .module(place.module(later).index)
                    .error(error.kind());
                pending.emitted.clear();
                flight.attempts = 1;
                self.trace(place, later, index, None, Happened::Failed(error.clone()));
                self.settle(core, place, later, index, &error, 0);
                self.flights[index].attempts = 0;
            }
        }
    }

    /// What is left of each family enters the next pipeline, every record for itself.
    fn end_pipeline(&mut self, core: &mut Core, pipeline: usize) {
        let counters = core.counters.pipeline(pipeline);
        counters.left.add(self.flights.len() as u64);
        self.families.clear();
        for (index, flight) in self.flights.iter_mut().enumerate() {
            counters.duration.observe(flight.in_pipeline, 1);
            flight.family = index;
            flight.in_pipeline = Duration::ZERO;
            flight.state = State::Live;
            self.families.push(Family::default());
        }
    }

    fn finish(&mut self) {
        for flight in self.flights.drain(..) {
            self.slots[flight.slot]
                .outcome
                .outputs
                .push(flight.view.into_record());
        }
    }
}

/// Where a run is.
struct Place<'a> {
    program: &'a Program,
    plan: &'a Plan,
    /// The pipeline's place in the program.
    index: usize,
    pipeline: &'a PipelineProgram,
    stage: &'a StageProgram,
    /// The planned modules.
    modules: &'a [usize],
    keeps_input: bool,
}

impl<'a> Place<'a> {
    fn module(&self, place: usize) -> &'a ModuleProgram {
        &self.stage.modules[self.modules[place]]
    }

    /// The nearest timeout of a call. Of equal ones the innermost.
    fn limit(&self, module: &ModuleProgram, flight: &Flight) -> (Duration, Scope) {
        let mut nearest = (module.timeout, Scope::Module);
        if let Some(timeout) = self.stage.timeout {
            let left = timeout.saturating_sub(flight.in_stage);
            if left < nearest.0 {
                nearest = (left, Scope::Stage);
            }
        }
        let left = self.pipeline.timeout.saturating_sub(flight.in_pipeline);
        if left < nearest.0 {
            nearest = (left, Scope::Pipeline);
        }
        nearest
    }

    /// The time that the stage and the pipeline leave a flight.
    fn left(&self, flight: &Flight) -> Duration {
        let pipeline = self.pipeline.timeout.saturating_sub(flight.in_pipeline);
        let stage = self
            .stage
            .timeout
            .map(|timeout| timeout.saturating_sub(flight.in_stage));
        stage.map_or(pipeline, |stage| stage.min(pipeline))
    }
}

impl Touched {
    fn by(change: &Change) -> Self {
        match change {
            Change::SetValue(_) | Change::MergePatch(_) => Self {
                value: true,
                ..Self::default()
            },
            Change::AddHeader(..) | Change::SetHeader(..) | Change::RemoveHeader(_) => Self {
                headers: true,
                ..Self::default()
            },
            Change::SetTimestamp(_) | Change::ClearTimestamp => Self {
                timestamp: true,
                ..Self::default()
            },
            Change::SetKey(_) | Change::ClearKey | Change::SetTopic(_) | Change::Emit(_) => {
                Self::default()
            }
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            value: self.value || other.value,
            headers: self.headers || other.headers,
            timestamp: self.timestamp || other.timestamp,
        }
    }
}

/// What calls told a circuit breaker.
#[derive(Default)]
struct Told {
    well: u32,
    unwell: u32,
}

fn timed_out(reply: &Reply) -> bool {
    matches!(reply, Reply::Fail(error) if error.kind() == FailureKind::Timeout)
}

/// What a failure tells a circuit breaker: that the module is unwell, that it is well (it refused a record, for good), or nothing.
fn against_the_module(error: &TransformError) -> Option<bool> {
    match error.kind() {
        FailureKind::Timeout
        | FailureKind::Trap
        | FailureKind::MemoryLimit
        | FailureKind::InvalidOutput => Some(true),
        FailureKind::Module => Some(error.is_retryable()),
        FailureKind::PoolExhausted | FailureKind::CircuitOpen => None,
    }
}
