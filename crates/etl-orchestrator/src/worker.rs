//! The threads of an orchestrator's lanes: take the most urgent run, carry it as far as nothing more urgent waits, and again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::core::Core;
use crate::orchestrator::{Shared, Warming};
use crate::queue::Entry;
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
        let Some(entry) = next(shared, &mut core, &mut patience, attention) else {
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
    seen: u64,
) -> Option<Option<Entry>> {
    let mut queue = shared.queue();
    let mut looked = shared.clock.is_manual() && !INTERLEAVED;
    loop {
        if shared.attention.load(Ordering::Acquire) != seen {
            return Some(None);
        }
        let now = core.now();
        if let Some(entry) = queue.pop(now) {
            if queue.idle > 0 && queue.most_urgent().is_some() {
                shared.work.notify_one();
            }
            return Some(Some(entry));
        }
        if queue.closed && queue.is_empty() {
            return None;
        }
        if !looked {
            looked = true;
            let arrivals = shared.arrivals.load(Ordering::Relaxed);
            drop(queue);
            patience.wait(now, || {
                shared.arrivals.load(Ordering::Relaxed) != arrivals
                    || shared.attention.load(Ordering::Relaxed) != seen
            });
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
        queue.idle += 1;
        let (guard, timeout) = shared
            .work
            .wait_timeout(queue, wait)
            .unwrap_or_else(PoisonError::into_inner);
        queue = guard;
        queue.idle -= 1;
        if timeout.timed_out() && wait == TEND {
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

fn run(shared: &Arc<Shared>, core: &mut Core, entry: Entry) {
    let before = entry.key();
    let Entry { mut run, job, .. } = entry;
    let mut waiting: Vec<Waiting> = Vec::new();
    let records = run.convoy.records();
    let advanced = catch_unwind(AssertUnwindSafe(|| {
        run.advance(core, &mut waiting, |priority| {
            let queue = shared.queue();
            let key = queue.key_of(&job, before, priority);
            queue.most_urgent().is_some_and(|urgent| urgent < key)
        })
    }));
    let complete = match &advanced {
        Ok(Advance::Done) => job.gather(&mut run.convoy, core.counters.totals()),
        Ok(Advance::Yielded) => false,
        Err(_) => {
            // Whatever the panic left half done is thrown away with the lane's instances.
            *core = shared.core();
            waiting.clear();
            job.give_up(records)
        }
    };
    let mut queue = shared.queue();
    if let Ok(Advance::Yielded) = advanced {
        queue.put_back(run, job.clone(), before);
    }
    let retries = !waiting.is_empty();
    for Waiting { run, until } in waiting {
        queue.put_off(run, job.clone(), before, until);
    }
    if complete {
        queue.completed(&job);
        shared.tell_if_drained(&queue);
    }
    // A batch that left may have let others in, and a lane that sleeps must learn of an earlier retry.
    let wake = queue.idle > 0 && (retries || queue.most_urgent().is_some());
    drop(queue);
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
