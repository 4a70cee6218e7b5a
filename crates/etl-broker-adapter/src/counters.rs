//! What a runner has done so far, readable while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Lag;
use crate::runner::Tally;

/// Counts that only grow, and what is in flight. Read them whole with [`Counters::read`].
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) records_in: AtomicU64,
    pub(crate) records_out: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) stopped: AtomicU64,
    pub(crate) skipped_modules: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) given_back: AtomicU64,
    in_flight_records: AtomicU64,
    in_flight_bytes: AtomicU64,
    lag: Mutex<Option<Arc<Lag>>>,
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
    /// Records that the sink could never take, and that became dead letters for that.
    pub refused: u64,
    /// Records that came in and had been given out before.
    pub redelivered: u64,
    /// Records that were given back to the source unprocessed, or not known to be safe.
    pub given_back: u64,
    /// Records in flight: pulled, and not yet acknowledged.
    pub in_flight_records: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
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
            refused: self.refused.load(Ordering::Relaxed),
            redelivered: self.redelivered.load(Ordering::Relaxed),
            given_back: self.given_back.load(Ordering::Relaxed),
            in_flight_records: self.in_flight_records.load(Ordering::Relaxed),
            in_flight_bytes: self.in_flight_bytes.load(Ordering::Relaxed),
        }
    }

    /// How far the source was behind when it was last asked; `None` where it cannot tell, or was not asked yet.
    pub fn lag(&self) -> Option<Arc<Lag>> {
        self.lag
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_lag(&self, lag: Option<Arc<Lag>>) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }

    pub(crate) fn in_flight(&self, records: usize, bytes: usize) {
        self.in_flight_records
            .store(records as u64, Ordering::Relaxed);
        self.in_flight_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// Counts what is safe.
    pub(crate) fn count(&self, tally: &Tally) {
        add(&self.records_out, tally.records_out);
        add(&self.dead_lettered, tally.dead_letters);
        add(&self.refused, tally.refused);
        add(&self.dropped, tally.dropped);
        add(&self.stopped, tally.stopped);
        add(&self.skipped_modules, tally.skipped);
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
