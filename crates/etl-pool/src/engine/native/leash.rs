//! The leash of a lane: a page that its running guest keeps reading, and that is taken away to stop it.
//!
//! `instrument` puts loads from the page on every way that a guest can take for long. [`Leash::run`] says until when the guest that
//! starts now may run; the watchdog pulls the leash after that, the next load faults, and the runtime turns the fault into a
//! trap like any other out of bounds. Taking the page away needs no cooperation, and giving it back is for the lane.
//!
//! The watchdog may pull in the very moment in which a call ends. The lane then gives the page back when it next looks, and if the next
//! guest has already run into it, that call is tried again: [`Leash::loosen`] tells the two cases apart by the clock.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

use crate::instrument::LEASH_BYTES;
use region::{Allocation, Protection};
use wasmer::sys::vm::{LinearMemory, VMMemory, VMMemoryDefinition};
use wasmer::{MemoryError, MemoryStyle, MemoryType, Pages};

/// The leash as a memory, in pages of WebAssembly.
const PAGES: u32 = (LEASH_BYTES >> 16) as u32;

/// No guest runs.
const IDLE: u64 = u64::MAX;

/// What the instances of one lane are stopped by.
pub struct Leash {
    page: Allocation,
    /// When the guest that runs has to stop, or [`IDLE`].
    deadline: AtomicU64,
    /// A copy of what is under the lock, for a look without it.
    pulled: AtomicBool,
    /// Whether the page is away. Changed together with the page.
    away: Mutex<bool>,
}

impl std::fmt::Debug for Leash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leash")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

// SAFETY: the page is never written to and its address never changes; its protection is only changed under the lock.
unsafe impl Send for Leash {}
// SAFETY: as above.
unsafe impl Sync for Leash {}

/// Instants as nanoseconds since the first one that was asked for, so that they fit an atomic.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(super) fn nanoseconds(instant: Instant) -> u64 {
    let since = instant.saturating_duration_since(*EPOCH);
    // 584 years fit; a deadline beyond is none.
    since
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(since.subsec_nanos()))
}

impl Leash {
    pub(super) fn new() -> Result<Self, region::Error> {
        Ok(Self {
            page: region::alloc(LEASH_BYTES, Protection::READ)?,
            deadline: AtomicU64::new(IDLE),
            pulled: AtomicBool::new(false),
            away: Mutex::new(false),
        })
    }

    /// Lets a guest run until the deadline, or until the answer is dropped.
    #[inline]
    pub(super) fn run(&self, deadline: Instant) -> Run<'_> {
        if self.pulled.load(Ordering::Relaxed) {
            // Pulled when the call before had just ended.
            self.loosen();
        }
        self.deadline
            .store(nanoseconds(deadline), Ordering::Relaxed);
        Run(self)
    }

    /// When the guest that runs has to stop; `None` while none does.
    pub(super) fn deadline(&self) -> Option<u64> {
        Some(self.deadline.load(Ordering::Relaxed)).filter(|&deadline| deadline != IDLE)
    }

    /// Stops the guest if its deadline has passed.
    pub(super) fn pull(&self, now: u64) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if *away || self.deadline.load(Ordering::Relaxed) > now {
            return;
        }
        match self.protect(Protection::NONE) {
            Ok(()) => {
                *away = true;
                self.pulled.store(true, Ordering::Relaxed);
            }
            // Nothing else can stop the guest; the watchdog comes back.
            Err(error) => tracing::error!(%error, "a guest could not be stopped"),
        }
    }

    /// Gives the page back, if it was away. Answers whether that was for the guest that runs now.
    #[cold]
    pub(super) fn loosen(&self) -> Option<bool> {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if !*away {
            return None;
        }
        match self.protect(Protection::READ) {
            Ok(()) => {
                *away = false;
                self.pulled.store(false, Ordering::Relaxed);
            }
            // Every later call on this lane fails at once, as an expired one, and tries this again.
            Err(error) => tracing::error!(%error, "a lane could not be made ready again"),
        }
        Some(nanoseconds(Instant::now()) >= self.deadline.load(Ordering::Relaxed))
    }

    fn protect(&self, protection: Protection) -> Result<(), region::Error> {
        // SAFETY: the range is this leash's own page. No Rust code reads it; guests that read it while it is away trap.
        unsafe { region::protect(self.page.as_ptr::<u8>(), self.page.len(), protection) }
    }
}

/// A guest may run while this lives.
pub(super) struct Run<'a>(&'a Leash);

impl Drop for Run<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.deadline.store(IDLE, Ordering::Relaxed);
    }
}

/// The leash as the second memory of an instance.
///
/// # Safety
/// The location must be valid for as long as the memory that is returned.
pub(super) unsafe fn memory(leash: &Arc<Leash>, location: NonNull<VMMemoryDefinition>) -> VMMemory {
    let definition = VMMemoryDefinition {
        base: leash.page.as_ptr::<u8>().cast_mut(),
        current_length: leash.page.len(),
    };
    // SAFETY: the caller promises a valid location, which is not yet initialised and of which this is the only user.
    unsafe { location.as_ptr().write(definition) };
    VMMemory(Box::new(LeashMemory {
        _leash: Arc::clone(leash),
        location,
    }))
}

/// Keeps the page alive as long as an instance can read it.
#[derive(Debug)]
struct LeashMemory {
    _leash: Arc<Leash>,
    location: NonNull<VMMemoryDefinition>,
}

// SAFETY: the location is part of the instance that owns this memory, and moves between threads only with it.
unsafe impl Send for LeashMemory {}
// SAFETY: as above; nothing here changes what it points to.
unsafe impl Sync for LeashMemory {}

impl LinearMemory for LeashMemory {
    fn ty(&self) -> MemoryType {
        MemoryType::new(PAGES, Some(PAGES), false)
    }

    fn size(&self) -> Pages {
        Pages(PAGES)
    }

    fn style(&self) -> MemoryStyle {
        MemoryStyle::Static
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        Err(MemoryError::CouldNotGrow {
            current: Pages(PAGES),
            attempted_delta: delta,
        })
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.location
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_is_pulled_for_the_guest_that_runs_and_only_after_its_time() {
        let leash = Leash::new().unwrap();
        let now = Instant::now();
        leash.pull(nanoseconds(now));
        assert_eq!(leash.loosen(), None, "no guest runs");
        let run = leash.run(now + Duration::from_secs(60));
        leash.pull(nanoseconds(now));
        assert_eq!(leash.loosen(), None, "its time has not come");
        drop(run);
        let run = leash.run(now);
        leash.pull(nanoseconds(now));
        assert_eq!(leash.loosen(), Some(true));
        assert_eq!(leash.loosen(), None);
        drop(run);
    }

    #[test]
    fn a_pull_that_comes_too_late_is_told_apart() {
        let leash = Leash::new().unwrap();
        let now = Instant::now();
        let run = leash.run(now);
        leash.pull(nanoseconds(now));
        drop(run);
        let _next = leash.run(now + Duration::from_secs(60));
        assert_eq!(
            leash.loosen(),
            None,
            "the start of a call gives the page back"
        );
        leash.deadline.store(0, Ordering::Relaxed);
        leash.pull(1);
        leash.deadline.store(
            nanoseconds(now + Duration::from_secs(60)),
            Ordering::Relaxed,
        );
        assert_eq!(leash.loosen(), Some(false), "meant for the call before");
    }
}
