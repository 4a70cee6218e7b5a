//! What happens to a flight that failed: the table of strategies, the pipeline's own time, and dead letters.

use super::*;

impl Convoy {
    /// A module failed for a flight: tries again later, or does what the strategy says.
    pub(super) fn fail(
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
                flight.state = State::Waiting;
                flight.pending.get_or_insert_default().until = Some(core.now() + wait);
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
    pub(super) fn settle(
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
                    if let Some(pending) = self.flights[index].pending.take() {
                        self.take_back(index, pending.emitted.len());
                    }
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

    pub(super) fn skip(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        index: usize,
        through: usize,
    ) {
        let flight = &mut self.flights[index];
        self.slots[flight.slot].outcome.skipped += 1;
        core.counters.pipeline(place.index).skipped.add(1);
        if through > 0 {
            flight.next_module();
        }
    }

    /// Puts the pipeline's input in the place of the whole family.
    pub(super) fn undo(&mut self, core: &mut Core, place: &Place<'_>, index: usize) {
        let (family, slot) = (self.flights[index].family, self.flights[index].slot);
        self.slots[slot].outcome.stopped += 1;
        core.counters.pipeline(place.index).stopped.add(1);
        let input = self.forget(family, slot);
        let mut first = true;
        for flight in self.family_of(index) {
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

    /// A flight and the rest of its family, which stand together: looked for around it, since there may be a great many others.
    fn family_of(&mut self, index: usize) -> &mut [Flight] {
        let family = self.flights[index].family;
        let is_other = |flight: &Flight| flight.family != family;
        let first = self.flights[..index].iter().rposition(is_other);
        let end = self.flights[index..].iter().position(is_other);
        let first = first.map_or(0, |other| other + 1);
        let end = end.map_or(self.flights.len(), |other| index + other);
        &mut self.flights[first..end]
    }

    /// Nothing of what the pipeline did for a record counts any more. Answers what entered it, if anything has changed.
    fn forget(&mut self, family: usize, slot: usize) -> Option<View> {
        let Family {
            input,
            emitted,
            dropped,
        } = std::mem::take(&mut self.families[family]);
        let outcome = &mut self.slots[slot].outcome;
        outcome.emitted -= emitted;
        outcome.dropped -= dropped;
        input
    }

    /// The time of the pipeline is over for a flight, and so for its family.
    pub(super) fn pipeline_timed_out(
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
                for flight in self.family_of(index) {
                    match flight.state {
                        State::Live | State::Waiting => flight.state = State::Through,
                        State::Through | State::Gone => {}
                    }
                }
            }
            ErrorHandling::SendToDeadLetter => {
                let input = self
                    .forget(family, self.flights[index].slot)
                    .unwrap_or_else(|| self.flights[index].view.clone());
                self.dead_letter(core, place, module, index, &input, &error, false);
                for flight in self.family_of(index) {
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
    pub(super) fn dead_letter(
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
        let sha256 = program.transform.sha256_for(view);
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
                sha256: sha256.as_deref().or(program.sha256.as_deref()),
                generation: place.program.generation,
                attempts: flight.attempts,
                failed_at: core.clock().unix_ms(),
                trace,
                copy,
            },
        );
        // Of a record that is only explained, the letter goes nowhere.
        if !core.context.explains() {
            tracing::warn!(
                pipeline = %place.pipeline.id, module = %program.id, topic = %view.topic(), partition = view.original().partition,
                offset = view.original().offset, trace = %letter.trace, "dead letter: {error}"
            );
        }
        let counters = core.counters.pipeline(place.index);
        counters.dead_lettered.add(1);
        counters.copied.add(u64::from(copy));
        core.counters
            .letter(&place.pipeline.id, &program.id, error.kind());
        self.slots[flight.slot].outcome.dead_letters.push(letter);
    }
}
