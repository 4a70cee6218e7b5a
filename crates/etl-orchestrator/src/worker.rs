//! The threads of an orchestrator's lanes: take the most urgent run, carry it as far as nothing more urgent waits, and again.
//!
//! Small batches that wait for the same plan are taken together, one call for all of them, as many as a lane gets done in a moment
//! ([`Appetite`]). So a queue that grows makes records cheaper, instead of the lock that is taken for each of them dearer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::core::Core;
use crate::orchestrator::{Shared, Warming};
use crate::queue::{Entry, Queue};
use crate::run::{Advance, Waiting};
use crate::snapshot::Snapshot;
use crate::sync::atomic::Ordering;
use crate::sync::thread::{self, JoinHandle};

/// Whether all of this is run in many orders of its steps.
const INTERLEAVED: bool = cfg!(all(test, feature = "shuttle"));

/// An idle lane looks after its idle instances this often.
const TEND: Duration = Duration::from_secs(1);

pub(crate) fn spawn(shared: Arc<Shared>, lane: usize) -> JoinHandle<()> {
    let thread = thread::Builder::new().name(format!("etl-lane-{lane}"));
    #[allow(
        clippy::expect_used,
        reason = "a process that cannot start a thread cannot start an engine"
    )]
    thread
        .spawn(move || work(&shared, lane))
        .expect("a thread for a lane")
}

fn work(shared: &Arc<Shared>, lane: usize) {
    let mut core = shared.core();
    let mut patience = Patience::default();
    let mut appetite = Appetite::default();
    let mut generation = 0;
    // What was to be seen to beside the queue has been, up to this number.
    let mut seen = None;
    loop {
        let attention = shared.attention.load(Ordering::Acquire);
        if seen != Some(attention) {
            seen = Some(attention);
            // What only former configurations used takes the place of nothing that is in use.
            let present = shared.live.load().program.generation;
            if generation != present {
                generation = present;
                core.context.tend(Instant::now());
            }
            for Warming { snapshot, done } in take_warming(shared, lane) {
                let warmed = catch_unwind(AssertUnwindSafe(|| warm(&snapshot, &mut core)));
                if warmed.is_err() {
                    // Records will ask for what is missing; whatever the panic left half done goes.
                    core = shared.core();
                }
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
            if lane >= shared.lanes.load(Ordering::Relaxed) {
                // Another lane takes what it may have been woken for.
                shared.work.notify_one();
                return;
            }
            core.context.give_way();
        }
        let Some(entry) = next(shared, &mut core, &mut patience, &mut appetite, attention) else {
            return;
        };
        if let Some(entry) = entry {
            run(shared, &mut core, entry);
            core.context.give_way();
        }
    }
}

fn take_warming(shared: &Shared, lane: usize) -> Vec<Warming> {
    let mut warming = shared
        .warming
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    warming
        .get_mut(lane)
        .map(std::mem::take)
        .unwrap_or_default()
}

/// The next run; `Some(None)` where there is something else to do, `None` at the end.
#[allow(
    clippy::option_option,
    reason = "go on with this, go on with something else, end"
)]
fn next(
    shared: &Shared,
    core: &mut Core,
    patience: &mut Patience,
    appetite: &mut Appetite,
    seen: u64,
) -> Option<Option<Entry>> {
    let mut queue = shared.queue();
    let mut waited = false;
    let mut looked = shared.clock.is_manual() && !INTERLEAVED;
    loop {
        if shared.attention.load(Ordering::Acquire) != seen {
            if queue.idle > 0 && queue.most_urgent().is_some() {
                shared.work.notify_one();
            }
            return Some(None);
        }
        let now = core.now();
        let share = match queue.idle {
            0 => queue.ready() / shared.lanes.load(Ordering::Relaxed).max(1),
            _ => 1,
        };
        if let Some(popped) = queue.pop(now, appetite.records().min(share)) {
            if queue.idle > 0 && queue.most_urgent().is_some() {
                shared.work.notify_one();
            }
            drop(queue);
            let entry = popped.joined();
            appetite.takes(entry.run.convoy.records(), now, waited);
            return Some(Some(entry));
        }
        if queue.closed && queue.is_empty() {
            return None;
        }
        if !looked {
            looked = true;
            let arrivals = shared.arrivals.load(Ordering::Relaxed);
            drop(queue);
            waited = true;
            shared.looking.fetch_add(1, Ordering::Relaxed);
            patience.wait(now, || {
                shared.arrivals.load(Ordering::Relaxed) != arrivals
                    || shared.attention.load(Ordering::Relaxed) != seen
            });
            shared.looking.fetch_sub(1, Ordering::Relaxed);
            queue = shared.queue();
            continue;
        }
        let wait = queue
            .next_retry()
            .map_or(TEND, |until| until.saturating_duration_since(now).min(TEND));
        // A simulated clock may jump at any time.
        let wait = if shared.clock.is_manual() {
            Duration::from_micros(200)
        } else {
            wait
        };
        waited = true;
        queue.idle += 1;
        let (guard, timeout) = shared
            .work
            .wait_timeout(queue, wait)
            .unwrap_or_else(PoisonError::into_inner);
        queue = guard;
        queue.idle -= 1;
        if timeout.timed_out() {
            drop(queue);
            core.context.tend(Instant::now());
            queue = shared.queue();
        }
    }
}

/// Looks for work for a moment before its lane falls asleep: waking a thread takes longer than most gaps between records that come one by one. Where that was
/// in vain it falls asleep at once the next times, ever more of them.
#[derive(Debug, Default)]
struct Patience {
    in_vain: u32,
    skip: u32,
}

/// Looking for work takes no longer than what waking a thread costs.
const LOOK: Duration = Duration::from_micros(20);

impl Patience {
    fn wait(&mut self, start: Instant, mut come: impl FnMut() -> bool) {
        if INTERLEAVED {
            return thread::yield_now();
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        loop {
            for _ in 0..32 {
                if come() {
                    self.in_vain = 0;
                    return;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= LOOK {
                self.in_vain = (self.in_vain + 1).min(8);
                self.skip = (1 << self.in_vain) - 1;
                return;
            }
        }
    }
}

/// How many records a lane takes together: what it gets done in [`SPELL`], going by the last time. Whoever is more urgent never waits for much more than
/// that because others were joined, and modules that take their time are shared among the lanes.
#[derive(Debug)]
struct Appetite {
    records: usize,
    /// When it took the last, and how many.
    taken: Option<(Instant, usize)>,
}

/// So many records are joined, at most. Larger batches are no cheaper.
const MOST_JOINED: usize = 64;

/// What was joined is to be done within this time.
const SPELL: Duration = Duration::from_micros(100);

impl Default for Appetite {
    fn default() -> Self {
        Self {
            records: 1,
            taken: None,
        }
    }
}

impl Appetite {
    fn records(&self) -> usize {
        self.records
    }

    /// The lane takes so many records now, the last of which it has done if it did not wait for them.
    fn takes(&mut self, records: usize, now: Instant, waited: bool) {
        if let Some((since, before)) = self.taken.replace((now, records))
            && !waited
        {
            let took = now.saturating_duration_since(since);
            self.records = if took > SPELL {
                let fit = SPELL.as_nanos() * before as u128 / took.as_nanos();
                usize::try_from(fit).unwrap_or(1).clamp(1, MOST_JOINED)
            } else {
                (self.records * 2).min(MOST_JOINED)
            };
        }
    }
}

fn run(shared: &Arc<Shared>, core: &mut Core, entry: Entry) {
    let before = entry.key();
    let Entry {
        mut run, shares, ..
    } = entry;
    let mut waiting: Vec<Waiting> = Vec::new();
    let counts = shares.counts(&run.convoy);
    let advanced = catch_unwind(AssertUnwindSafe(|| {
        run.advance(core, &mut waiting, |priority| {
            let queue = shared.queue();
            let key = queue.key_of(shares.first(), before, priority);
            queue.most_urgent().is_some_and(|urgent| urgent < key)
        })
    }));
    let complete = match &advanced {
        Ok(Advance::Done) => shares.gather(&mut run.convoy, core.counters.totals()),
        Ok(Advance::Yielded) => SmallVec::new(),
        Err(_) => {
            // Whatever the panic left half done is thrown away with the lane's instances.
            *core = shared.core();
            waiting.clear();
            shares.give_up(&counts)
        }
    };
    let mut queue = shared.queue();
    if let Ok(Advance::Yielded) = advanced {
        queue.put_back(run, shares.clone(), before);
    }
    let retries = !waiting.is_empty();
    for Waiting { mut run, until, .. } in waiting {
        let share = shares.part(&mut run.convoy);
        queue.put_off(run, share, before, until);
    }
    if !complete.is_empty() {
        queue.completed(&complete);
        shared.tell_if_drained(&queue);
    }
    // A batch that left may have let others in, and a lane that sleeps must learn of an earlier retry.
    let wake = queue.idle > 0 && (retries || queue.most_urgent().is_some());
    Queue::let_go(queue, &shared.exit);
    if wake {
        shared.work.notify_one();
    }
}

/// Makes instances ready for every module of a snapshot.
pub(crate) fn warm(snapshot: &Snapshot, core: &mut Core) {
    for module in snapshot.program.modules() {
        module.transform.warm(&mut core.context);
    }
}
