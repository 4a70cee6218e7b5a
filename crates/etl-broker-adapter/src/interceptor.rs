//! The engine inside a broker that owns its threads: a record in, what to do with it out, nothing waited for.

use std::sync::Arc;

use etl_orchestrator::{DeadLetter, Deferred, Lane, Outcome, Progress, Record, View};
use smallvec::SmallVec;

/// Stands in a broker's produce or fetch path, on one of its threads.
///
/// It is a [`Lane`] that speaks the broker's language. Like a lane it stays on the thread that made it and calls modules to completion; a
/// broker with eight threads has eight. It never sleeps: not for a retry, and not for an instance that others hold.
pub struct Interceptor {
    lane: Lane,
}

/// What a broker shall do with a record.
#[derive(Debug)]
#[must_use = "a record is lost if nothing is done with it"]
#[allow(
    clippy::large_enum_variant,
    reason = "settled is the rule, and a box for it would cost an allocation a record"
)]
pub enum Disposition {
    /// Do this, and the record is done with.
    Settled {
        /// Store these in its place, in this order; none where it was dropped or dead-lettered. [`View::into_record`] gives
        /// the very same `Arc` where nothing changed; a broker that writes bytes reads the view and needs no record.
        forward: SmallVec<[View; 1]>,
        /// Store these too, each on its own topic.
        dead_letters: Vec<DeadLetter>,
    },
    /// A module failed and shall be tried again at [`Deferred::resume_at`]. Hand it to [`Interceptor::resume`] then,
    /// and hold back what follows it in its partition if order matters there.
    Deferred(Deferred),
    /// Nothing failed, but the pool's budgets leave no instance for a module now (`max_concurrent_instances`, `max_pool_size`, the memory of
    /// all, `creation_rate_limit`): too much comes in. Hold the publisher back, and go on as with [`Disposition::Deferred`]. Whoever has
    /// an idle instance is asked to give it up meanwhile. A module that stays busy for as long as it may take for a call fails with
    /// `PoolExhausted`, and its pipeline's strategy says what becomes of the record.
    Busy(Deferred),
}

impl Disposition {
    fn of(outcome: Outcome) -> Self {
        Self::Settled {
            forward: outcome.outputs,
            dead_letters: outcome.dead_letters,
        }
    }
}

impl From<Progress> for Disposition {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Done(outcome) => Self::of(outcome),
            Progress::Deferred(deferred) if deferred.is_busy() => Self::Busy(deferred),
            Progress::Deferred(deferred) => Self::Deferred(deferred),
        }
    }
}

impl Interceptor {
    /// Over a lane of this thread.
    pub fn new(lane: Lane) -> Self {
        Self {
            lane: lane.without_waiting(),
        }
    }

    /// What to do with this record.
    pub fn on_record(&mut self, record: &Arc<Record>) -> Disposition {
        self.lane.process(record).into()
    }

    /// What to do with each of these, in their order. The same as one at a time, and faster: each module is called
    /// once for all of them.
    pub fn on_batch(
        &mut self,
        records: &[Arc<Record>],
    ) -> impl Iterator<Item = Disposition> + use<> {
        self.lane
            .process_batch(records)
            .into_iter()
            .map(Disposition::from)
    }

    /// Goes on with a record that was deferred, or found a module busy.
    pub fn resume(&mut self, deferred: Deferred) -> Disposition {
        self.lane.resume(deferred).into()
    }

    /// Gives up warm instances that are not needed, above all those that another thread's interceptor finds missing. A thread that has had
    /// nothing to do for some milliseconds calls it now and then; one that works does this by itself.
    pub fn tend(&mut self) {
        self.lane.tend();
    }
}
