//! Records to which the same happens: only their views are kept, and what is counted and timed is counted and timed for all at once.
//!
//! This is how most records go from end to end. The first answer that is neither "as it is" nor a change that can be made, a
//! condition that holds for some of them, a parallel stage, a circuit breaker or a time that is over sets them apart for the rest of their way,
//! each with what a flight of its own would have had by then.

use super::*;
use crate::core::MAX_SCRATCHES;

#[derive(Default)]
pub(super) struct Together {
    views: Vec<View>,
    /// Their places in the caller's batch.
    inputs: Vec<usize>,
    /// The records as they entered the present pipeline, where something had changed by then and a failure may want them back. Otherwise it
    /// is the original that entered.
    entered: Vec<View>,
    /// What the calls have cost each of them, in this stage and in this pipeline.
    pub(super) in_stage: Duration,
    pub(super) in_pipeline: Duration,
    /// Whether conditions have looked at them: then the first of them has the first scratch, and so on.
    looked_at: bool,
}

impl Together {
    pub(super) fn clear(&mut self) {
        self.views.clear();
        self.inputs.clear();
        self.entered.clear();
        (self.in_stage, self.in_pipeline) = (Duration::ZERO, Duration::ZERO);
        self.looked_at = false;
    }

    pub(super) fn reserve(&mut self, records: usize) {
        self.views.reserve(records);
        self.inputs.reserve(records);
    }

    pub(super) fn capacity(&self) -> usize {
        self.views.capacity()
    }

    pub(super) fn len(&self) -> usize {
        self.views.len()
    }

    pub(super) fn first(&self) -> Option<&View> {
        self.views.first()
    }

    pub(super) fn first_input(&self) -> Option<usize> {
        self.inputs.first().copied()
    }

    #[inline]
    pub(super) fn push(&mut self, input: usize, record: Arc<Record>) {
        self.views.push(View::new(record));
        self.inputs.push(input);
    }

    #[inline]
    pub(super) fn extend(&mut self, first: usize, records: &[Arc<Record>]) {
        self.views.extend(records.iter().cloned().map(View::new));
        self.inputs.extend(first..first + records.len());
    }

    pub(super) fn join(&mut self, other: &mut Self, shift: usize) {
        self.views.append(&mut other.views);
        self.inputs
            .extend(other.inputs.drain(..).map(|input| input + shift));
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().copied()
    }

    pub(super) fn shift_back(&mut self, shift: usize) {
        self.inputs.iter_mut().for_each(|input| *input -= shift);
    }

    pub(super) fn forget_conditions(&mut self) {
        self.looked_at = false;
    }

    pub(super) fn enter_next(&mut self, keeps_input: bool) {
        self.in_pipeline = Duration::ZERO;
        self.entered.clear();
        if keeps_input && self.views.iter().any(View::is_changed) {
            self.entered.extend(self.views.iter().cloned());
        }
    }

    /// The outcomes alone, in the order in which the records were taken in.
    #[inline]
    pub(super) fn forwarded(&mut self) -> impl Iterator<Item = Outcome> {
        self.views.drain(..).map(Outcome::forwarded)
    }

    #[inline]
    pub(super) fn outcomes(&mut self) -> impl Iterator<Item = (usize, Outcome)> {
        let outcomes = self.views.drain(..).map(Outcome::forwarded);
        self.inputs.drain(..).zip(outcomes)
    }

    /// Makes the changes that are answered, as far as they can simply be made; what was made is taken out of the replies.
    /// Answers for how many records.
    fn take(&mut self, core: &mut Core, replies: &mut Vec<Reply>, told: &mut Told) -> usize {
        let mut through = 0;
        let mut answers = replies.drain(..);
        let mut first_other = None;
        for (view, reply) in self.views.iter_mut().zip(answers.by_ref()) {
            let scratch = self.looked_at.then_some(through.min(MAX_SCRATCHES) as u32);
            let changed = match reply {
                Reply::Keep => false,
                Reply::Value(value) => {
                    let replaced = view.replace_value(value);
                    if let Some(replaced) = &replaced
                        && self.looked_at
                    {
                        let before = view.before(replaced);
                        let conditions = &mut core.conditions;
                        conditions.changed(scratch, before, view, Touched::VALUE);
                    }
                    replaced.is_some()
                }
                Reply::Change(delta) if !delta.emits() => {
                    let before = scratch.map(|_| view.value().clone()).unwrap_or_default();
                    match view.apply_all(delta.into_changes()) {
                        Ok((changed, touched)) => {
                            if changed {
                                core.conditions.changed(scratch, &before, view, touched);
                            }
                            changed
                        }
                        Err(error) => {
                            let error = TransformError::new(FailureKind::InvalidOutput, error.0);
                            first_other = Some(Reply::Fail(error));
                            break;
                        }
                    }
                }
                other => {
                    first_other = Some(other);
                    break;
                }
            };
            if changed {
                told.changed += 1;
            } else {
                told.kept += 1;
            }
            through += 1;
        }
        if first_other.is_some() {
            let others = first_other.into_iter().chain(answers).collect();
            *replies = others;
        }
        through
    }
}

impl Convoy {
    /// Calls a module for all of them.
    pub(super) fn call_together(&mut self, core: &mut Core, place: &Place<'_>, module: usize) {
        let program = place.module(module);
        let records = self.together.len();
        if let Some(group) = program.conditions
            && !self.hold_together(core, place, module, group)
        {
            return;
        }
        let Together {
            in_stage,
            in_pipeline,
            ..
        } = self.together;
        let (limit, scope) = place.limit_after(program, in_stage, in_pipeline);
        if place.stage.parallel || program.breaker.is_some() || limit.is_zero() {
            self.set_apart(place.keeps_input, module, 0);
            let mut chosen = std::mem::take(&mut core.chosen);
            chosen.extend(0..records);
            self.call(core, place, module, &mut chosen);
            chosen.clear();
            core.chosen = chosen;
            return;
        }

        let mut replies = std::mem::take(&mut core.replies);
        let cost = match &self.together.views[..] {
            [view] => ask(core, place, module, &[view], limit, &mut replies),
            views => {
                let views: SmallVec<[&View; 64]> = views.iter().collect();
                ask(core, place, module, &views, limit, &mut replies)
            }
        };
        let mut told = Told::default();
        let in_time = records == 1 || !replies.iter().any(timed_out);
        let through = if in_time {
            self.together.take(core, &mut replies, &mut told)
        } else {
            0
        };
        if through == records {
            self.together.in_stage += cost;
            self.together.in_pipeline += cost;
        } else {
            self.set_apart(place.keeps_input, module, through);
            for flight in &mut self.flights[..through] {
                flight.in_stage += cost;
                flight.in_pipeline += cost;
            }
            let able: Chosen = (through..records).collect();
            let spent = (cost, scope);
            self.take_in(core, place, module, &able, spent, &mut replies, &mut told);
        }
        core.replies = replies;
        told.count(core, program);
    }

    /// Asks a module's conditions about all of them. Answers whether they hold for all; where not, what the module has to do is done.
    fn hold_together(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        group: GroupId,
    ) -> bool {
        let program = place.module(module);
        let mut chosen = std::mem::take(&mut core.chosen);
        let known = self.together.looked_at;
        self.together.looked_at = true;
        for (index, view) in self.together.views.iter().enumerate() {
            let mut scratch = known.then(|| index.min(MAX_SCRATCHES) as u32);
            let scratch = core.conditions.scratch(&mut scratch);
            let conditions = &place.program.conditions;
            if conditions.evaluate_in(&place.plan.conditions, group, view, scratch) {
                chosen.push(index);
            }
        }
        let all = chosen.len() == self.together.len();
        if !all {
            let others = self.together.len() - chosen.len();
            let counters = core.counters.module(program.index);
            counters.not_selected.add(others as u64);
            if !chosen.is_empty() {
                self.set_apart(place.keeps_input, module, 0);
                let mut next = chosen.iter().peekable();
                for (index, flight) in self.flights.iter_mut().enumerate() {
                    if next.next_if(|chosen| **chosen == index).is_none() {
                        flight.next_module();
                    }
                }
                self.call(core, place, module, &mut chosen);
            }
        }
        chosen.clear();
        core.chosen = chosen;
        all
    }

    /// Gives each record a flight of its own, before this module; the first ones, so many as are `through`, after it.
    #[cold]
    pub(super) fn set_apart(&mut self, keeps_input: bool, module: usize, through: usize) {
        self.apart = true;
        let mut together = std::mem::take(&mut self.together);
        let mut entered = together.entered.drain(..);
        let inputs = together.inputs.drain(..);
        for (index, (view, input)) in together.views.drain(..).zip(inputs).enumerate() {
            let kept = entered.next();
            let input_of_family =
                keeps_input.then(|| kept.unwrap_or_else(|| View::new(view.original().clone())));
            self.slots.push(Slot {
                input,
                outcome: Outcome::default(),
            });
            self.families.push(Family {
                input: input_of_family,
                ..Family::default()
            });
            let mut flight = Flight::new(view, index, index);
            flight.module = module + usize::from(index < through);
            flight.in_stage = together.in_stage;
            flight.in_pipeline = together.in_pipeline;
            flight.scratch = together.looked_at.then(|| index.min(MAX_SCRATCHES) as u32);
            self.flights.push(flight);
        }
        drop(entered);
        together.clear();
        self.together = together;
    }
}
