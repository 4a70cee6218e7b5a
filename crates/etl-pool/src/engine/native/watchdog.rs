//! One thread for each engine, which looks whether a guest has outrun its deadline.
//!
//! Lanes tell their deadlines by a plain store, so a call wakes nobody. The thread looks at them every millisecond while guests run, and at
//! the very moment of the nearest deadline that it knows; every ten milliseconds when none did lately; and not at all while there
//! are no lanes. So a guest that starts after a pause, with a deadline of under ten milliseconds, may be stopped that much later.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::leash::{Leash, nanoseconds};

/// How often it looks while guests run.
const BUSY: Duration = Duration::from_millis(1);

/// How often it looks when none did lately.
const IDLE: Duration = Duration::from_millis(10);

/// Looks without a running guest after which it is "lately" no more.
const LATELY: u32 = 100;

/// The handle on the thread. Dropped, the thread ends.
pub(super) struct Watchdog {
    lanes: Arc<Mutex<Vec<Weak<Leash>>>>,
    thread: Thread,
}

impl Watchdog {
    pub(super) fn start() -> io::Result<Self> {
        let lanes = Arc::new(Mutex::new(Vec::new()));
        let watched = Arc::downgrade(&lanes);
        let thread = thread::Builder::new()
            .name("etl-watchdog".to_owned())
            .stack_size(256 << 10)
            .spawn(move || watch(&watched))?;
        Ok(Self {
            lanes,
            thread: thread.thread().clone(),
        })
    }

    /// The leash of a new lane.
    ///
    /// # Panics
    /// Where the system has no page of memory left.
    pub(super) fn lane(&self) -> Arc<Leash> {
        #[expect(clippy::expect_used, reason = "as any other allocation that fails")]
        let leash = Arc::new(Leash::new().expect("a page of memory"));
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.push(Arc::downgrade(&leash));
        drop(lanes);
        self.thread.unpark();
        leash
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // It finds the list gone. Lanes hold their leash, but an engine outlives the lanes that were made of it.
        self.thread.unpark();
    }
}

fn watch(lanes: &Weak<Mutex<Vec<Weak<Leash>>>>) {
    let mut quiet = 0_u32;
    // The list is only held while it is looked at, so that it goes with the engine.
    while let Some(list) = lanes.upgrade() {
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        let now = nanoseconds(Instant::now());
        let mut nearest = None;
        list.retain(|leash| {
            let Some(leash) = leash.upgrade() else {
                return false;
            };
            if let Some(deadline) = leash.deadline() {
                quiet = 0;
                if deadline <= now {
                    leash.pull(now);
                } else {
                    nearest = Some(nearest.map_or(deadline, |other: u64| other.min(deadline)));
                }
            }
            true
        });
        let empty = list.is_empty();
        drop(list);
        if empty {
            // Until a lane is made or the engine goes; the time is for an engine that went between the look and here.
            thread::park_timeout(Duration::from_secs(1));
            continue;
        }
        quiet = quiet.saturating_add(1);
        let tick = if quiet < LATELY { BUSY } else { IDLE };
        let until = nearest.map_or(tick, |deadline| {
            Duration::from_nanos(deadline - now).min(tick)
        });
        thread::park_timeout(until);
    }
}
