//! Records of several batches in one convoy: which may be joined, and how their places are told apart.

use super::*;

impl Run {
    /// Whether the records of another run may join those of this one: both stand at the beginning of one plan, none of whose modules
    /// minds whose records it is called with.
    pub(crate) fn may_join(&self, other: &Self) -> bool {
        self.plan.joins
            && Arc::ptr_eq(&self.program, &other.program)
            && (Arc::ptr_eq(&self.plan, &other.plan) || self.plan.pipelines == other.plan.pipelines)
            && self.convoy.has_just_arrived()
            && other.convoy.has_just_arrived()
    }
}

impl Convoy {
    /// Whether it has not begun yet.
    fn has_just_arrived(&self) -> bool {
        !self.apart
            && !self.entered
            && (self.pipeline, self.stage) == (0, 0)
            && self.trace.is_none()
    }

    /// Takes in the records of another one, neither of which has begun. `shift` is added to their places.
    pub(crate) fn join(&mut self, mut other: Self, shift: usize) {
        self.together.join(&mut other.together, shift);
    }

    /// The places of its records.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = usize> {
        let apart = self.slots.iter().map(|slot| slot.input);
        self.together.inputs().chain(apart)
    }

    /// Takes so much from the places of its records.
    pub(crate) fn shift_back(&mut self, shift: usize) {
        self.slots.iter_mut().for_each(|slot| slot.input -= shift);
        self.together.shift_back(shift);
    }
}
