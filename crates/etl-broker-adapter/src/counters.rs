//! What a runner has done so far, readable while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that only grow. Read them whole with [`Counters::read`].
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) records_in: AtomicU64,
    pub(crate) records_out: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) stopped: AtomicU64,
    pub(crate) skipped_modules: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
}

/// [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Records that the source gave, those that could not be read included.
    pub records_in: u64,
    /// Records that the sink has confirmed, dead letters not included.
    pub records_out: u64,
    /// Records that a module dropped, emitted ones included.
    pub dropped: u64,
    /// Dead letters that were confirmed, by whichever sink.
    pub dead_lettered: u64,
    /// Pipelines that were undone for a record, so that their input went on.
    pub stopped: u64,
    /// Modules that failed for a record and were skipped.
    pub skipped_modules: u64,
    /// Bytes of the source that were read for the records that came in.
    pub bytes_read: u64,
}

impl Counters {
    /// What they say now. Counts of one batch may be read before the others of that batch have grown.
    pub fn read(&self) -> Counts {
        Counts {
            records_in: self.records_in.load(Ordering::Relaxed),
            records_out: self.records_out.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            dead_lettered: self.dead_lettered.load(Ordering::Relaxed),
            stopped: self.stopped.load(Ordering::Relaxed),
            skipped_modules: self.skipped_modules.load(Ordering::Relaxed),
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
