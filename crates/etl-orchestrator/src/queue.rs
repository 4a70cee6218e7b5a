//! What waits for a lane, what may come in, and in which order results go out.
//!
//! Three questions, one lock, no module called under it:
//!
//! - **What runs next?** A min-heap. A run's key is the time at which it arrived plus an ageing step for each priority of its next stage, so
//!   that of two that arrive together the more urgent one goes first, and one that has waited long enough goes before a more urgent
//!   newcomer.
//! - **What may come in?** Records and bytes in flight are bounded. What does not fit waits in the same order, most urgent first.
//! - **What may go out?** Batches leave in the order in which they were accepted, as far as they share a partition. What waits for
//!   its turn counts as in flight. Outcomes are handed over under the lock, so that nobody can see a later one first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;

use crate::outcome::Outcome;
use crate::run::{Convoy, Run};
use crate::stats::TotalCounters;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// A topic and one of its partitions.
pub(crate) type Partition = (Arc<str>, u32);

/// The batches of a partition in the order in which they were accepted.
type Line = VecDeque<Arc<Job>>;

/// So many empty lines are kept, and none that has room for more batches than this.
const MAX_SPARE: usize = 64;
const MAX_SPARE_BATCHES: usize = 1024;

/// A batch on its way: where its outcomes gather.
pub(crate) struct Job {
    gathered: Mutex<Gathered>,
    partitions: SmallVec<[Partition; 1]>,
    records: u64,
    bytes: u64,
    arrived: Instant,
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
        outcomes.resize_with(self.records as usize, Outcome::default);
        for (place, outcome) in convoy.outcomes(totals) {
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

    fn is_complete(&self) -> bool {
        self.gathered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .missing
            == 0
    }

    /// Hands the outcomes over; whoever waits for a broken batch learns that its sender is gone.
    fn deliver(&self) {
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
}

/// A run in the queue.
pub(crate) struct Entry {
    pub(crate) run: Run,
    pub(crate) job: Arc<Job>,
    key: Key,
}

/// When it would be its turn, then the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    due: Duration,
    arrival: u64,
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
ordered_by!(Entry, key);
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

pub(crate) struct Queue {
    bounds: Bounds,
    epoch: Instant,
    ready: BinaryHeap<Reverse<Entry>>,
    timed: BinaryHeap<Reverse<Timed>>,
    applicants: BinaryHeap<Reverse<Applicant>>,
    /// The partitions of applicants.
    applying: HashMap<Partition, Applying, RandomState>,
    lines: HashMap<Partition, Line, RandomState>,
    /// Lines that have become empty, kept for the room in them.
    spare: Vec<Line>,
    records: u64,
    bytes: u64,
    arrivals: u64,
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
            timed: BinaryHeap::new(),
            applicants: BinaryHeap::new(),
            applying: HashMap::default(),
            lines: HashMap::default(),
            spare: Vec::new(),
            records: 0,
            bytes: 0,
            arrivals: 0,
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
            self.ready.push(Reverse(Entry {
                run,
                job: job.clone(),
                key,
            }));
        }
    }

    fn admit_applicants(&mut self) {
        while let Some(Reverse(applicant)) = self.applicants.peek() {
            let cancelled = applicant.job.cancelled.load(Ordering::Relaxed);
            if !cancelled && !self.fits(&applicant.job) {
                return;
            }
            let Some(Reverse(applicant)) = self.applicants.pop() else {
                return;
            };
            for partition in &applicant.job.partitions {
                if let Some(applying) = self.applying.get_mut(partition) {
                    applying.count -= 1;
                    if applying.count == 0 {
                        self.applying.remove(partition);
                    }
                }
            }
            if !cancelled {
                self.accept(&applicant.job, applicant.runs, applicant.key.arrival);
            }
        }
    }

    /// The most urgent run, once the retries that are due have joined.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Entry> {
        while self
            .timed
            .peek()
            .is_some_and(|Reverse(timed)| timed.until <= now)
        {
            if let Some(Reverse(timed)) = self.timed.pop() {
                self.ready.push(Reverse(timed.entry));
            }
        }
        self.ready.pop().map(|Reverse(entry)| entry)
    }

    /// Runs that wait for a lane.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The key of the most urgent run.
    pub(crate) fn most_urgent(&self) -> Option<Key> {
        self.ready.peek().map(|Reverse(entry)| entry.key)
    }

    /// The key that a run of this entry has before a stage of this priority.
    pub(crate) fn key_of(&self, job: &Job, before: Key, priority: u32) -> Key {
        self.key(job.arrived, priority, before.arrival)
    }

    /// Puts a run back that yielded.
    pub(crate) fn put_back(&mut self, run: Run, job: Arc<Job>, before: Key) {
        let key = self.key(job.arrived, run.priority(), before.arrival);
        self.ready.push(Reverse(Entry { run, job, key }));
    }

    /// Keeps a run until its retry is due.
    pub(crate) fn put_off(&mut self, run: Run, job: Arc<Job>, before: Key, until: Instant) {
        let key = self.key(job.arrived, run.priority(), before.arrival);
        self.timed.push(Reverse(Timed {
            until,
            entry: Entry { run, job, key },
        }));
    }

    /// When the next retry is due.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.timed.peek().map(|Reverse(timed)| timed.until)
    }

    /// A batch has all its outcomes: it leaves as soon as nothing of its partitions is before it, and others may come in.
    pub(crate) fn completed(&mut self, job: &Arc<Job>) {
        self.leave(job);
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
            job.deliver();
        }
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
        for Reverse(entry) in &self.ready {
            stats.waiting[class(entry.run.priority())] += entry.run.convoy.records() as u64;
        }
        stats
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
