//! Locks, conditions, atomics and threads of the queue and the swap.
//!
//! Those of the standard library; in this crate's own unit tests with the feature `shuttle` those of that crate, which run the same code in many orders of its steps
//! (`interleavings`). What is not part of that (counters, caches, what only one thread has) takes the standard library's directly.

#[cfg(not(all(test, feature = "shuttle")))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, atomic, mpsc},
    thread,
};

#[cfg(all(test, feature = "shuttle"))]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, atomic, mpsc},
    thread,
};
