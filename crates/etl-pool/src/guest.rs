//! What all instances of one template share, and what one instance and its host functions share.
//!
//! [`Guest`] is an identity: whose log lines these are, whose counters, from which budget its memory comes. [`CallState`] is what the
//! host functions of one instance need to know of the call that is going on. It is read and written by one thread at a time; it
//! uses relaxed atomics only so that it may be shared without `unsafe`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::budget::MemoryBudget;
use crate::guest_log::GuestLog;
use crate::settings::Settings;

/// Names that one guest may count under, at most; further names are ignored.
const COUNTERS: usize = 64;

/// Whom an instance speaks for.
#[derive(Debug)]
pub struct Guest {
    pub(crate) log: GuestLog,
    pub(crate) memory: Arc<MemoryBudget>,
    counters: Mutex<BTreeMap<String, i64>>,
    settings: Settings,
}

impl Guest {
    pub(crate) fn new(module: &str, settings: Settings, memory: Arc<MemoryBudget>) -> Self {
        Self {
            log: GuestLog::new(module, settings.clone()),
            settings,
            memory,
            counters: Mutex::default(),
        }
    }

    /// Adds to a counter that the guest names.
    pub(crate) fn count(&self, name: &str, delta: i64) {
        let name = &*self.settings.masked(name);
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = counters.get_mut(name) {
            *value = value.saturating_add(delta);
        } else if counters.len() < COUNTERS {
            counters.insert(name.to_owned(), delta);
        }
    }

    /// What the guest has counted so far.
    pub(crate) fn counters(&self) -> Vec<(String, i64)> {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters
            .iter()
            .map(|(name, &value)| (name.clone(), value))
            .collect()
    }
}

/// What the host functions of one instance know of the call that is going on.
#[derive(Debug, Default)]
pub(crate) struct CallState {
    memory_refused: AtomicBool,
}

impl CallState {
    /// A call starts.
    #[inline]
    pub(crate) fn begin(&self) {
        self.memory_refused.store(false, Ordering::Relaxed);
    }

    /// The guest asked for memory that it may not have.
    pub(crate) fn refuse_memory(&self) {
        self.memory_refused.store(true, Ordering::Relaxed);
    }

    /// Whether it did, in this call.
    pub(crate) fn was_refused_memory(&self) -> bool {
        self.memory_refused.load(Ordering::Relaxed)
    }
}

/// Unix time of now.
pub(crate) fn unix_time() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}
