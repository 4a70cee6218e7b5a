//! Calling a module: for which flights, within what time, past which circuit breaker, and again record by record where a call ran out of time.

use super::*;

impl Convoy {
    /// Calls a module for these flights, within the nearest of their timeouts and as far as its circuit breaker lets them.
    pub(super) fn call(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        able: &mut Chosen,
    ) {
        let program = place.module(module);
        let nearest = self.within_time(core, place, module, able);
        let leave = self.admitted(core, place, module, able);
        if able.is_empty() {
            // Those that were let through may have been undone by those that were not: their leave goes back.
            if let Some(leave) = leave {
                leave.record(core.now(), 0, 0);
            }
            return;
        }

        let mut replies = std::mem::take(&mut core.replies);
        let views: SmallVec<[&View; 64]> = able
            .iter()
            .map(|&index| &self.flights[index].view)
            .collect();
        let cost = ask(core, place, module, &views, nearest.0, &mut replies);
        drop(views);
        let mut told = Told::default();
        self.take_in(
            core,
            place,
            module,
            able,
            (cost, nearest.1),
            &mut replies,
            &mut told,
        );
        core.replies = replies;
        told.count(core, program);
        if let Some(leave) = leave {
            leave.record(core.now(), told.well, told.unwell);
        }
    }

    /// Does to each of these flights what its module answered in one call.
    #[allow(
        clippy::too_many_arguments,
        reason = "one call's flights, replies and cost"
    )]
    pub(super) fn take_in(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        able: &[usize],
        (cost, scope): (Duration, Scope),
        replies: &mut Vec<Reply>,
        told: &mut Told,
    ) {
        let program = place.module(module);
        if able.len() > 1 && replies.iter().any(timed_out) {
            // Only what a record does alone, with all its time, counts. Until then nothing is done to any of them, so that what
            // happens to them happens in their order.
            let answers = self.ask_again(core, place, module, able, cost, replies);
            for (&index, answer) in able.iter().zip(answers) {
                let (reply, cost) = answer;
                let scope = place.limit(program, &self.flights[index]).1;
                self.answer(core, place, module, index, (reply, cost, scope), told);
            }
        } else {
            for (&index, reply) in able.iter().zip(replies.drain(..)) {
                self.answer(core, place, module, index, (reply, cost, scope), told);
            }
        }
    }

    /// Calls again, each alone and with its full time, for those whose time was over together with others'. What the call that was cut
    /// short cost is charged to none of them. In halves it would be fewer calls, but each that has a culprit in it takes all its time.
    fn ask_again(
        &self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        able: &[usize],
        cost: Duration,
        replies: &mut Vec<Reply>,
    ) -> Vec<(Reply, Duration)> {
        let mut answers: Vec<_> = replies.drain(..).map(|reply| (reply, cost)).collect();
        for (&index, answer) in able.iter().zip(&mut answers) {
            if !timed_out(&answer.0) {
                continue;
            }
            let limit = place.limit(place.module(module), &self.flights[index]).0;
            let view = &self.flights[index].view;
            let cost = ask(core, place, module, &[view], limit, replies);
            if let Some(reply) = replies.pop() {
                *answer = (reply, cost);
            }
        }
        answers
    }

    /// Does to a flight what its module answered, and charges it what the call cost, or how long it was put off before.
    pub(super) fn answer(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        (reply, cost, scope): (Reply, Duration, Scope),
        told: &mut Told,
    ) {
        // One before it in this call may have undone its family.
        if !self.flights[index].wants(module) {
            return;
        }
        if let Reply::Fail(error) = &reply
            && let Some(time) = error.ask_again_in()
            && self.put_off(core, place, module, index, time)
        {
            return;
        }
        let flight = &mut self.flights[index];
        let busy_since = flight
            .pending
            .as_mut()
            .and_then(|pending| pending.busy_since.take());
        let cost = busy_since.map_or(cost, |since| {
            core.now().saturating_duration_since(since).max(cost)
        });
        flight.in_stage += cost;
        flight.in_pipeline += cost;
        flight.attempts += 1;
        match self.take(core, place, module, index, reply, told) {
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

    /// The module was too busy for a flight: it is asked again after this time, unless that has gone on for as long as a call may
    /// take. Answers whether it is.
    fn put_off(
        &mut self,
        core: &Core,
        place: &Place<'_>,
        module: usize,
        index: usize,
        time: Duration,
    ) -> bool {
        let now = core.now();
        let flight = &mut self.flights[index];
        let limit = place.limit(place.module(module), flight).0;
        let pending = flight.pending.get_or_insert_default();
        let since = *pending.busy_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= limit {
            return false;
        }
        pending.until = Some(now + time);
        flight.state = State::Waiting;
        true
    }

    /// Cuts the flights down to those that have time left for a call. The others fail. Answers the nearest of their timeouts.
    pub(super) fn within_time(
        &mut self,
        core: &mut Core,
        place: &Place<'_>,
        module: usize,
        able: &mut Chosen,
    ) -> (Duration, Scope) {
        let program = place.module(module);
        let (mut in_stage, mut in_pipeline) = (Duration::ZERO, Duration::ZERO);
        for &index in &*able {
            in_stage = in_stage.max(self.flights[index].in_stage);
            in_pipeline = in_pipeline.max(self.flights[index].in_pipeline);
        }
        let nearest = place.limit_after(program, in_stage, in_pipeline);
        if nearest.0 > Duration::ZERO {
            return nearest;
        }
        let mut nearest = (program.timeout, Scope::Module);
        able.retain(|&index| {
            let flight = &self.flights[index];
            // One before it in this stage may just have undone its family.
            if !flight.wants(module) {
                return false;
            }
            match place.limit(program, flight) {
                (Duration::ZERO, Scope::Pipeline) => {
                    self.pipeline_timed_out(core, place, module, index);
                    false
                }
                (Duration::ZERO, _) => {
                    let error = TransformError::new(
                        FailureKind::Timeout,
                        "the stage's time was spent before",
                    )
                    .retryable(false);
                    self.fail(core, place, module, index, error);
                    false
                }
                limit => {
                    if limit.0 < nearest.0 {
                        nearest = limit;
                    }
                    true
                }
            }
        });
        // A failure of a later one may have undone the family of an earlier one.
        able.retain(|&index| self.flights[index].wants(module));
        nearest
    }

    /// Cuts the flights down to those that the module's circuit breaker lets through. The others fail.
    pub(super) fn admitted<'a>(
        &mut self,
        core: &mut Core,
        place: &Place<'a>,
        module: usize,
        able: &mut Chosen,
    ) -> Option<Leave<'a>> {
        let breaker = place.module(module).breaker.as_ref()?;
        if able.is_empty() {
            return None;
        }
        let (leave, let_through) = if core.context.explains() {
            let all = breaker.would_admit(core.now());
            (None, if all { able.len() } else { 0 })
        } else {
            let leave = breaker.admit(core.now(), able.len());
            let let_through = leave.records;
            (Some(leave), let_through)
        };
        for index in able.drain(let_through..) {
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
        leave
    }
}

/// Makes one call: one reply for each record. Answers what it cost each of them.
#[inline]
pub(super) fn ask(
    core: &mut Core,
    place: &Place<'_>,
    module: usize,
    views: &[&View],
    limit: Duration,
    replies: &mut Vec<Reply>,
) -> Duration {
    let program = place.module(module);
    let _span = spans::call(program, views);
    let started = core.now();
    replies.clear();
    let deadline = started + limit;
    program
        .transform
        .call(&mut core.context, views, deadline, replies);
    let elapsed = core.now().saturating_duration_since(started);
    core.counters
        .module(program.index)
        .duration
        .observe(elapsed, 1);
    if replies.is_empty() {
        replies.resize_with(views.len(), || Reply::Keep);
    } else if replies.len() != views.len() {
        let error = TransformError::new(
            FailureKind::InvalidOutput,
            "the module answered for another number of records",
        );
        replies.clear();
        replies.resize_with(views.len(), || Reply::Fail(error.clone()));
    }
    match views.len() {
        1 => elapsed,
        records => elapsed / u32::try_from(records).unwrap_or(u32::MAX),
    }
}

pub(super) fn timed_out(reply: &Reply) -> bool {
    matches!(reply, Reply::Fail(error) if error.kind() == FailureKind::Timeout)
}

impl Told {
    pub(super) fn count(&self, core: &mut Core, program: &ModuleProgram) {
        let counters = core.counters.module(program.index);
        counters.kept.add(self.kept);
        counters.changed.add(self.changed);
    }
}
