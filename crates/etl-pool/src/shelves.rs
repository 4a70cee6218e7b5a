//! The shelves of one lane: warm instances, and how they are called.
//!
//! A lane is a thread. It has a shelf for each template, with the idle instances of that template, the last used on top; a template
//! knows the number of its shelf, so finding one is an index. A call takes an instance down, or makes one within the budgets;
//! the [`Lease`] puts it back when it is dropped, unless the instance was given up, because its guest failed or because another
//! lane waits for its place.
//!
//! A failure is not believed at once. A batch that fails is called again in halves, down to the record, and a record that fails on an
//! instance that had served before is tried once more on a fresh one: so a trap costs only the record that causes it, and
//! a guest that wears out (one that never frees, above all) is replaced and works for ever.

mod lease;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use etl_abi::RecordFields;

use crate::budget::{Claim, Permit, Refusal, TemplateBudget};
use crate::engine::{Engine, NativeEngine};
use crate::error::{CallError, FailureKind};
use crate::execution::Sampling;
use crate::facts::Abi;
use crate::pool::Pool;
use crate::results::{self, Placeless, Results};
use crate::stats::LaneCounts;
use crate::template::{Isolation, Template};
use crate::verdicts::{Answer, Verdicts};
use lease::Lease;

/// The warm instances of one lane.
pub struct Shelves<E: Engine = NativeEngine> {
    pool: Arc<Pool<E>>,
    lane: E::Lane,
    shelves: Vec<Shelf<E>>,
    /// Calls so far, and how many there will have been when idle instances are looked after next.
    calls: u64,
    tend_at: u64,
    /// Whether a call waits for an instance that others hold. Where it does not, what it was refused last stays claimed for a while.
    waits: bool,
    claim: Option<Claim>,
}

/// The idle instances of one template, the last used on top.
struct Shelf<E: Engine> {
    template_id: u64,
    template: Weak<Template<E>>,
    idle: Vec<Box<Slot<E>>>,
    /// The lane's count of calls when this shelf was last used.
    last_used: u64,
    counts: LaneCounts,
    sampling: Sampling,
    results: Option<Results>,
}

/// An instance with its right to exist.
struct Slot<E: Engine> {
    // Dropped first: the permit is free only when the instance is gone.
    instance: E::Instance,
    served: u64,
    idle_since: Option<Instant>,
    /// The guest is in an unknown state.
    failed: bool,
    // A slot may outlive its template: it is dropped from a shelf later.
    template: Weak<Template<E>>,
    _permit: Permit,
}

impl<E: Engine> Drop for Slot<E> {
    fn drop(&mut self) {
        if let Some(template) = self.template.upgrade() {
            template.counts.destroyed();
        }
    }
}

impl<E: Engine> Shelf<E> {
    fn hand_over_counts(&mut self) {
        if let Some(template) = self.template.upgrade() {
            template.counts.hand_over(&mut self.counts);
        }
    }
}

impl<E: Engine> Drop for Shelf<E> {
    fn drop(&mut self) {
        self.hand_over_counts();
    }
}

impl<E: Engine> Default for Shelf<E> {
    fn default() -> Self {
        Self {
            template_id: 0,
            template: Weak::new(),
            idle: Vec::new(),
            last_used: 0,
            counts: LaneCounts::default(),
            sampling: Sampling::default(),
            results: None,
        }
    }
}

/// Calls after which a lane looks after its idle instances by itself.
const TEND_EVERY: u64 = 4_096;

/// Calls after which a claim ends: whoever was refused has not come back for it.
const CLAIM_LASTS: u64 = 64;

/// After what time a lane that does not wait asks again for an instance that others hold.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// Calls after which a shelf hands its counts over.
const HAND_OVER_EVERY: u64 = 256;

impl<E: Engine> Shelves<E> {
    pub(crate) fn new(pool: Arc<Pool<E>>) -> Self {
        Self {
            lane: pool.engine.lane(),
            pool,
            shelves: Vec::new(),
            calls: 0,
            tend_at: TEND_EVERY,
            waits: true,
            claim: None,
        }
    }

    /// From now on a call that would have to wait for an instance fails at once, with [`CallError::ask_again_in`], and those who hold
    /// what it needs give it up as they would for a lane that waits.
    pub fn never_wait(&mut self) {
        self.waits = false;
    }

    /// Calls the module for these records, at most until the deadline.
    ///
    /// # Errors
    /// Where no record was served: no instance in time, an instance that could not be made, the deadline. What goes wrong with single records is
    /// told for each of them by [`Verdicts::get`].
    #[inline]
    pub fn call<R: RecordFields>(
        &mut self,
        template: &Arc<Template<E>>,
        records: &[R],
        deadline: Instant,
    ) -> Result<Verdicts, CallError> {
        self.calls += 1;
        if self.calls >= self.tend_at {
            self.claim = None;
            self.tend(Instant::now());
        }
        if records.is_empty() {
            return Ok(Verdicts::one(0, Answer::Keep));
        }
        if template.cache_ttl().is_some() {
            return self.call_cached(template, records, deadline);
        }
        self.call_guest(template, records, deadline)
    }

    #[inline]
    fn call_guest<R: RecordFields>(
        &mut self,
        template: &Arc<Template<E>>,
        records: &[R],
        deadline: Instant,
    ) -> Result<Verdicts, CallError> {
        let apart = template.module.compiled.abi == Abi::Legacy
            || template.options.isolation == Isolation::Record;
        if !apart || records.len() == 1 {
            match self.attempt(template, records, deadline)? {
                Ok(answer) => return Ok(Verdicts::one(records.len(), answer)),
                Err(failed) if records.len() == 1 => {
                    let answer = self.again(template, records, deadline, failed);
                    return Ok(Verdicts::one(1, answer));
                }
                Err(_) => {}
            }
        }
        self.call_apart(template, records, apart, deadline)
    }

    /// Makes up to `count` instances of the template ready on this lane. Answers how many there are. Waits for `creation_rate_limit`,
    /// but not for another lane's instance to go: that one is as good as what would take its place.
    ///
    /// # Errors
    /// Why the next one could not be made; the ones before it stay.
    pub fn warm(
        &mut self,
        template: &Arc<Template<E>>,
        count: usize,
        deadline: Instant,
    ) -> Result<usize, CallError> {
        while self.shelf(template).idle.len() < count {
            let mut slot = self.make(template, Spare::Others, deadline)?;
            slot.idle_since = Some(Instant::now());
            self.shelf(template).idle.push(slot);
        }
        Ok(self.shelf(template).idle.len())
    }

    /// Makes an instance of the template, waiting for a place like a call, and drops it again: whether it starts.
    ///
    /// # Errors
    /// Why it does not, or that there was no place in time.
    pub fn try_start(
        &mut self,
        template: &Arc<Template<E>>,
        deadline: Instant,
    ) -> Result<(), CallError> {
        self.make(template, Spare::Any, deadline).map(drop)
    }

    /// Gives up idle instances for which another lane waits, and those whose template is gone. Answers whether there were any.
    ///
    /// A lane gives up what it has just used by itself; one that has done something else, or nothing, calls this. It costs next to
    /// nothing as long as nobody waits.
    pub fn give_way(&mut self) -> bool {
        if !self.pool.instances.is_wanted() {
            return false;
        }
        let mut given = false;
        for shelf in &mut self.shelves {
            let template = shelf.template.upgrade();
            if template.is_none_or(|template| template.budget.is_awaited())
                && !shelf.idle.is_empty()
            {
                shelf.idle.remove(0);
                given = true;
            }
        }
        given || self.pool.instances.is_awaited() && self.give_up_one(|_| true)
    }

    /// Drops instances that have been idle for too long, and those whose template is gone.
    ///
    /// A lane does this by itself every few thousand calls; one that may be idle for long calls it when it has nothing to do.
    pub fn tend(&mut self, now: Instant) {
        self.tend_at = self.calls
            + if self.claim.is_some() {
                CLAIM_LASTS
            } else {
                TEND_EVERY
            };
        let timeout = self.pool.options.idle_timeout;
        for shelf in &mut self.shelves {
            if shelf.template.strong_count() == 0 {
                *shelf = Shelf::default();
                continue;
            }
            shelf.hand_over_counts();
            // An instance is stamped when it is first found idle, so that a call needs no clock.
            shelf.idle.retain_mut(|slot| {
                let since = *slot.idle_since.get_or_insert(now);
                now.saturating_duration_since(since) < timeout
            });
        }
    }

    /// Idle instances on this lane.
    pub fn idle(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.idle.len()).sum()
    }

    #[inline]
    fn shelf(&mut self, template: &Arc<Template<E>>) -> &mut Shelf<E> {
        let slot = template.slot;
        if self
            .shelves
            .get(slot)
            .is_none_or(|shelf| shelf.template_id != template.id)
        {
            self.put_up(template);
        }
        &mut self.shelves[slot]
    }

    /// A shelf for a template that this lane has not met.
    #[cold]
    fn put_up(&mut self, template: &Arc<Template<E>>) {
        if self.shelves.len() <= template.slot {
            self.shelves.resize_with(template.slot + 1, Shelf::default);
        }
        let mut shelf = Shelf::default();
        shelf.template_id = template.id;
        shelf.template = Arc::downgrade(template);
        shelf.results = template.cache_ttl().map(Results::new);
        self.shelves[template.slot] = shelf;
    }

    /// An instance, from the shelf or new.
    #[inline]
    fn lease<'a>(
        &'a mut self,
        template: &'a Arc<Template<E>>,
        fresh: bool,
        deadline: Instant,
    ) -> Result<Lease<'a, E>, CallError> {
        let taken = if fresh {
            None
        } else {
            self.shelf(template).idle.pop()
        };
        let slot = match taken {
            Some(slot) => slot,
            None => {
                let slot = self.make(template, Spare::Any, deadline)?;
                template.counts.missed();
                slot
            }
        };
        let now = self.calls;
        let shelf = self.shelf(template);
        shelf.last_used = now;
        Ok(Lease {
            shelf,
            template,
            slot: Some(slot),
        })
    }

    /// A new instance: waits for a place within the budgets, at most until the deadline.
    #[cold]
    fn make(
        &mut self,
        template: &Arc<Template<E>>,
        spare: Spare,
        deadline: Instant,
    ) -> Result<Box<Slot<E>>, CallError> {
        let pool = Arc::clone(&self.pool);
        let asked = Instant::now();
        self.claim = None;
        loop {
            // What the engine said, where it was the engine that had no room.
            let mut reason = None;
            let refusal = match pool.instances.try_take(&template.budget, Instant::now()) {
                Ok(permit) => {
                    let code = template
                        .code()
                        .map_err(|error| CallError::new(FailureKind::Trap, error.to_string()))?;
                    match pool
                        .engine
                        .instantiate(code, &template.setup, &self.lane, deadline)
                    {
                        Ok(instance) => {
                            template.counts.created();
                            template.counts.waited(asked.elapsed());
                            pool.created.fetch_add(1, Ordering::Relaxed);
                            return Ok(Box::new(Slot {
                                instance,
                                served: 0,
                                idle_since: None,
                                failed: false,
                                template: Arc::downgrade(template),
                                _permit: permit,
                            }));
                        }
                        // The memory of all instances is used up: as if their number were.
                        Err(error) if error.kind() == FailureKind::PoolExhausted => {
                            reason = Some(error);
                            Refusal::Pool
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(refusal) => refusal,
            };
            // Places that this lane holds for later are given up first. Where the template is at its own limit, only its own count.
            let given_up = match (refusal, spare) {
                (Refusal::Rate(_), _) | (Refusal::Template, Spare::Others) => false,
                (Refusal::Template, Spare::Any) => self.give_up_one(|id| id == template.id),
                (Refusal::Pool, Spare::Any) => self.give_up_one(|_| true),
                (Refusal::Pool, Spare::Others) => self.give_up_one(|id| id != template.id),
            };
            if given_up {
                continue;
            }
            let waits = matches!((refusal, spare), (Refusal::Rate(_), _) | (_, Spare::Any))
                && Instant::now() < deadline;
            if waits && self.waits {
                pool.instances.wait(refusal, &template.budget, deadline);
                continue;
            }
            let error = reason.unwrap_or_else(|| refused(refusal, &template.budget));
            if !waits {
                return Err(error);
            }
            self.claim = pool.instances.claim(refusal, &template.budget);
            self.tend_at = self.tend_at.min(self.calls + CLAIM_LASTS);
            return Err(error.asking_again_in(match refusal {
                Refusal::Rate(time) => time,
                Refusal::Template | Refusal::Pool => ASK_AGAIN,
            }));
        }
    }

    /// Drops one idle instance: the coldest of the shelf that was not used for longest.
    fn give_up_one(&mut self, may: impl Fn(u64) -> bool) -> bool {
        let candidates = self
            .shelves
            .iter_mut()
            .filter(|shelf| !shelf.idle.is_empty() && may(shelf.template_id));
        match candidates.min_by_key(|shelf| shelf.last_used) {
            Some(shelf) => {
                shelf.idle.remove(0);
                true
            }
            None => false,
        }
    }

    /// One crossing into one guest. The outer error ends the whole call; the inner one may be the doing of any record.
    #[inline]
    fn attempt<R: RecordFields>(
        &mut self,
        template: &Arc<Template<E>>,
        records: &[R],
        deadline: Instant,
    ) -> Result<Result<Answer, Failed>, CallError> {
        let mut lease = self.lease(template, false, deadline)?;
        match lease.serve(records, deadline) {
            Ok(answer) => Ok(Ok(answer)),
            Err(error) if error.kind() == FailureKind::Timeout => Err(error),
            Err(error) => Ok(Err(Failed {
                worn: lease.served() > 0 || error.is_stray(),
                error,
            })),
        }
    }

    /// A record failed: once more on a fresh instance, where wear may have been the cause.
    #[cold]
    fn again<R: RecordFields>(
        &mut self,
        template: &Arc<Template<E>>,
        record: &[R],
        deadline: Instant,
        failed: Failed,
    ) -> Answer {
        if !failed.worn {
            return Answer::Failed(failed.error);
        }
        let outcome = self
            .lease(template, true, deadline)
            .and_then(|mut lease| lease.serve(record, deadline));
        outcome.unwrap_or_else(Answer::Failed)
    }

    /// First from what was answered before, then from the guest, for the rest in one call.
    #[cold]
    fn call_cached<R: RecordFields>(
        &mut self,
        template: &Arc<Template<E>>,
        records: &[R],
        deadline: Instant,
    ) -> Result<Verdicts, CallError> {
        let now = Instant::now();
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(records.len());
        let mut missing = Vec::new();
        let mut keys = Vec::new();
        let shelf = self.shelf(template);
        for record in records {
            let key = results::key(record, template.module.compiled.abi);
            let found = shelf
                .results
                .as_mut()
                .and_then(|results| results.get(&key, now));
            if found.is_none() {
                missing.push(Placeless(record));
                keys.push(key);
            }
            answers.push(found);
        }
        let hits = records.len() - missing.len();
        template.counts.cached(hits as u64, missing.len() as u64);
        if !missing.is_empty() {
            let verdicts = match self.call_guest(template, &missing, deadline) {
                Ok(verdicts) => verdicts,
                Err(error) if hits == 0 => return Err(error),
                Err(error) => Verdicts::one(missing.len(), Answer::Failed(error)),
            };
            let shelf = self.shelf(template);
            let gaps = answers.iter_mut().filter(|answer| answer.is_none());
            for ((index, gap), key) in gaps.enumerate().zip(keys) {
                let answer = verdicts.answer(index);
                if let Some(results) = &mut shelf.results {
                    results.put(key, &answer, now);
                }
                *gap = Some(answer);
            }
        }
        let parts = answers.into_iter().flatten().enumerate().collect();
        Ok(Verdicts::many(records.len(), parts))
    }

    /// In parts: record by record where the module or its isolation wants that, otherwise in halves until the culprits are alone.
    #[cold]
    fn call_apart<R: RecordFields>(
        &mut self,
        template: &Arc<Template<E>>,
        records: &[R],
        singly: bool,
        deadline: Instant,
    ) -> Result<Verdicts, CallError> {
        let mut parts = Vec::new();
        // Runs still to be served, the next one on top.
        let mut runs = Vec::new();
        if singly {
            runs.extend((0..records.len()).rev().map(|index| index..index + 1));
        } else {
            let half = records.len() / 2;
            runs.extend([half..records.len(), 0..half]);
        }
        while let Some(run) = runs.pop() {
            let part = &records[run.clone()];
            let answer = match self.attempt(template, part, deadline) {
                Ok(Ok(answer)) => answer,
                Ok(Err(failed)) if part.len() == 1 => self.again(template, part, deadline, failed),
                Ok(Err(_)) => {
                    let middle = run.start + part.len() / 2;
                    runs.extend([middle..run.end, run.start..middle]);
                    continue;
                }
                // Out of time or room: what was served before stands, and nothing more is begun once the time is over.
                Err(error) if Instant::now() >= deadline => {
                    parts.push((run.start, Answer::Failed(error)));
                    break;
                }
                Err(error) => Answer::Failed(error),
            };
            parts.push((run.start, answer));
        }
        Ok(Verdicts::many(records.len(), parts))
    }
}

/// There is no place for an instance.
fn refused(refusal: Refusal, template: &TemplateBudget) -> CallError {
    let why = match refusal {
        Refusal::Template => format!("all {} instances of the module are in use", template.limit),
        Refusal::Pool => "the pool has no room for another instance".to_owned(),
        Refusal::Rate(_) => "instances are made faster than creation_rate_limit allows".to_owned(),
    };
    CallError::new(FailureKind::PoolExhausted, why)
}

/// Which idle instances of its own a lane may give up for a new one.
#[derive(Clone, Copy)]
enum Spare {
    Any,
    /// Those of other templates: what is made ready does not take the place of what was made ready just before.
    Others,
}

/// A failed crossing.
struct Failed {
    error: CallError,
    /// Whether the cause may not be the record: the instance had served before, or was stopped for the call before.
    worn: bool,
}
