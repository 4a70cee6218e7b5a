//! A batch on its way, where its outcomes gather; and which records of a run belong to which batch.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;

use crate::outcome::Outcome;
use crate::queue::Partition;
use crate::run::Convoy;
use crate::stats::TotalCounters;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// A batch on its way: where its outcomes gather.
pub(crate) struct Job {
    gathered: Mutex<Gathered>,
    pub(crate) partitions: SmallVec<[Partition; 1]>,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) arrived: Instant,
    /// Whoever wanted the outcomes is gone.
    cancelled: AtomicBool,
}

struct Gathered {
    /// One for each record, once there is any.
    outcomes: Vec<Outcome>,
    missing: usize,
    /// A lane broke while it had some of the records.
    broken: bool,
    sender: Option<oneshot::Sender<Vec<Outcome>>>,
}

impl Job {
    /// A batch of so many `records`. `outcomes` are none, or one for each, of which those that are `missing` are yet to come.
    pub(crate) fn new(
        records: usize,
        outcomes: Vec<Outcome>,
        missing: usize,
        partitions: SmallVec<[Partition; 1]>,
        bytes: u64,
        arrived: Instant,
        sender: oneshot::Sender<Vec<Outcome>>,
    ) -> Self {
        let gathered = Gathered {
            outcomes,
            missing,
            broken: false,
            sender: Some(sender),
        };
        Self {
            gathered: Mutex::new(gathered),
            partitions,
            records: records as u64,
            bytes,
            arrived,
            cancelled: AtomicBool::new(false),
        }
    }

    /// Takes in the outcomes of a convoy. Answers whether they are complete now.
    pub(crate) fn gather(&self, convoy: &mut Convoy, totals: &TotalCounters) -> bool {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let Gathered {
            outcomes, missing, ..
        } = &mut *gathered;
        if outcomes.is_empty()
            && convoy.records() as u64 == self.records
            && let Some(all) = convoy.forwarded(totals)
        {
            // In their order: a convoy that nothing has set apart stands as it was given.
            outcomes.extend(all);
            *missing = 0;
            return true;
        }
        drop(gathered);
        self.take_in(convoy.outcomes(totals))
    }

    /// Takes in outcomes, each with its place. Answers whether nothing is missing any more; without any it answers no.
    fn take_in(&self, taken: impl Iterator<Item = (usize, Outcome)>) -> bool {
        let mut taken = taken.peekable();
        if taken.peek().is_none() {
            return false;
        }
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let Gathered {
            outcomes, missing, ..
        } = &mut *gathered;
        outcomes.reserve_exact((self.records as usize).saturating_sub(outcomes.len()));
        outcomes.resize_with(self.records as usize, Outcome::default);
        for (place, outcome) in taken {
            outcomes[place] = outcome;
            *missing -= 1;
        }
        *missing == 0
    }

    /// Gives up on some of its records. Answers whether nothing is missing any more.
    pub(crate) fn give_up(&self, records: usize) -> bool {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.broken = true;
        gathered.missing -= records;
        gathered.missing == 0
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.gathered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .missing
            == 0
    }

    /// Hands the outcomes over; whoever waits for a broken batch learns that its sender is gone.
    pub(crate) fn deliver(&self) {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let outcomes = std::mem::take(&mut gathered.outcomes);
        if let Some(sender) = gathered.sender.take()
            && !gathered.broken
        {
            // Nobody may be waiting any more, which is fine.
            let _ = sender.send(outcomes);
        }
    }

    /// Whether a lane broke while it had some of the records.
    pub(crate) fn is_broken(&self) -> bool {
        self.gathered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .broken
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// The records of a run that belong to one batch.
#[derive(Clone)]
pub(crate) struct Share {
    pub(crate) job: Arc<Job>,
    /// What the run adds to the places that they have in their batch. Those of the next share begin above all of this one's.
    base: usize,
}

/// Whose records a run carries, in the order in which it has them: those of one batch, or of several that were joined.
#[derive(Clone)]
pub(crate) struct Shares(SmallVec<[Share; 1]>);

impl Shares {
    pub(crate) fn of(job: Arc<Job>) -> Self {
        Self(smallvec![Share { job, base: 0 }])
    }

    /// The batch whose turn it is.
    pub(crate) fn first(&self) -> &Arc<Job> {
        &self.0[0].job
    }

    /// Takes in those of another run. Answers what that one's places become: so much is added to each.
    pub(crate) fn join(&mut self, others: Self) -> usize {
        let end = self
            .0
            .last()
            .map_or(0, |last| last.base + last.job.records as usize);
        self.0
            .extend(others.0.into_iter().map(|Share { job, base }| Share {
                job,
                base: end + base,
            }));
        end
    }

    /// The share to which the record at this place of the run belongs.
    fn at(&self, place: usize) -> &Share {
        let next = self.0.partition_point(|share| share.base <= place);
        &self.0[next.saturating_sub(1)]
    }

    /// Cuts a run of one record loose: its batch, and its place there.
    pub(crate) fn part(&self, run: &mut Convoy) -> Self {
        let Share { job, base } = self.at(run.first_input().unwrap_or_default());
        run.shift_back(*base);
        Self::of(job.clone())
    }

    /// How many records each batch has in a run.
    pub(crate) fn counts(&self, run: &Convoy) -> SmallVec<[usize; 1]> {
        let [_] = &self.0[..] else {
            let mut counts = smallvec![0; self.0.len()];
            for place in run.inputs() {
                let next = self.0.partition_point(|share| share.base <= place);
                counts[next.saturating_sub(1)] += 1;
            }
            return counts;
        };
        smallvec![run.records()]
    }

    /// Hands the outcomes of a run to their batches. Answers those that are complete now.
    pub(crate) fn gather(
        &self,
        convoy: &mut Convoy,
        totals: &TotalCounters,
    ) -> SmallVec<[Arc<Job>; 1]> {
        if let [Share { job, .. }] = &self.0[..] {
            let complete = job.gather(convoy, totals);
            return complete.then(|| job.clone()).into_iter().collect();
        }
        let mut outcomes = convoy.outcomes(totals).peekable();
        let mut complete = SmallVec::new();
        for (index, Share { job, base }) in self.0.iter().enumerate() {
            let end = self.0.get(index + 1).map_or(usize::MAX, |next| next.base);
            let own = std::iter::from_fn(|| outcomes.next_if(|(place, _)| *place < end));
            if job.take_in(own.map(|(place, outcome)| (place - base, outcome))) {
                complete.push(job.clone());
            }
        }
        complete
    }

    /// Gives up on records, so many of each batch. Answers the batches of which nothing is missing any more.
    pub(crate) fn give_up(&self, counts: &[usize]) -> SmallVec<[Arc<Job>; 1]> {
        let shares = self.0.iter().zip(counts).filter(|(_, count)| **count > 0);
        shares
            .filter(|(share, count)| share.job.give_up(**count))
            .map(|(share, _)| share.job.clone())
            .collect()
    }
}
