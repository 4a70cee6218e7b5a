//! Sorts a batch into runs: one for each plan, in the order in which plans first appear.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::program::Plan;
use crate::record::Record;
use crate::run::{Convoy, Run};
use crate::snapshot::Snapshot;

/// The runs of one batch, with room that is used again for the next.
pub(crate) struct Groups {
    runs: Vec<Run>,
    /// Where the runs of many plans are, by the address of the plan.
    places: FxHashMap<usize, usize>,
    /// A run takes so many records; then another one begins.
    chunk: usize,
    /// For how many records the first new convoy makes room.
    room: usize,
    /// Convoys that have arrived.
    spare: Vec<Convoy>,
}

/// Up to so many runs are looked through one by one.
const FEW: usize = 8;

/// So many convoys are kept for the room in them, and none that has room for more records than this.
const MAX_SPARE: usize = 8;
const MAX_SPARE_RECORDS: usize = 4096;

impl Groups {
    pub(crate) fn new(chunk: usize) -> Self {
        Self {
            runs: Vec::new(),
            places: FxHashMap::default(),
            chunk,
            room: 0,
            spare: Vec::new(),
        }
    }

    /// For so many records, most of which probably have the plan of the first.
    pub(crate) fn with_room(mut self, records: usize) -> Self {
        self.room = records.min(self.chunk);
        self
    }

    /// Takes in records of this plan, which are neighbours in the caller's batch.
    pub(crate) fn extend(
        &mut self,
        snapshot: &Snapshot,
        plan: &Arc<Plan>,
        mut first: usize,
        mut records: &[Arc<Record>],
    ) {
        while !records.is_empty() {
            let chunk = self.chunk;
            let convoy = &mut self.of(snapshot, plan).convoy;
            let fits = records.len().min(chunk - convoy.records());
            convoy.extend(first, &records[..fits]);
            first += fits;
            records = &records[fits..];
        }
    }

    /// The run for records of this plan.
    #[inline]
    fn of(&mut self, snapshot: &Snapshot, plan: &Arc<Plan>) -> &mut Run {
        // The newest first: neighbours mostly have the same plan.
        let place = match self.runs.last() {
            Some(run) if Arc::ptr_eq(&run.plan, plan) && run.convoy.records() < self.chunk => {
                self.runs.len() - 1
            }
            _ => self.find(snapshot, plan),
        };
        &mut self.runs[place]
    }

    fn find(&mut self, snapshot: &Snapshot, plan: &Arc<Plan>) -> usize {
        let address = Arc::as_ptr(plan) as usize;
        let found = if self.runs.len() <= FEW {
            self.runs
                .iter()
                .rposition(|run| Arc::ptr_eq(&run.plan, plan))
        } else {
            if self.places.is_empty() {
                self.places.extend(
                    self.runs
                        .iter()
                        .enumerate()
                        .map(|(place, run)| (Arc::as_ptr(&run.plan) as usize, place)),
                );
            }
            self.places.get(&address).copied()
        };
        if let Some(place) = found
            && self.runs[place].convoy.records() < self.chunk
        {
            return place;
        }
        let mut convoy = self.spare.pop().unwrap_or_default();
        convoy.reserve(std::mem::take(&mut self.room));
        self.runs.push(Run {
            program: snapshot.program.clone(),
            plan: plan.clone(),
            convoy,
        });
        let place = self.runs.len() - 1;
        if !self.places.is_empty() {
            self.places.insert(address, place);
        }
        place
    }

    /// All runs; then there are none.
    pub(crate) fn take(&mut self) -> Vec<Run> {
        self.places.clear();
        std::mem::take(&mut self.runs)
    }

    /// Keeps an empty list for the room in it.
    pub(crate) fn keep_list(&mut self, runs: Vec<Run>) {
        self.runs = runs;
    }

    /// Keeps a convoy that has arrived for the room in it.
    pub(crate) fn keep(&mut self, mut convoy: Convoy) {
        if self.spare.len() < MAX_SPARE && convoy.capacity() <= MAX_SPARE_RECORDS {
            convoy.clear();
            self.spare.push(convoy);
        }
    }
}
