//! What all lanes share: how many instances there may be, how fast they are made, how much memory they have together.
//!
//! Counting is exact and lock-free where it is on the way of a call (memory); taking a permit for a new instance goes through one
//! mutex, because making the instance costs a thousand times as much. A permit gives itself back on drop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that guests have together, in their memories and on the host: those of one template, which count for the whole pool too, or those of the pool.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: u64,
    used: AtomicU64,
    /// The budget that this one is a part of.
    whole: Option<Arc<MemoryBudget>>,
}

impl MemoryBudget {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: AtomicU64::new(0),
            whole: None,
        }
    }

    /// A part of a budget that has no limit of its own and knows how much of the whole it uses.
    pub(crate) fn part_of(whole: &Arc<Self>) -> Self {
        Self {
            whole: Some(Arc::clone(whole)),
            ..Self::new(u64::MAX)
        }
    }

    /// Takes bytes, all or none.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        if self.whole.as_ref().is_some_and(|whole| !whole.take(bytes)) {
            return false;
        }
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.limit)
            })
            .is_ok()
    }

    /// Gives bytes back.
    pub(crate) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give(bytes);
        }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Bytes taken from a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl Account {
    /// An account of so many bytes, if they are to be had.
    pub(crate) fn open(budget: &Arc<MemoryBudget>, bytes: u64) -> Option<Self> {
        budget.take(bytes).then(|| Self {
            budget: Arc::clone(budget),
            bytes,
        })
    }

    /// Takes more, all or nothing.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Gives some back.
    pub(crate) fn give(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.budget.give(bytes);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// How many instances there may be, and how fast they are made.
#[derive(Debug)]
pub(crate) struct InstanceBudget {
    limit: usize,
    /// Instances a second; 0 is no limit.
    rate: u32,
    state: Mutex<State>,
    freed: Condvar,
    waiting: AtomicU64,
    /// Threads that wait for an instance to go, of any template.
    wanting: AtomicU64,
    wanted: OnceLock<Wanted>,
}

/// Who is told when a thread begins to wait for an instance to go.
struct Wanted(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Wanted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Wanted")
    }
}

#[derive(Debug)]
struct State {
    live: usize,
    /// Instances that may be made at once: refills at `rate`, holds one second's worth.
    tokens: f64,
    refilled: Instant,
}

/// How many instances of one template there are.
#[derive(Debug)]
pub(crate) struct TemplateBudget {
    pub(crate) limit: usize,
    live: AtomicU64,
    waiting: AtomicU64,
}

impl TemplateBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            live: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        }
    }

    /// Whether a thread waits for an instance of this template to go.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed) as usize
    }
}

/// The right to one instance.
#[derive(Debug)]
pub(crate) struct Permit {
    instances: Arc<InstanceBudget>,
    template: Arc<TemplateBudget>,
}

/// Why there is no permit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many instances of this template as may be.
    Template,
    /// As many instances as may be.
    Pool,
    /// Instances are made too fast; the next one may be made after this time.
    Rate(Duration),
}

impl InstanceBudget {
    pub(crate) fn new(limit: usize, rate: u32) -> Self {
        Self {
            limit,
            rate,
            state: Mutex::new(State {
                live: 0,
                tokens: f64::from(rate),
                refilled: Instant::now(),
            }),
            freed: Condvar::new(),
            waiting: AtomicU64::new(0),
            wanting: AtomicU64::new(0),
            wanted: OnceLock::new(),
        }
    }

    /// Whom to tell when a thread begins to wait for an instance to go. Only the first that is given is told.
    pub(crate) fn when_wanted(&self, tell: Box<dyn Fn() + Send + Sync>) {
        let _ = self.wanted.set(Wanted(tell));
    }

    /// Whether a thread waits for an instance to go, of whatever template.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanting.load(Ordering::Relaxed) > 0
    }

    /// Whether a thread waits for any instance to go.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Instances that there are.
    pub(crate) fn live(&self) -> usize {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .live
    }

    /// A permit, or why there is none.
    pub(crate) fn try_take(
        self: &Arc<Self>,
        template: &Arc<TemplateBudget>,
        now: Instant,
    ) -> Result<Permit, Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Only changed under the lock, so that test and change are one.
        if template.live() >= template.limit {
            return Err(Refusal::Template);
        }
        if state.live >= self.limit {
            return Err(Refusal::Pool);
        }
        if self.rate > 0 {
            let rate = f64::from(self.rate);
            let elapsed = now.saturating_duration_since(state.refilled).as_secs_f64();
            state.tokens = elapsed.mul_add(rate, state.tokens).min(rate.max(1.0));
            state.refilled = state.refilled.max(now);
            if state.tokens < 1.0 {
                return Err(Refusal::Rate(Duration::from_secs_f64(
                    (1.0 - state.tokens) / rate,
                )));
            }
            state.tokens -= 1.0;
        }
        state.live += 1;
        template.live.fetch_add(1, Ordering::Relaxed);
        Ok(Permit {
            instances: Arc::clone(self),
            template: Arc::clone(template),
        })
    }

    /// Makes those who hold a place give it up, without waiting for that. Where it is the rate that refuses, time alone helps.
    pub(crate) fn claim(
        self: &Arc<Self>,
        refusal: Refusal,
        template: &Arc<TemplateBudget>,
    ) -> Option<Claim> {
        let template = match refusal {
            Refusal::Rate(_) => return None,
            Refusal::Template => Some(Arc::clone(template)),
            Refusal::Pool => None,
        };
        let claim = Claim {
            instances: Arc::clone(self),
            template,
        };
        claim.waiting().fetch_add(1, Ordering::Relaxed);
        self.wanting.fetch_add(1, Ordering::Relaxed);
        self.tell();
        Some(claim)
    }

    fn tell(&self) {
        if let Some(Wanted(tell)) = self.wanted.get() {
            tell();
        }
    }

    /// Waits until a permit may be had: an instance went, or time passed.
    pub(crate) fn wait(&self, refusal: Refusal, template: &TemplateBudget, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let (time, waiting) = match refusal {
            Refusal::Rate(time) => {
                std::thread::sleep(time.min(left));
                return;
            }
            // A permit that is given back between the refusal and here is not seen, so look again soon.
            Refusal::Template => (left.min(LOOK_AGAIN), &template.waiting),
            Refusal::Pool => (left.min(LOOK_AGAIN), &self.waiting),
        };
        waiting.fetch_add(1, Ordering::Relaxed);
        self.wanting.fetch_add(1, Ordering::Relaxed);
        self.tell();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.freed.wait_timeout(state, time));
        self.wanting.fetch_sub(1, Ordering::Relaxed);
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a waiting lane goes without looking.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where a lane that does not wait was refused a place: those that hold one see it as they see a lane that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    instances: Arc<InstanceBudget>,
    /// Whose place it is, where only one of this template helps.
    template: Option<Arc<TemplateBudget>>,
}

impl Claim {
    fn waiting(&self) -> &AtomicU64 {
        match &self.template {
            Some(template) => &template.waiting,
            None => &self.instances.waiting,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.instances.wanting.fetch_sub(1, Ordering::Relaxed);
        self.waiting().fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self
            .instances
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.live -= 1;
        self.template.live.fetch_sub(1, Ordering::Relaxed);
        drop(state);
        self.instances.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_taken_whole_or_not_at_all() {
        let budget = MemoryBudget::new(100);
        assert!(budget.take(60));
        assert!(!budget.take(41));
        assert!(budget.take(40));
        budget.give(60);
        assert_eq!(budget.used(), 40);
        assert!(!budget.take(u64::MAX));
    }

    #[test]
    fn an_account_gives_back_what_it_took() {
        let budget = Arc::new(MemoryBudget::new(100));
        let mut account = Account::open(&budget, 30).expect("there is room");
        assert!(Account::open(&budget, 71).is_none());
        assert!(account.take(70));
        assert!(!account.take(1));
        account.give(50);
        assert_eq!(budget.used(), 50);
        drop(account);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_part_takes_from_the_whole() {
        let whole = Arc::new(MemoryBudget::new(100));
        let (one, other) = (MemoryBudget::part_of(&whole), MemoryBudget::part_of(&whole));
        assert!(one.take(60));
        assert!(!other.take(41));
        assert!(other.take(40));
        assert_eq!((one.used(), other.used(), whole.used()), (60, 40, 100));
        one.give(60);
        assert_eq!((one.used(), other.used(), whole.used()), (0, 40, 40));
    }

    #[test]
    fn permits_end_at_both_limits_and_come_back() {
        let budget = Arc::new(InstanceBudget::new(3, 0));
        let (a, b) = (
            Arc::new(TemplateBudget::new(2)),
            Arc::new(TemplateBudget::new(2)),
        );
        let now = Instant::now();
        let first = budget.try_take(&a, now).expect("free");
        let _second = budget.try_take(&a, now).expect("free");
        assert_eq!(
            budget.try_take(&a, now).expect_err("full"),
            Refusal::Template
        );
        let _third = budget.try_take(&b, now).expect("free");
        assert_eq!(budget.try_take(&b, now).expect_err("full"), Refusal::Pool);
        drop(first);
        assert_eq!((budget.live(), a.live()), (2, 1));
        drop(budget.try_take(&b, now).expect("free again"));
    }

    #[test]
    fn a_claim_is_seen_as_long_as_it_lasts() {
        let budget = Arc::new(InstanceBudget::new(2, 0));
        let template = Arc::new(TemplateBudget::new(1));
        let seen = || {
            (
                budget.is_wanted(),
                budget.is_awaited(),
                template.is_awaited(),
            )
        };
        let of_template = budget.claim(Refusal::Template, &template);
        assert_eq!(seen(), (true, false, true));
        let of_any = budget.claim(Refusal::Pool, &template);
        assert_eq!(seen(), (true, true, true));
        drop(of_template);
        assert_eq!(seen(), (true, true, false));
        drop(of_any);
        assert_eq!(seen(), (false, false, false));
        let in_time = budget.claim(Refusal::Rate(Duration::from_millis(1)), &template);
        assert!(in_time.is_none());
        assert_eq!(seen(), (false, false, false));
    }

    #[test]
    fn the_rate_refills_with_time() {
        let budget = Arc::new(InstanceBudget::new(100, 10));
        let template = Arc::new(TemplateBudget::new(100));
        let start = Instant::now();
        let permits: Vec<_> = (0..10).map(|_| budget.try_take(&template, start)).collect();
        assert!(permits.iter().all(Result::is_ok));
        let Err(Refusal::Rate(time)) = budget.try_take(&template, start) else {
            panic!("the burst should be spent");
        };
        assert!(time <= Duration::from_millis(100), "{time:?}");
        let later = start + Duration::from_millis(110);
        assert!(budget.try_take(&template, later).is_ok());
        assert!(budget.try_take(&template, later).is_err());
    }
}
