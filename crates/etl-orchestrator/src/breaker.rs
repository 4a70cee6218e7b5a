//! A circuit breaker: stops calling a module that keeps failing, and finds out when it has recovered.
//!
//! Closed, it counts calls over a sliding window and opens when too large a part of them failed. Open, it lets nothing through until
//! its time is over. Half open, it lets a few probes through: if all succeed it closes, and the first that fails opens it again.
//! Results of calls that began before the last change of state are not counted: they say nothing about the present one.
//!
//! Leave to call is a guard ([`Leave`]): a call that never comes back to tell how it went, because it panicked, has failed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etl_config::CircuitBreaker;

/// The window slides in steps of this part of it.
const SLICES: u32 = 10;

/// What a breaker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Calls go through.
    Closed,
    /// Probes go through.
    HalfOpen,
    /// Nothing goes through.
    Open,
}

/// When to open, for how long, and how to close again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    failure_rate: f64,
    window: Duration,
    min_calls: u32,
    open: Duration,
    half_open_probes: u32,
}

impl From<&CircuitBreaker> for Settings {
    fn from(configured: &CircuitBreaker) -> Self {
        Self {
            failure_rate: configured.failure_rate,
            window: configured.window,
            min_calls: configured.min_calls,
            open: configured.open,
            half_open_probes: configured.half_open_probes,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Breaker {
    settings: Settings,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Counts changes of state.
    epoch: u64,
    slices: [Slice; SLICES as usize],
    /// When the newest slice began; `None` before the first call.
    newest: Option<(usize, Instant)>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { issued: u32, succeeded: u32 },
}

#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    calls: u64,
    failures: u64,
}

/// Leave to call for some of the records that were asked for.
#[derive(Debug)]
pub(crate) struct Leave<'a> {
    breaker: &'a Breaker,
    pub(crate) records: usize,
    since: Instant,
    epoch: u64,
    /// Nobody has told how the calls went.
    open: bool,
}

impl Leave<'_> {
    /// Tells how the calls went. Those that are in neither count say nothing, and their leave is given back.
    pub(crate) fn record(mut self, now: Instant, succeeded: u32, failed: u32) {
        self.open = false;
        self.breaker.record(now, &self, succeeded, failed);
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.open {
            let failed = u32::try_from(self.records).unwrap_or(u32::MAX);
            self.breaker.record(self.since, self, 0, failed);
        }
    }
}

impl Breaker {
    pub(crate) fn new(settings: Settings) -> Self {
        let inner = Inner {
            state: State::Closed,
            epoch: 0,
            slices: Default::default(),
            newest: None,
        };
        Self {
            settings,
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> CircuitState {
        match self.lock().state {
            State::Closed => CircuitState::Closed,
            State::Open { .. } => CircuitState::Open,
            State::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// For how many of `records` the module may be called now.
    pub(crate) fn admit(&self, now: Instant, records: usize) -> Leave<'_> {
        let mut inner = self.lock();
        if let State::Open { until } = inner.state
            && now >= until
        {
            inner.enter(State::HalfOpen {
                issued: 0,
                succeeded: 0,
            });
        }
        let records = match &mut inner.state {
            State::Closed => records,
            State::Open { .. } => 0,
            State::HalfOpen { issued, .. } => {
                let free = self.settings.half_open_probes.saturating_sub(*issued);
                let granted = free.min(u32::try_from(records).unwrap_or(u32::MAX));
                *issued += granted;
                granted as usize
            }
        };
        Leave {
            breaker: self,
            records,
            since: now,
            epoch: inner.epoch,
            open: true,
        }
    }

    /// Whether a record may be called for now, as far as one can tell without leave: for those that are only explained.
    pub(crate) fn would_admit(&self, now: Instant) -> bool {
        match self.lock().state {
            State::Open { until } => now >= until,
            State::Closed | State::HalfOpen { .. } => true,
        }
    }

    fn record(&self, now: Instant, leave: &Leave<'_>, succeeded: u32, failed: u32) {
        let mut inner = self.lock();
        if leave.epoch != inner.epoch {
            return;
        }
        let probes = self.settings.half_open_probes;
        match &mut inner.state {
            State::Open { .. } => {}
            State::HalfOpen {
                succeeded: count,
                issued,
            } => {
                let unused = leave.records - (succeeded + failed) as usize;
                *issued -= u32::try_from(unused).unwrap_or(*issued);
                *count += succeeded;
                if failed > 0 {
                    inner.open(now + self.settings.open);
                } else if *count >= probes {
                    inner.enter(State::Closed);
                    inner.slices = Default::default();
                }
            }
            State::Closed => {
                let slice = inner.slice(now, self.settings.window);
                slice.calls += u64::from(succeeded) + u64::from(failed);
                slice.failures += u64::from(failed);
                if failed > 0 {
                    let calls: u64 = inner.slices.iter().map(|slice| slice.calls).sum();
                    let failures: u64 = inner.slices.iter().map(|slice| slice.failures).sum();
                    #[allow(
                        clippy::cast_precision_loss,
                        reason = "a rate of this many calls needs no more digits"
                    )]
                    let rate = failures as f64 / calls as f64;
                    if calls >= u64::from(self.settings.min_calls)
                        && rate >= self.settings.failure_rate
                    {
                        inner.open(now + self.settings.open);
                    }
                }
            }
        }
    }
}

impl Inner {
    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }

    fn open(&mut self, until: Instant) {
        self.enter(State::Open { until });
        self.slices = Default::default();
        self.newest = None;
    }

    /// The slice for now, with those that have slid out of the window emptied.
    fn slice(&mut self, now: Instant, window: Duration) -> &mut Slice {
        let width = (window / SLICES).max(Duration::from_nanos(1));
        let (mut index, mut began) = self.newest.unwrap_or((0, now));
        let mut steps = 0;
        while now.saturating_duration_since(began) >= width {
            began += width;
            index = (index + 1) % self.slices.len();
            self.slices[index] = Slice::default();
            steps += 1;
            if steps == SLICES {
                // A long silence: everything is empty, and the window starts again here.
                began = now;
            }
        }
        self.newest = Some((index, began));
        &mut self.slices[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens at half of at least four calls in ten seconds; open for five; two probes.
    fn breaker() -> Breaker {
        Breaker::new(Settings {
            failure_rate: 0.5,
            window: Duration::from_secs(10),
            min_calls: 4,
            open: Duration::from_secs(5),
            half_open_probes: 2,
        })
    }

    fn call(breaker: &Breaker, now: Instant, fails: bool) -> bool {
        let leave = breaker.admit(now, 1);
        let is_let_through = leave.records == 1;
        leave.record(
            now,
            u32::from(is_let_through && !fails),
            u32::from(is_let_through && fails),
        );
        is_let_through
    }

    #[test]
    fn opens_probes_and_closes() {
        let breaker = breaker();
        let start = Instant::now();
        for fails in [true, false, true] {
            assert!(call(&breaker, start, fails));
        }
        assert_eq!(
            breaker.state(),
            CircuitState::Closed,
            "three calls are too few"
        );
        assert!(call(&breaker, start, true));
        assert_eq!(breaker.state(), CircuitState::Open);
        assert!(!call(&breaker, start + Duration::from_secs(4), false));

        let later = start + Duration::from_secs(5);
        let probes = breaker.admit(later, 64);
        assert_eq!(probes.records, 2);
        assert_eq!(breaker.admit(later, 1).records, 0, "the probes are out");
        probes.record(later, 1, 1);
        assert_eq!(breaker.state(), CircuitState::Open);

        let later = later + Duration::from_secs(5);
        assert!(call(&breaker, later, false));
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        assert!(call(&breaker, later, false));
        assert_eq!(breaker.state(), CircuitState::Closed);
    }

    #[test]
    fn forgets_what_slid_out_of_the_window() {
        let breaker = breaker();
        let start = Instant::now();
        for _ in 0..3 {
            assert!(call(&breaker, start, true));
        }
        let later = start + Duration::from_secs(11);
        assert!(call(&breaker, later, true));
        assert_eq!(breaker.state(), CircuitState::Closed);
        let much_later = start + Duration::from_secs(100_000);
        for _ in 0..3 {
            assert!(call(&breaker, much_later, true));
        }
        assert_eq!(breaker.state(), CircuitState::Closed);
        assert!(call(&breaker, much_later, true));
        assert_eq!(breaker.state(), CircuitState::Open);
    }

    #[test]
    fn late_results_do_not_count() {
        let breaker = breaker();
        let start = Instant::now();
        let late = breaker.admit(start, 4);
        for _ in 0..4 {
            call(&breaker, start, true);
        }
        let later = start + Duration::from_secs(5);
        let probe = breaker.admit(later, 1);
        assert_eq!(probe.records, 1);
        late.record(later, 0, 4);
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
    }
}
