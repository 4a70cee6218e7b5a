//! A record on its way through a plan, where it has what is its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::merge::Written;
use crate::record::Record;
use crate::view::View;

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) view: View,
    pub(super) slot: usize,
    pub(super) family: usize,
    /// Place of the next module in the planned stage.
    pub(super) module: usize,
    /// Attempts of that module so far.
    pub(super) attempts: u32,
    pub(super) state: State,
    /// What its calls have cost and its retries waited, in this stage and in this pipeline.
    pub(super) in_stage: Duration,
    pub(super) in_pipeline: Duration,
    /// What is rare: a retry to wait for, and what a parallel stage or an emission has left for the end of the stage.
    pub(super) pending: Option<Box<Pending>>,
    /// Where the conditions remember what they know of it.
    pub(super) scratch: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// On its way.
    Live,
    /// Waits for a retry, until [`Pending::until`].
    Waiting,
    /// Out of this pipeline with what it has, while others are still in it.
    Through,
    /// Dropped, dead-lettered or undone.
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// When the next attempt is due.
    pub(super) until: Option<Instant>,
    /// Since when the module has been too busy for an attempt.
    pub(super) busy_since: Option<Instant>,
    /// Of a parallel stage: a module dropped the record, and the others still see it.
    pub(super) dropped: bool,
    /// Of a parallel stage: the changes of its modules, with their place in the planned stage.
    pub(super) written: Vec<(usize, Written)>,
    /// Records that the stage's modules emitted for this one.
    pub(super) emitted: Vec<Arc<Record>>,
}

impl Flight {
    pub(super) fn new(view: View, slot: usize, family: usize) -> Self {
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

    pub(super) fn wants(&self, module: usize) -> bool {
        self.module == module && self.state == State::Live
    }

    /// Whether its module has not been asked yet, not even in vain.
    pub(super) fn is_new_here(&self) -> bool {
        let busy = self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.busy_since.is_some());
        self.attempts == 0 && !busy
    }

    /// The value, where conditions know something of it that a change may leave true.
    pub(super) fn value_if_looked_at(&self) -> Bytes {
        match self.scratch {
            Some(_) => self.view.value().clone(),
            None => Bytes::new(),
        }
    }

    pub(super) fn next_module(&mut self) {
        self.module += 1;
        self.attempts = 0;
    }
}
