//! Another configuration in the place of the present one: built beside it, made ready, and put there by one swap.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use etl_config::{Loaded, Report};

use super::generations::History;
use super::{Orchestrator, Warming, bounds, wanted_lanes};
use crate::modules::Modules;
use crate::snapshot::{Snapshot, compile};
use crate::sync::atomic::Ordering;
use crate::sync::{MutexGuard, mpsc};
use crate::worker;

/// What a change of the configuration works with.
pub(super) struct Control {
    pub(super) modules: Modules,
    pub(super) history: History,
}

impl Orchestrator {
    /// Puts another configuration in the place of the present one, and answers its generation.
    ///
    /// Everything is built, compiled and made ready beside the present configuration; then one swap. Records in flight finish on the
    /// configuration that they started on. Modules that are the same keep their warm instances.
    ///
    /// # Errors
    /// Everything that is wrong; then nothing has changed.
    pub fn reload(&self, loaded: Loaded) -> Result<u64, Report> {
        let mut control = self.control();
        let generation = self.generation() + 1;
        let snapshot = self.build(&mut control, loaded, generation)?;
        self.swap(&mut control, &snapshot, "reload");
        Ok(generation)
    }

    /// One change at a time; records do not meet this lock.
    pub(super) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds a snapshot, to be put in place by [`swap`](Self::swap) or thrown away.
    pub(super) fn build(
        &self,
        control: &mut Control,
        loaded: Loaded,
        generation: u64,
    ) -> Result<Arc<Snapshot>, Report> {
        let compiled = control
            .modules
            .begin(&loaded)
            .and_then(|mut building| compile(&loaded, generation, &mut building));
        match compiled {
            Ok(compiled) => Ok(compiled.with(loaded)),
            Err(report) => {
                self.refused();
                Err(report)
            }
        }
    }

    /// Counts a configuration that was refused.
    pub(super) fn refused(&self) {
        self.reloads_refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            generation = self.generation(),
            "a configuration was refused; the present one stays"
        );
    }

    /// Puts what was just built in the place of what is in force.
    pub(super) fn swap(&self, control: &mut Control, snapshot: &Arc<Snapshot>, cause: &str) {
        control.modules.keep();
        self.put(control, snapshot, cause);
    }

    /// Puts a snapshot in the place of the one in force.
    pub(super) fn put(&self, control: &mut Control, snapshot: &Arc<Snapshot>, cause: &str) {
        let generation = snapshot.program.generation;
        self.set_lanes(wanted_lanes(&snapshot.loaded, self.lanes_given));
        self.warm(snapshot);
        self.shared.live.store(snapshot.clone());
        let pool = control.modules.pool();
        self.use_pool(pool.map(|(_, pool)| pool));
        let unix_ms = self.shared.clock.unix_ms();
        let keepsake = control.modules.keepsake();
        control.history.add(snapshot, keepsake, cause, unix_ms);
        self.shared.set_bounds(bounds(&snapshot.loaded));
        self.wake_all();
        self.shared.hub.prune(&snapshot.program);
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.publish_metrics();
        tracing::info!(generation, cause, "a new configuration is in force");
    }

    /// Lets every lane make instances ready, and waits for it within reason.
    pub(super) fn warm(&self, snapshot: &Arc<Snapshot>) {
        const LONGEST: Duration = Duration::from_secs(10);
        if self.shared.queue().closed {
            // The lanes have ended, or will, without another record.
            return;
        }
        let (done, ready) = mpsc::channel();
        for lane in &mut *self
            .shared
            .warming
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            lane.push(Warming {
                snapshot: snapshot.clone(),
                done: done.clone(),
            });
        }
        drop(done);
        self.wake_all();
        let until = Instant::now() + LONGEST;
        while ready
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .is_ok()
        {}
    }

    /// Starts lanes that are missing; those that are too many end by themselves.
    pub(super) fn set_lanes(&self, lanes: usize) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shared.lanes.load(Ordering::Relaxed);
        for lane in before..lanes {
            // A lane of this number may be about to end; wait for it, so that the number is one thread's. It must not learn before that
            // there are to be more of them, or it would stay.
            if let Some(thread) = threads.get_mut(lane).and_then(Option::take) {
                let _ = thread.join();
            }
        }
        let mut warming = self
            .shared
            .warming
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        warming.resize_with(lanes, Vec::new);
        self.shared.lanes.store(lanes, Ordering::Relaxed);
        if threads.len() < lanes {
            threads.resize_with(lanes, || None);
        }
        for lane in before..lanes {
            threads[lane] = Some(worker::spawn(self.shared.clone(), lane));
        }
        drop(warming);
        self.wake_all();
    }

    /// The pool whose instances are counted.
    fn use_pool(&self, pool: Option<Arc<etl_pool::Pool>>) {
        let mut present = self
            .shared
            .pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let same = match (&*present, &pool) {
            (Some(present), Some(pool)) => Arc::ptr_eq(present, pool),
            (None, None) => true,
            _ => false,
        };
        if !same {
            let created = |pool: &Option<Arc<etl_pool::Pool>>| {
                pool.as_ref().map_or(0, |pool| pool.instances_created())
            };
            // One that comes back has been counted before.
            let (former, coming) = (created(&present), created(&pool));
            self.created_before
                .fetch_add(former.wrapping_sub(coming), Ordering::Relaxed);
            *present = pool;
        }
    }
}
