//! The end of a stage: parallel modules' changes are merged, and emitted records join.

use super::*;

impl Convoy {
    /// Merges what parallel modules wrote, and lets emitted records join.
    pub(super) fn end_stage(&mut self, core: &mut Core, place: &Place<'_>) {
        let counters = core.counters.stage(place.stage.index);
        if !self.apart {
            let spent = std::mem::take(&mut self.together.in_stage);
            counters.duration.observe(spent, self.together.len());
            return;
        }
        let mut durations = Joined::new(&counters.duration);
        for flight in &self.flights {
            durations.observe(flight.in_stage);
        }
        drop(durations);
        let mut unchanged = true;
        for index in 0..self.flights.len() {
            let flight = &mut self.flights[index];
            flight.module = 0;
            flight.attempts = 0;
            flight.in_stage = Duration::ZERO;
            let Some(mut pending) = flight.pending.take() else {
                unchanged &= flight.state != State::Gone;
                continue;
            };
            unchanged = false;
            if pending.dropped {
                self.drop(place, index);
            } else if !pending.written.is_empty() {
                self.merge(core, place, index, &mut pending);
            }
            if !pending.emitted.is_empty() {
                self.flights[index].pending = Some(pending);
            }
        }
        if unchanged {
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

    pub(super) fn merge(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        index: usize,
        pending: &mut Pending,
    ) {
        self.keep_input(place, index);
        let before = self
            .trace
            .is_some()
            .then(|| self.flights[index].view.clone());
        let flight = &mut self.flights[index];
        let value_before = flight.value_if_looked_at();
        let strict = place.stage.merge_policy == MergePolicy::Strict;
        let (modules, written): (Vec<usize>, Vec<Written>) = pending.written.drain(..).unzip();
        match merge::merge(&mut flight.view, written, strict) {
            Ok(conflicts) => {
                core.conditions.changed(
                    flight.scratch,
                    &value_before,
                    &flight.view,
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
                let emitted = pending.emitted.drain(..).len();
                flight.attempts = 1;
                self.take_back(index, emitted);
                self.trace(place, later, index, None, Happened::Failed(error.clone()));
                self.settle(core, place, later, index, &error, 0);
                self.flights[index].attempts = 0;
            }
        }
    }
}
