//! Carries records through their plan.
//!
//! A [`Convoy`] is one or more input records that have the same plan and stand at the same stage of it; a [`Run`] is a convoy together
//! with its plan. It goes from module to module, calling each once for all records that want it, so that a batch crosses into a guest
//! once per module. What happens to one record never depends on the others in its convoy: a record that waits for a retry leaves it
//! and goes on alone, and a call that runs out of time is made again for each of its records alone.
//!
//! Words used here: a **slot** is an input record of the convoy. A **flight** is a record on its way: the input itself, or one that a
//! module emitted. A **family** is what has become of one record that entered the present pipeline: it and all that was emitted for it
//! there. A pipeline that is undone puts the record that entered in the place of its family.
//!
//! As long as the same happens to all records of a convoy they go **together** (`together`): there are only their views. What sets one
//! apart (a failure, a drop, a condition that holds for some) gives each a flight, a family and a slot of its own.

mod calling;
mod changing;
mod failing;
mod flight;
mod joining;
mod place;
mod spans;
mod stages;
mod together;

use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_config::{ErrorHandling, MergePolicy};
use etl_filter::conditions::GroupId;
use smallvec::SmallVec;

use crate::breaker::Leave;
use crate::core::{Core, Touched};
use crate::delta::{Change, NewRecord};
use crate::failure::{FailureKind, TransformError};
use crate::histogram::Joined;
use crate::merge::{self, Written};
use crate::outcome::{Circumstances, Outcome, dead_letter};
use crate::program::{ModuleProgram, PipelineProgram, Plan, Program, StageProgram};
use crate::record::Record;
use crate::stats::TotalCounters;
use crate::trace::{Happened, Trace};
use crate::transform::Reply;
use crate::view::View;
use calling::{ask, timed_out};
use flight::{Flight, Pending, State};
use place::{Place, Scope};
use spans::Spans;
use together::Together;

/// First wait before a retry, at most; it doubles with every attempt.
pub(crate) const BACKOFF_BASE: Duration = Duration::from_millis(50);
/// Longest wait before a retry.
pub(crate) const BACKOFF_CAP: Duration = Duration::from_secs(10);

/// Places in the flights of a convoy.
pub(crate) type Chosen = Vec<usize>;

/// A convoy, and the plan that it follows.
pub(crate) struct Run {
    pub(crate) program: Arc<Program>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) convoy: Convoy,
}

/// The plan that a convoy follows, and the program whose places it names.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) program: &'a Arc<Program>,
    pub(crate) plan: &'a Arc<Plan>,
}

/// Input records with the same plan, at the same stage of it.
///
/// An empty one is worth keeping for the room in its lists: growing them costs more than everything else that is done to a record here.
#[derive(Default)]
pub(crate) struct Convoy {
    /// Place among the plan's pipelines, and among that one's stages.
    pipeline: usize,
    stage: usize,
    /// Whether the pipeline has counted the records as entered.
    entered: bool,
    /// Whether each record has what is its own: then they are in `flights`, `families` and `slots`, otherwise in `together`.
    apart: bool,
    together: Together,
    flights: Vec<Flight>,
    families: Vec<Family>,
    slots: Vec<Slot>,
    pub(crate) trace: Option<Box<Trace>>,
}

/// One input record of a convoy.
struct Slot {
    /// Its place in the caller's batch.
    input: usize,
    outcome: Outcome,
}

/// What a record that entered the pipeline has come to there.
#[derive(Debug, Default)]
struct Family {
    /// The record itself, once something has changed.
    input: Option<View>,
    /// Records that were emitted and dropped there. They count only when it is certain that the pipeline is not undone.
    emitted: u32,
    dropped: u32,
}

/// Why [`Convoy::advance`] came back.
pub(crate) enum Advance {
    /// Every slot that is still in the convoy has its outcome.
    Done,
    /// Something more urgent waits.
    Yielded,
}

/// A record that waits for a retry.
pub(crate) struct Waiting {
    pub(crate) run: Run,
    pub(crate) until: Instant,
    /// Nothing has failed: the module was busy.
    pub(crate) busy: bool,
}

impl Run {
    /// How urgent it is: the priority of its next stage.
    pub(crate) fn priority(&self) -> u32 {
        let Convoy {
            pipeline, stage, ..
        } = self.convoy;
        self.plan.priority(&self.program, pipeline, stage)
    }

    /// See [`Convoy::advance`].
    pub(crate) fn advance(
        &mut self,
        core: &mut Core,
        waiting: &mut Vec<Waiting>,
        yields: impl FnMut(u32) -> bool,
    ) -> Advance {
        let route = Route {
            program: &self.program,
            plan: &self.plan,
        };
        self.convoy.advance(route, core, waiting, yields)
    }
}

impl Convoy {
    /// Makes an empty one of it, with the room that it has.
    pub(crate) fn clear(&mut self) {
        (self.pipeline, self.stage, self.entered) = (0, 0, false);
        self.apart = false;
        self.together.clear();
        self.flights.clear();
        self.families.clear();
        self.slots.clear();
        self.trace = None;
    }

    /// Makes room for so many more records.
    pub(crate) fn reserve(&mut self, records: usize) {
        self.together.reserve(records);
    }

    /// How many records there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.together.capacity().max(self.flights.capacity())
    }

    /// How many input records it has.
    pub(crate) fn records(&self) -> usize {
        if self.apart {
            self.slots.len()
        } else {
            self.together.len()
        }
    }

    /// The place in the caller's batch of the first record.
    pub(crate) fn first_input(&self) -> Option<usize> {
        if self.apart {
            self.slots.first().map(|slot| slot.input)
        } else {
            self.together.first_input()
        }
    }

    /// Takes in a record that has just arrived.
    #[inline]
    pub(crate) fn push(&mut self, input: usize, record: Arc<Record>) {
        self.together.push(input, record);
    }

    /// Takes in records that have just arrived and are neighbours in the caller's batch.
    #[inline]
    pub(crate) fn extend(&mut self, first: usize, records: &[Arc<Record>]) {
        self.together.extend(first, records);
    }

    /// Takes the outcomes out and counts them, where the records came to the end together.
    #[inline]
    pub(crate) fn forwarded(
        &mut self,
        totals: &TotalCounters,
    ) -> Option<impl Iterator<Item = Outcome>> {
        if self.apart {
            return None;
        }
        totals.records_out.add(self.together.len() as u64);
        Some(self.together.forwarded())
    }

    /// Takes the outcomes out and counts them: with their places in the caller's batch, in the order in which the records were taken in.
    pub(crate) fn outcomes(
        &mut self,
        totals: &TotalCounters,
    ) -> impl Iterator<Item = (usize, Outcome)> {
        totals.records_out.add(self.together.len() as u64);
        let apart = self.slots.drain(..).map(|slot| {
            slot.outcome.count(totals);
            (slot.input, slot.outcome)
        });
        self.together.outcomes().chain(apart)
    }

    /// Goes on until every record has its outcome, waits for a retry, or `yields` says at a stage boundary that something more urgent
    /// than the next stage waits. Records that wait are pushed to `waiting`, each with a run of its own. The plan must not be empty.
    pub(crate) fn advance(
        &mut self,
        route: Route<'_>,
        core: &mut Core,
        waiting: &mut Vec<Waiting>,
        mut yields: impl FnMut(u32) -> bool,
    ) -> Advance {
        let Route { program, plan } = route;
        core.counters.adopt(program);
        if plan.has_conditions {
            let now = core.clock().unix_ms();
            core.conditions.begin(now, core.counters.totals());
            self.together.forget_conditions();
            self.flights
                .iter_mut()
                .for_each(|flight| flight.scratch = None);
        }
        if self.trace.is_some() && !self.apart {
            self.set_apart(false, 0, 0);
        }
        let mut spans = Spans::default();
        loop {
            let planned = &plan.pipelines[self.pipeline];
            let pipeline = &program.pipelines[planned.index];
            let planned_stage = &planned.stages[self.stage];
            let stage = &pipeline.stages[planned_stage.index];
            let place = Place {
                program,
                plan,
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
                    .add(self.len() as u64);
            }
            let _stage = spans.enter(&place, self);

            for module in 0..place.modules.len() {
                self.call_module(core, &place, module);
            }
            if self.apart {
                self.part_from_waiting(route, waiting);
                if self.flights.is_empty() && self.slots.is_empty() {
                    return Advance::Done;
                }
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
                self.enter_next(plan.pipelines[self.pipeline].keeps_input);
            }
            if yields(plan.priority(program, self.pipeline, self.stage)) {
                return Advance::Yielded;
            }
        }
    }

    /// How many records it has, emitted ones included.
    fn len(&self) -> usize {
        self.flights.len() + self.together.len()
    }

    /// Calls one module for every flight that wants it.
    fn call_module(&mut self, core: &mut Core, place: &Place<'_>, module: usize) {
        if !self.apart {
            return self.call_together(core, place, module);
        }
        let program = place.module(module);
        let mut chosen = std::mem::take(&mut core.chosen);
        for index in 0..self.flights.len() {
            if !self.flights[index].wants(module) {
                continue;
            }
            // A retry is the same turn: its conditions have held.
            if let Some(group) = program.conditions
                && self.flights[index].is_new_here()
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
            self.call(core, place, module, &mut chosen);
            chosen.clear();
        }
        core.chosen = chosen;
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

    /// Keeps the record that entered the pipeline, before the first thing that happens to it, if a failure may still undo that.
    fn keep_input(&mut self, place: &Place<'_>, index: usize) {
        let flight = &self.flights[index];
        let family = &mut self.families[flight.family];
        if place.keeps_input && family.input.is_none() {
            family.input = Some(flight.view.clone());
        }
    }

    /// Moves every slot of which a flight waits for a retry into a run of its own.
    fn part_from_waiting(&mut self, route: Route<'_>, waiting: &mut Vec<Waiting>) {
        let mut untils: SmallVec<[Option<(Instant, bool)>; 8]> = SmallVec::new();
        for flight in &self.flights {
            if let (State::Waiting, Some(pending)) = (flight.state, &flight.pending)
                && let Some(until) = pending.until
            {
                untils.resize(self.slots.len(), None);
                let slot = &mut untils[flight.slot];
                let busy = pending.busy_since.is_some();
                *slot = Some(slot.map_or((until, busy), |(other, others_busy)| {
                    (other.max(until), others_busy && busy)
                }));
            }
        }
        if untils.is_empty() {
            return;
        }
        // Flights stand in the order of their slots, and those of a family together.
        let mut here = Self {
            apart: true,
            ..Self::default()
        };
        let mut flights = std::mem::take(&mut self.flights).into_iter().peekable();
        for (slot, (content, until)) in std::mem::take(&mut self.slots)
            .into_iter()
            .zip(untils)
            .enumerate()
        {
            let mut apart = Self {
                apart: true,
                ..Self::default()
            };
            (apart.pipeline, apart.stage, apart.entered) =
                (self.pipeline, self.stage, self.entered);
            let convoy = if until.is_some() {
                &mut apart
            } else {
                &mut here
            };
            convoy.slots.push(content);
            let mut previous = None;
            while let Some(mut flight) = flights.next_if(|flight| flight.slot == slot) {
                if previous != Some(flight.family) {
                    previous = Some(flight.family);
                    convoy
                        .families
                        .push(std::mem::take(&mut self.families[flight.family]));
                }
                (flight.slot, flight.family) = (convoy.slots.len() - 1, convoy.families.len() - 1);
                if flight.state == State::Waiting {
                    flight.state = State::Live;
                }
                convoy.flights.push(flight);
            }
            if let Some((until, busy)) = until {
                apart.trace = self.trace.take();
                let run = Run {
                    program: route.program.clone(),
                    plan: route.plan.clone(),
                    convoy: apart,
                };
                waiting.push(Waiting { run, until, busy });
            }
        }
        self.flights = here.flights;
        self.families = here.families;
        self.slots = here.slots;
    }

    /// The records have left the pipeline.
    fn end_pipeline(&self, core: &mut Core, pipeline: usize) {
        let counters = core.counters.pipeline(pipeline);
        counters.left.add(self.len() as u64);
        if !self.apart {
            let spent = self.together.in_pipeline;
            counters.duration.observe(spent, self.together.len());
            return;
        }
        let dropped = self.families.iter().map(|family| u64::from(family.dropped));
        counters.dropped.add(dropped.sum());
        let mut durations = Joined::new(&counters.duration);
        for flight in &self.flights {
            durations.observe(flight.in_pipeline);
        }
    }

    /// What is left of each family enters the next pipeline, every record for itself.
    fn enter_next(&mut self, keeps_input: bool) {
        if !self.apart {
            return self.together.enter_next(keeps_input);
        }
        self.families.clear();
        self.families
            .resize_with(self.flights.len(), Family::default);
        for (index, flight) in self.flights.iter_mut().enumerate() {
            flight.family = index;
            flight.in_pipeline = Duration::ZERO;
            flight.state = State::Live;
        }
    }

    /// The records are at the end of their way.
    fn finish(&mut self) {
        for Flight { view, slot, .. } in self.flights.drain(..) {
            self.slots[slot].outcome.outputs.push(view);
        }
    }
}

/// What a call's answers come to: for the counters, and for a circuit breaker.
#[derive(Default)]
struct Told {
    kept: u64,
    changed: u64,
    well: u32,
    unwell: u32,
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
