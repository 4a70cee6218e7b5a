//! What has happened, counted.
//!
//! A lane counts for itself and hands over now and then, so that lanes do not share a cache line for every call. Figures of lanes that
//! are calling are therefore a few hundred calls behind; creations and failures are exact.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::FailureKind;
use crate::execution::Histogram;

/// Counts of one template, over all lanes.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    calls: AtomicU64,
    records: AtomicU64,
    created: AtomicU64,
    destroyed: AtomicU64,
    misses: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
    pub(crate) execution: Histogram,
    waits: [AtomicU64; Waits::BUCKETS],
    waited_nanoseconds: AtomicU64,
}

/// How long calls waited for an instance that had to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Waits of less than 1 µs, then less than 2 µs, 4 µs and so on; the last one has no bound.
    pub buckets: [u64; Waits::BUCKETS],
    /// All of them together.
    pub sum: Duration,
}

impl Waits {
    /// The number of [`buckets`](Self::buckets).
    pub const BUCKETS: usize = 25;
}

/// What happened to a template's instances, over all lanes since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplateStats {
    /// Crossings into guests that succeeded.
    pub calls: u64,
    /// Records in them.
    pub records: u64,
    /// Instances that are alive.
    pub instances: u64,
    /// Instances that were made.
    pub created: u64,
    /// Instances that are gone.
    pub destroyed: u64,
    /// Crossings that found no warm instance, so that one had to be made.
    pub misses: u64,
    /// Records answered from the result cache.
    pub cache_hits: u64,
    /// Records that were looked for there in vain.
    pub cache_misses: u64,
    /// Failed crossings, in the order of [`FailureKind::ALL`]; those that were tried again with success are among them.
    pub failures: [u64; FailureKind::ALL.len()],
}

impl TemplateStats {
    /// The part of the crossings that found a warm instance, from 0 to 1.
    pub fn hit_ratio(&self) -> f64 {
        let crossings = self.calls + self.failures.iter().sum::<u64>();
        if crossings == 0 {
            return 0.0;
        }
        crossings.saturating_sub(self.misses) as f64 / crossings as f64
    }
}

/// What one lane has counted and not yet handed over.
#[derive(Debug, Default)]
pub(crate) struct LaneCounts {
    pub(crate) calls: u64,
    pub(crate) records: u64,
}

impl Counts {
    pub(crate) fn hand_over(&self, lane: &mut LaneCounts) {
        if lane.calls > 0 {
            self.calls.fetch_add(lane.calls, Ordering::Relaxed);
            self.records.fetch_add(lane.records, Ordering::Relaxed);
            *lane = LaneCounts::default();
        }
    }

    pub(crate) fn created(&self) {
        self.created.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn waited(&self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - microseconds.leading_zeros()) as usize;
        self.waits[bucket.min(Waits::BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.waited_nanoseconds
            .fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn waits(&self) -> Waits {
        Waits {
            buckets: std::array::from_fn(|index| self.waits[index].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.waited_nanoseconds.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn destroyed(&self) {
        self.destroyed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn cached(&self, hits: u64, misses: u64) {
        self.cache_hits.fetch_add(hits, Ordering::Relaxed);
        self.cache_misses.fetch_add(misses, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, kind: FailureKind) {
        if let Some(index) = FailureKind::ALL.iter().position(|&other| other == kind) {
            self.failures[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> TemplateStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (destroyed, created) = (read(&self.destroyed), read(&self.created));
        TemplateStats {
            calls: read(&self.calls),
            records: read(&self.records),
            instances: created.saturating_sub(destroyed),
            created,
            destroyed,
            misses: read(&self.misses),
            cache_hits: read(&self.cache_hits),
            cache_misses: read(&self.cache_misses),
            failures: std::array::from_fn(|index| read(&self.failures[index])),
        }
    }
}
