//! The time, real or simulated.
//!
//! Timeouts, retries and circuit breakers ask this clock and no other, so that a simulation can make an hour pass at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from.
///
/// ```
/// use std::time::Duration;
/// use etl_orchestrator::Clock;
///
/// let clock = Clock::manual();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now() - before, Duration::from_secs(60));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Manual>>);

#[derive(Debug)]
struct Manual {
    start: Instant,
    nanoseconds: AtomicU64,
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`Clock::advance`] moves it, and whose wall time starts at the Unix epoch.
    #[must_use]
    pub fn manual() -> Self {
        Self(Some(Arc::new(Manual {
            start: Instant::now(),
            nanoseconds: AtomicU64::new(0),
        })))
    }

    /// Moves a manual clock. Does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            manual.nanoseconds.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_manual(&self) -> bool {
        self.0.is_some()
    }

    /// The monotonic time.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(manual) => {
                manual.start + Duration::from_nanos(manual.nanoseconds.load(Ordering::Relaxed))
            }
        }
    }

    /// Waits; a manual clock is moved instead.
    pub(crate) fn sleep_until(&self, until: Instant) {
        let wait = until.saturating_duration_since(self.now());
        match &self.0 {
            None => std::thread::sleep(wait),
            Some(_) => self.advance(wait),
        }
    }

    /// Unix time in milliseconds.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        let since_epoch = match &self.0 {
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            Some(manual) => Duration::from_nanos(manual.nanoseconds.load(Ordering::Relaxed)),
        };
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}
