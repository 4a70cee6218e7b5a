//! A new version of a module on trial: it takes a part of the records, or is shown them and compared.
//!
//! A [`Split`] stands in the place of the module and calls one version or the other. Which records are the new version's depends on the
//! record alone (where it came from, its key and its time), so that a retry, another use of the module, or the record coming again meets
//! the same version. A [`Trial`] counts how both do; the new version that fails too much more often than the present one is rolled
//! back, by a swap like any other change, so that no record is handled by both.
//!
//! A shadow is called on a thread of its own, with copies that share the records' bytes, after the present version has answered: its
//! answers are compared and thrown away, and neither its failures nor its time touch a record. Where it is too slow it misses records,
//! which is counted.

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use etl_config::{Canary, CanaryMode};
use rustc_hash::FxHasher;
use smallvec::SmallVec;

use crate::failure::{FailureKind, TransformError};
use crate::instances::Instances;
use crate::lane::LaneContext;
use crate::orchestrator::Orchestrator;
use crate::transform::{Reply, Transform};
use crate::view::View;

/// The thread that calls shadows looks this often whether it holds an instance too many.
const GLANCE: Duration = Duration::from_millis(50);

/// Batches that wait for a shadow, at most; it misses the others.
const SHADOW_BACKLOG: u64 = 64;

/// What is known of a new version that is or was on trial.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CanaryStatus {
    /// The module.
    pub module: Arc<str>,
    /// The digest of the present version in hexadecimal.
    pub stable_sha256: Option<Arc<str>>,
    /// The digest of the new version in hexadecimal.
    pub canary_sha256: Option<Arc<str>>,
    /// Whether what the new version answers counts.
    pub mode: CanaryMode,
    /// The part of the records that it sees, in hundredths.
    pub percent: u32,
    /// Whether it is on trial; otherwise it was rolled back.
    pub running: bool,
    /// Records that the present version handled, and those among them that failed.
    pub stable: Handled,
    /// Records that the new version handled, and those among them that failed.
    pub canary: Handled,
    /// Of a shadow: records for which it answered something else.
    pub different: u64,
    /// Of a shadow: records that it was too slow to be shown.
    pub skipped: u64,
}

/// How often a version was called for a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handled {
    /// Records.
    pub records: u64,
    /// Those that failed.
    pub failed: u64,
}

impl Handled {
    /// The part that failed.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
    pub fn error_rate(&self) -> f64 {
        self.failed as f64 / self.records.max(1) as f64
    }
}

#[derive(Debug, Default)]
struct Tally {
    records: AtomicU64,
    failed: AtomicU64,
}

impl Tally {
    fn add(&self, handled: Handled) {
        self.records.fetch_add(handled.records, Ordering::Relaxed);
        self.failed.fetch_add(handled.failed, Ordering::Relaxed);
    }

    fn read(&self) -> Handled {
        Handled {
            records: self.records.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// What makes two trials the same: the versions and the settings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terms {
    pub(crate) module: Arc<str>,
    pub(crate) stable_sha256: Option<Arc<str>>,
    pub(crate) canary_sha256: Option<Arc<str>>,
    mode: CanaryMode,
    percent: u32,
    max_error_increase: f64,
    min_samples: u32,
}

impl Terms {
    pub(crate) fn new(
        module: &str,
        canary: &Canary,
        stable_sha256: Option<Arc<str>>,
        canary_sha256: Option<Arc<str>>,
    ) -> Self {
        Self {
            module: module.into(),
            stable_sha256,
            canary_sha256,
            mode: canary.mode,
            percent: canary.percent,
            max_error_increase: canary.max_error_increase,
            min_samples: canary.min_samples,
        }
    }
}

/// How a new version and the present one do, over all uses of the module and all lanes.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) terms: Terms,
    stable: Tally,
    canary: Tally,
    different: AtomicU64,
    skipped: AtomicU64,
    /// Batches that wait for the shadow.
    backlog: AtomicU64,
    /// It has been judged, and is about to be rolled back.
    condemned: AtomicBool,
}

impl Trial {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            terms,
            stable: Tally::default(),
            canary: Tally::default(),
            different: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
            condemned: AtomicBool::new(false),
        }
    }

    pub(crate) fn status(&self, running: bool) -> CanaryStatus {
        let terms = &self.terms;
        CanaryStatus {
            module: terms.module.clone(),
            stable_sha256: terms.stable_sha256.clone(),
            canary_sha256: terms.canary_sha256.clone(),
            mode: terms.mode,
            percent: terms.percent,
            running,
            stable: self.stable.read(),
            canary: self.canary.read(),
            different: self.different.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
        }
    }

    /// Whether a record is the new version's.
    fn is_chosen(&self, view: &View) -> bool {
        let record = view.original();
        let mut hasher = FxHasher::default();
        (record.partition, record.offset, record.timestamp).hash(&mut hasher);
        record.key.hash(&mut hasher);
        // Its low bits depend on the low bits of what went in; this spreads them.
        let spread =
            (hasher.finish() ^ (hasher.finish() >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (spread >> 32) * 100 < u64::from(self.terms.percent) << 32
    }

    /// Counts what the new version did, and asks for its end where it does too badly.
    fn judge(&self, handled: Handled, minder: &Minder) {
        self.canary.add(handled);
        if handled.failed == 0 {
            return;
        }
        let (canary, stable) = (self.canary.read(), self.stable.read());
        let bad = canary.records >= u64::from(self.terms.min_samples)
            && canary.error_rate() > stable.error_rate() + self.terms.max_error_increase;
        if bad && !self.condemned.swap(true, Ordering::Relaxed) {
            minder.send(Task::RollBack(self.terms.clone()));
        }
    }
}

/// A use of a module of which a new version is on trial.
#[derive(Clone)]
pub(crate) struct OnTrial {
    pub(crate) trial: Arc<Trial>,
    pub(crate) stable: Arc<dyn Transform>,
    pub(crate) canary: Arc<dyn Transform>,
}

/// What a plan calls while a new version is on trial.
pub(crate) struct Split {
    versions: OnTrial,
    minder: Minder,
}

impl Split {
    pub(crate) fn new(versions: OnTrial, minder: Minder) -> Self {
        Self { versions, minder }
    }
}

type Places = SmallVec<[usize; 64]>;

impl Transform for Split {
    fn call(
        &self,
        lane: &mut LaneContext,
        records: &[&View],
        deadline: Instant,
        replies: &mut Vec<Reply>,
    ) {
        let OnTrial {
            trial,
            stable,
            canary,
        } = &self.versions;
        let is_shadow = trial.terms.mode == CanaryMode::Shadow;
        let (chosen, others): (Places, Places) =
            (0..records.len()).partition(|&index| trial.is_chosen(records[index]));
        let alone = records.len() == 1;
        // A record that is only explained is handled like any other, and counts neither for nor against a version.
        let counts = !lane.explains();
        if is_shadow || chosen.is_empty() {
            let started = Instant::now();
            stable.call(lane, records, deadline, replies);
            if !counts {
                return;
            }
            trial.stable.add(handled(records.len(), replies, alone));
            if is_shadow && !chosen.is_empty() && replies.len() <= records.len() {
                let time = deadline.saturating_duration_since(started);
                self.show(records, &chosen, time, replies);
            }
        } else if others.is_empty() {
            canary.call(lane, records, deadline, replies);
            if counts {
                trial.judge(handled(records.len(), replies, alone), &self.minder);
            }
        } else {
            let mut share = |transform: &Arc<dyn Transform>, places: &Places| {
                let views: SmallVec<[&View; 64]> =
                    places.iter().map(|&place| records[place]).collect();
                let mut replies = Vec::with_capacity(views.len());
                transform.call(lane, &views, deadline, &mut replies);
                // Each is given what the other has left of the time, so that to run out of it says nothing, were it for one record.
                let handled = handled(views.len(), &replies, false);
                (whole(replies, views.len()), handled)
            };
            let (theirs, stable_handled) = share(stable, &others);
            let (ours, canary_handled) = share(canary, &chosen);
            if counts {
                trial.stable.add(stable_handled);
                trial.judge(canary_handled, &self.minder);
            }
            let (mut theirs, mut ours) = (theirs.into_iter(), ours.into_iter());
            let mut next_of_ours = chosen.iter().peekable();
            replies.extend((0..records.len()).filter_map(|index| {
                if next_of_ours.next_if(|place| **place == index).is_some() {
                    ours.next()
                } else {
                    theirs.next()
                }
            }));
        }
    }

    fn warm(&self, lane: &mut LaneContext) {
        self.versions.stable.warm(lane);
        if self.versions.trial.terms.mode == CanaryMode::Canary {
            self.versions.canary.warm(lane);
        }
    }

    fn joins_batches(&self) -> bool {
        self.versions.stable.joins_batches() && self.versions.canary.joins_batches()
    }

    fn instances(&self) -> Vec<Instances> {
        let mut instances = self.versions.stable.instances();
        instances.extend(self.versions.canary.instances());
        instances
    }

    fn sha256_for(&self, record: &View) -> Option<Arc<str>> {
        let trial = &self.versions.trial;
        let is_canary = trial.terms.mode == CanaryMode::Canary && trial.is_chosen(record);
        is_canary.then(|| trial.terms.canary_sha256.clone())?
    }
}

impl Split {
    /// Lets the shadow see records, and what the present version answered.
    fn show(&self, records: &[&View], chosen: &Places, time: Duration, replies: &[Reply]) {
        let trial = &self.versions.trial;
        if trial.backlog.fetch_add(1, Ordering::Relaxed) >= SHADOW_BACKLOG {
            trial.backlog.fetch_sub(1, Ordering::Relaxed);
            trial
                .skipped
                .fetch_add(chosen.len() as u64, Ordering::Relaxed);
            return;
        }
        let shown = chosen
            .iter()
            .map(|&place| {
                let reply = replies.get(place).cloned().unwrap_or(Reply::Keep);
                (records[place].clone(), reply)
            })
            .collect();
        self.minder.send(Task::Shadow {
            versions: self.versions.clone(),
            shown,
            time,
        });
    }
}

/// An answer for each record, where none at all keeps every one.
fn whole(mut replies: Vec<Reply>, records: usize) -> Vec<Reply> {
    if replies.is_empty() {
        replies.resize_with(records, || Reply::Keep);
    }
    if replies.len() != records {
        let error = TransformError::new(
            FailureKind::InvalidOutput,
            "the module answered for another number of records",
        );
        replies.clear();
        replies.resize_with(records, || Reply::Fail(error.clone()));
    }
    replies
}

/// What replies say of the version. Of a call that ran out of time they say nothing yet unless it was for one record `alone`: those of a batch are called
/// again. No place in the pool is nobody's fault.
fn handled(records: usize, replies: &[Reply], alone: bool) -> Handled {
    let mut handled = Handled {
        records: records as u64,
        failed: 0,
    };
    for reply in replies {
        if let Reply::Fail(error) = reply {
            match error.kind() {
                FailureKind::Timeout if !alone => handled.records -= 1,
                FailureKind::PoolExhausted => handled.records -= 1,
                _ => handled.failed += 1,
            }
        }
    }
    handled
}

/// What is done beside the records.
enum Task {
    Shadow {
        versions: OnTrial,
        shown: Vec<(View, Reply)>,
        time: Duration,
    },
    RollBack(Terms),
}

/// The thread that calls shadows and ends trials; started when the first trial begins, and ended when nobody needs it any more.
#[derive(Clone)]
pub(crate) struct Minder {
    sender: Sender<Task>,
}

/// Where the orchestrator is found once it is there.
pub(crate) type Home = Arc<OnceLock<Weak<Orchestrator>>>;

impl Minder {
    pub(crate) fn start(home: Home) -> Self {
        let (sender, tasks) = channel();
        #[allow(
            clippy::expect_used,
            reason = "a process that cannot start a thread cannot start an engine"
        )]
        std::thread::Builder::new()
            .name("etl-canary".to_owned())
            .spawn(move || mind(&tasks, &home))
            .expect("a thread for new versions on trial");
        Self { sender }
    }

    fn send(&self, task: Task) {
        // The thread is gone only if it broke, and then there is no trial any more.
        let _ = self.sender.send(task);
    }
}

fn mind(tasks: &Receiver<Task>, home: &Home) {
    let mut lane = LaneContext::default();
    loop {
        let task = match tasks.recv_timeout(GLANCE) {
            Ok(task) => task,
            // It keeps no instance that nobody needs, nor one whose place somebody waits for.
            Err(RecvTimeoutError::Timeout) => {
                lane.tend(Instant::now());
                lane.give_way();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match task {
            Task::Shadow {
                versions,
                shown,
                time,
            } => {
                compare(&mut lane, &versions, &shown, time);
                versions.trial.backlog.fetch_sub(1, Ordering::Relaxed);
                if versions.trial.condemned.load(Ordering::Relaxed) {
                    roll_back(home, &versions.trial.terms);
                }
            }
            Task::RollBack(terms) => roll_back(home, &terms),
        }
    }
}

fn roll_back(home: &Home, terms: &Terms) {
    if let Some(orchestrator) = home.get().and_then(Weak::upgrade) {
        orchestrator.end_bad_trial(terms);
    }
}

/// Calls a shadow, each record by itself so that one cannot cost another its comparison, and compares.
fn compare(lane: &mut LaneContext, versions: &OnTrial, shown: &[(View, Reply)], time: Duration) {
    let trial = &versions.trial;
    for (view, expected) in shown {
        let mut replies = Vec::with_capacity(1);
        let called = catch_unwind(AssertUnwindSafe(|| {
            let deadline = Instant::now() + time;
            versions.canary.call(lane, &[view], deadline, &mut replies);
        }));
        if called.is_err() {
            // Whatever the panic left half done is thrown away; the version has failed for this record, and the others have their turn.
            *lane = LaneContext::default();
            let error = TransformError::new(FailureKind::Trap, "the module panicked");
            replies = vec![Reply::Fail(error)];
        }
        let counted = handled(1, &replies, true);
        let answer = whole(replies, 1).pop().unwrap_or(Reply::Keep);
        if !same(expected, &answer) {
            trial.different.fetch_add(1, Ordering::Relaxed);
        }
        trial.canary.add(counted);
        let (canary, stable) = (trial.canary.read(), trial.stable.read());
        if canary.records >= u64::from(trial.terms.min_samples)
            && canary.error_rate() > stable.error_rate() + trial.terms.max_error_increase
        {
            trial.condemned.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether two versions did the same: failures of one kind are the same, whatever they say.
fn same(left: &Reply, right: &Reply) -> bool {
    match (left, right) {
        (Reply::Fail(left), Reply::Fail(right)) => left.kind() == right.kind(),
        _ => left == right,
    }
}

/// The trials of a configuration, and those that were ended.
#[derive(Default)]
pub(crate) struct Trials {
    present: Vec<Arc<Trial>>,
    /// Those of the configuration that is being built.
    attempt: Vec<Arc<Trial>>,
    /// Versions that were rolled back, the last ones.
    ended: Vec<Arc<Trial>>,
}

/// Trials that ended and are still remembered.
const ENDED: usize = 64;

impl Trials {
    pub(crate) fn begin(&mut self) {
        self.attempt.clear();
    }

    pub(crate) fn keep(&mut self) {
        self.present = std::mem::take(&mut self.attempt);
    }

    /// The trial on these terms, as it stands or a new one; `None` where this version was rolled back.
    pub(crate) fn on(&mut self, terms: Terms) -> Option<Arc<Trial>> {
        let was_ended = self.ended.iter().any(|trial| {
            trial.terms.module == terms.module
                && trial.terms.canary_sha256 == terms.canary_sha256
                && terms.canary_sha256.is_some()
        });
        if was_ended {
            tracing::warn!(module = %terms.module, "a new version that was rolled back is not tried again");
            return None;
        }
        let known = self
            .attempt
            .iter()
            .chain(&self.present)
            .find(|trial| trial.terms == terms && !trial.condemned.load(Ordering::Relaxed));
        let trial = known
            .cloned()
            .unwrap_or_else(|| Arc::new(Trial::new(terms)));
        if !self.attempt.iter().any(|other| Arc::ptr_eq(other, &trial)) {
            self.attempt.push(trial.clone());
        }
        Some(trial)
    }

    /// These are on again, and no others.
    pub(crate) fn resume<'a>(&mut self, trials: impl Iterator<Item = &'a Arc<Trial>>) {
        self.present.clear();
        for trial in trials {
            if !self.present.iter().any(|other| Arc::ptr_eq(other, trial)) {
                trial.condemned.store(false, Ordering::Relaxed);
                self.present.push(trial.clone());
            }
        }
    }

    /// The trial of a module is over.
    pub(crate) fn end(&mut self, module: &str, remember: bool) {
        let (over, present): (Vec<_>, Vec<_>) = std::mem::take(&mut self.present)
            .into_iter()
            .partition(|trial| &*trial.terms.module == module);
        self.present = present;
        if remember {
            self.ended.extend(over);
            let surplus = self.ended.len().saturating_sub(ENDED);
            self.ended.drain(..surplus);
        }
    }

    /// Somebody wants a module's new version tried again.
    pub(crate) fn forgive(&mut self, module: &str) {
        self.ended.retain(|trial| &*trial.terms.module != module);
    }

    pub(crate) fn status(&self) -> Vec<CanaryStatus> {
        let present = self.present.iter().map(|trial| trial.status(true));
        let ended = self.ended.iter().map(|trial| trial.status(false));
        present.chain(ended).collect()
    }
}

/// The trials, which a change of the configuration and a look at them share.
pub(crate) type SharedTrials = Arc<Mutex<Trials>>;

pub(crate) fn lock(trials: &SharedTrials) -> std::sync::MutexGuard<'_, Trials> {
    trials.lock().unwrap_or_else(PoisonError::into_inner)
}
