//! What waits for a lane, what may come in, and in which order results go out.
//!
//! Three questions, one lock, no module called under it:
//!
//! - **What runs next?** A min-heap. A run's key is the time at which it arrived plus an ageing step for each priority of its next stage, so
//!   that of two that arrive together the more urgent one goes first, and one that has waited long enough goes before a more urgent
//!   newcomer.
//! - **What may come in?** Records and bytes in flight are bounded. What does not fit waits in the same order, most urgent first.
//! - **What may go out?** Batches leave in the order in which they were accepted, as far as they share a partition. What waits for
//!   its turn counts as in flight. Outcomes are handed over under a lock of their own ([`Exit`]), which is taken before this one is given back, so that
//!   nobody can see a later one first and nobody who wants to come in waits for those who are woken.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use slab::Slab;
use smallvec::{SmallVec, smallvec};

use crate::job::{Job, Shares};
use crate::run::Run;
use crate::sync::{Mutex, MutexGuard};

/// A topic and one of its partitions.
pub(crate) type Partition = (Arc<str>, u32);

/// The batches of a partition in the order in which they were accepted.
type Line = VecDeque<Arc<Job>>;

/// So many empty lines are kept, and none that has room for more batches than this.
const MAX_SPARE: usize = 64;
const MAX_SPARE_BATCHES: usize = 1024;

/// Among fewer applicants than this nobody looks for those that were given up.
const MIN_SWEEP: usize = 64;

/// A run in the queue.
pub(crate) struct Entry {
    pub(crate) run: Run,
    pub(crate) shares: Shares,
    key: Key,
}

/// When it would be its turn, then the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    due: Duration,
    arrival: u64,
}

/// A run, and those that may join it.
pub(crate) struct Popped {
    entry: Entry,
    more: Vec<Entry>,
}

impl Popped {
    /// Makes one run of all. This needs no lock.
    pub(crate) fn joined(self) -> Entry {
        let Self { mut entry, more } = self;
        for Entry { run, shares, .. } in more {
            let shift = entry.shares.join(shares);
            entry.run.convoy.join(run.convoy, shift);
        }
        entry
    }
}

struct Timed {
    until: Instant,
    entry: Entry,
}

struct Applicant {
    key: Key,
    job: Arc<Job>,
    runs: Vec<Run>,
}

/// The applicants of one partition: how many, and when the last of them would be due.
#[derive(Default)]
struct Applying {
    count: usize,
    latest: Duration,
}

macro_rules! ordered_by {
    ($type:ty, $($key:tt)+) => {
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.$($key)+ == other.$($key)+
            }
        }
        impl Eq for $type {}
        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.$($key)+.cmp(&other.$($key)+)
            }
        }
    };
}
ordered_by!(Timed, until);
ordered_by!(Applicant, key);

/// What the queue allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) ageing: Duration,
}

/// Records that wait, by class: priority 0, 1 and 2, and 3 and above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Records in flight: waiting, running, waiting for a retry or for their turn to leave.
    pub in_flight_records: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Records that wait for a lane, by the class of their next stage: priority 0, 1–2, 3 and above.
    pub waiting: [u64; 3],
    /// Records that wait for a retry.
    pub retrying: u64,
    /// Records that wait to be let in.
    pub applying: u64,
}

/// Where outcomes are handed over, one batch after the other. Whoever hands over, or asks whether somebody does, has the queue's lock when asking for this
/// one; whoever waits for the end of it has not, so that those who are woken may come in.
pub(crate) struct Exit(Mutex<Vec<Arc<Job>>>);

impl Exit {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Whether all that has left so far has been handed over.
    pub(crate) fn is_clear(&self) -> bool {
        self.0.try_lock().is_ok()
    }

    /// Waits until all that has left so far has been handed over.
    pub(crate) fn wait(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

pub(crate) struct Queue {
    bounds: Bounds,
    epoch: Instant,
    /// Places in `entries`: what is sorted stays small.
    ready: BinaryHeap<Reverse<(Key, usize)>>,
    entries: Slab<Entry>,
    timed: BinaryHeap<Reverse<Timed>>,
    applicants: BinaryHeap<Reverse<Applicant>>,
    /// When there are so many of them, those that were given up are looked for.
    sweep_at: usize,
    /// The partitions of applicants.
    applying: HashMap<Partition, Applying, RandomState>,
    lines: HashMap<Partition, Line, RandomState>,
    /// Lines that have become empty, kept for the room in them.
    spare: Vec<Line>,
    /// Batches that may leave, in their order.
    leaving: Vec<Arc<Job>>,
    records: u64,
    bytes: u64,
    arrivals: u64,
    /// Records that were let in so far.
    taken: u64,
    /// Lanes that sleep.
    pub(crate) idle: usize,
    pub(crate) closed: bool,
}

impl Queue {
    pub(crate) fn new(bounds: Bounds, epoch: Instant) -> Self {
        Self {
            bounds,
            epoch,
            ready: BinaryHeap::new(),
            entries: Slab::new(),
            timed: BinaryHeap::new(),
            applicants: BinaryHeap::new(),
            sweep_at: MIN_SWEEP,
            applying: HashMap::default(),
            lines: HashMap::default(),
            spare: Vec::new(),
            leaving: Vec::new(),
            records: 0,
            bytes: 0,
            arrivals: 0,
            taken: 0,
            idle: 0,
            closed: false,
        }
    }

    /// Changes what is allowed. More may come in at once.
    pub(crate) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.admit_applicants();
    }

    fn key(&self, arrived: Instant, priority: u32, arrival: u64) -> Key {
        let step = self.bounds.ageing.saturating_mul(priority);
        Key {
            due: arrived
                .saturating_duration_since(self.epoch)
                .saturating_add(step),
            arrival,
        }
    }

    /// Whether so much fits. Something too large for the bounds comes in when nothing else is there.
    fn fits(&self, job: &Job) -> bool {
        self.records == 0
            || (self.records.saturating_add(job.records) <= self.bounds.records
                && self.bytes.saturating_add(job.bytes) <= self.bounds.bytes)
    }

    /// Takes a batch in, or lets it apply. `wait` false: or refuses it. Answers whether it was refused.
    pub(crate) fn submit(&mut self, job: &Arc<Job>, runs: Vec<Run>, wait: bool) -> bool {
        // Those that were given up stand in nobody's way.
        self.admit_applicants();
        let urgency = runs.iter().map(Run::priority).min().unwrap_or(0);
        let mut key = self.key(job.arrived, urgency, self.arrivals);
        self.arrivals += 1;
        // However urgent it is, it does not overtake what came before it in its partitions.
        for partition in &job.partitions {
            if let Some(applying) = self.applying.get(partition) {
                key.due = key.due.max(applying.latest);
            }
        }
        let first = self
            .applicants
            .peek()
            .is_none_or(|Reverse(applicant)| key < applicant.key);
        if first && self.fits(job) {
            self.accept(job, runs, key.arrival);
        } else if wait {
            self.sweep();
            for partition in &job.partitions {
                let applying = self.applying.entry(partition.clone()).or_default();
                applying.count += 1;
                applying.latest = key.due;
            }
            self.applicants.push(Reverse(Applicant {
                key,
                job: job.clone(),
                runs,
            }));
        } else {
            return true;
        }
        false
    }

    /// Whether results of these partitions may leave at once, because nothing is before them.
    pub(crate) fn is_clear(&self, partitions: &[Partition]) -> bool {
        self.applicants.is_empty()
            && (self.lines.is_empty()
                || partitions.iter().all(|line| !self.lines.contains_key(line)))
    }

    fn accept(&mut self, job: &Arc<Job>, runs: Vec<Run>, arrival: u64) {
        self.taken += job.records;
        self.records += job.records;
        self.bytes += job.bytes;
        for partition in &job.partitions {
            self.lines
                .entry(partition.clone())
                .or_insert_with(|| self.spare.pop().unwrap_or_default())
                .push_back(job.clone());
        }
        if runs.is_empty() {
            // Whoever let it in looks for the next one: to do that here would be a call in a call for each that waits.
            self.leave(job);
        }
        for run in runs {
            let key = self.key(job.arrived, run.priority(), arrival);
            let shares = Shares::of(job.clone());
            self.push(Entry { run, shares, key });
        }
    }

    fn push(&mut self, entry: Entry) {
        let key = entry.key;
        let place = self.entries.insert(entry);
        self.ready.push(Reverse((key, place)));
    }

    fn admit_applicants(&mut self) {
        while let Some(Reverse(applicant)) = self.applicants.peek() {
            let cancelled = applicant.job.is_cancelled();
            if !cancelled && !self.fits(&applicant.job) {
                return;
            }
            let Some(Reverse(applicant)) = self.applicants.pop() else {
                return;
            };
            apply_no_more(&mut self.applying, &applicant.job);
            if !cancelled {
                self.accept(&applicant.job, applicant.runs, applicant.key.arrival);
            }
        }
    }

    /// Forgets applicants that were given up, wherever they stand: behind one that does not fit yet they would pile up, as fast as callers lose their patience.
    /// The number at which that is done doubles with those that stay, so that it costs each of them a look or two.
    fn sweep(&mut self) {
        if self.applicants.len() < self.sweep_at {
            return;
        }
        let applying = &mut self.applying;
        self.applicants.retain(|Reverse(applicant)| {
            let stays = !applicant.job.is_cancelled();
            if !stays {
                apply_no_more(applying, &applicant.job);
            }
            stays
        });
        self.sweep_at = (self.applicants.len() * 2).max(MIN_SWEEP);
    }

    /// Takes in records that leave at once, because nothing selects them and nothing is before them.
    pub(crate) fn pass(&mut self, records: usize) {
        self.taken += records as u64;
    }

    /// Records that were let in so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The most urgent run, once the retries that are due have joined; and with it those that are next and may join it, as long as these are no more
    /// than so many records.
    pub(crate) fn pop(&mut self, now: Instant, most: usize) -> Option<Popped> {
        while self
            .timed
            .peek()
            .is_some_and(|Reverse(timed)| timed.until <= now)
        {
            if let Some(Reverse(timed)) = self.timed.pop() {
                self.push(timed.entry);
            }
        }
        let Reverse((_, place)) = self.ready.pop()?;
        let entry = self.entries.remove(place);
        let mut records = entry.run.convoy.records();
        let mut more = Vec::new();
        while let Some(&Reverse((_, place))) = self.ready.peek() {
            let next = &self.entries[place].run;
            records += next.convoy.records();
            if records > most || !entry.run.may_join(next) {
                break;
            }
            self.ready.pop();
            more.push(self.entries.remove(place));
        }
        Some(Popped { entry, more })
    }

    /// Runs that wait for a lane.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The key of the most urgent run.
    pub(crate) fn most_urgent(&self) -> Option<Key> {
        self.ready.peek().map(|Reverse((key, _))| *key)
    }

    /// The key that a run of this entry has before a stage of this priority.
    pub(crate) fn key_of(&self, job: &Job, before: Key, priority: u32) -> Key {
        self.key(job.arrived, priority, before.arrival)
    }

    /// Puts a run back that yielded.
    pub(crate) fn put_back(&mut self, run: Run, shares: Shares, before: Key) {
        let key = self.key(shares.first().arrived, run.priority(), before.arrival);
        self.push(Entry { run, shares, key });
    }

    /// Keeps a run until its retry is due.
    pub(crate) fn put_off(&mut self, run: Run, shares: Shares, before: Key, until: Instant) {
        let key = self.key(shares.first().arrived, run.priority(), before.arrival);
        let entry = Entry { run, shares, key };
        self.timed.push(Reverse(Timed { until, entry }));
    }

    /// When the next retry is due.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.timed.peek().map(|Reverse(timed)| timed.until)
    }

    /// Batches have all their outcomes: each leaves as soon as nothing of its partitions is before it, and others may come in.
    pub(crate) fn completed(&mut self, jobs: &[Arc<Job>]) {
        jobs.iter().for_each(|job| self.leave(job));
        self.admit_applicants();
    }

    /// Lets a batch go if it may, and with it what it held up.
    fn leave(&mut self, job: &Arc<Job>) {
        let mut candidates: SmallVec<[Arc<Job>; 4]> = smallvec![job.clone()];
        while let Some(job) = candidates.pop() {
            let at_front = |partition: &Partition| {
                self.lines
                    .get(partition)
                    .and_then(VecDeque::front)
                    .is_some_and(|front| Arc::ptr_eq(front, &job))
            };
            if !job.is_complete() || !job.partitions.iter().all(at_front) {
                continue;
            }
            for partition in &job.partitions {
                let Some(line) = self.lines.get_mut(partition) else {
                    continue;
                };
                line.pop_front();
                match line.front() {
                    // A batch of many partitions is next in many of them.
                    Some(next)
                        if candidates
                            .last()
                            .is_some_and(|last| Arc::ptr_eq(last, next)) => {}
                    Some(next) => candidates.push(next.clone()),
                    None => {
                        let line = self.lines.remove(partition);
                        if self.spare.len() < MAX_SPARE {
                            self.spare
                                .extend(line.filter(|line| line.capacity() <= MAX_SPARE_BATCHES));
                        }
                    }
                }
            }
            self.records -= job.records;
            self.bytes -= job.bytes;
            self.leaving.push(job);
        }
    }

    /// Gives the lock back and hands over what may leave.
    pub(crate) fn let_go(mut queue: MutexGuard<'_, Self>, exit: &Exit) {
        if queue.leaving.is_empty() {
            return;
        }
        let mut leaving = exit.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *leaving, &mut queue.leaving);
        drop(queue);
        leaving.drain(..).for_each(|job| job.deliver());
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Refuses whatever has not been let in.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.applicants.clear();
        self.applying.clear();
    }

    pub(crate) fn stats(&self) -> QueueStats {
        let mut stats = QueueStats {
            in_flight_records: self.records,
            in_flight_bytes: self.bytes,
            retrying: self
                .timed
                .iter()
                .map(|Reverse(timed)| timed.entry.run.convoy.records() as u64)
                .sum(),
            applying: self
                .applicants
                .iter()
                .map(|Reverse(applicant)| applicant.job.records)
                .sum(),
            ..QueueStats::default()
        };
        for (_, entry) in &self.entries {
            stats.waiting[class(entry.run.priority())] += entry.run.convoy.records() as u64;
        }
        stats
    }
}

/// A batch is no longer among the applicants of its partitions.
fn apply_no_more(applying: &mut HashMap<Partition, Applying, RandomState>, job: &Job) {
    for partition in &job.partitions {
        if let Some(present) = applying.get_mut(partition) {
            present.count -= 1;
            if present.count == 0 {
                applying.remove(partition);
            }
        }
    }
}

impl Entry {
    pub(crate) fn key(&self) -> Key {
        self.key
    }
}

/// The class of a priority: 0, 1 to 2, 3 and above.
pub(crate) fn class(priority: u32) -> usize {
    match priority {
        0 => 0,
        1 | 2 => 1,
        _ => 2,
    }
}
