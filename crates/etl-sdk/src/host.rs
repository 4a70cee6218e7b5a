//! What a module can ask of its host. A function that a module does not use is not imported.
//!
//! Natively there is no host: the clock and randomness are the machine's, log lines go to stderr, counters are kept for
//! [`testing::counted`](crate::testing::counted).

use core::fmt;

use crate::LogLevel;

/// Unix time in milliseconds.
#[must_use]
pub fn now() -> i64 {
    imp::now()
}

/// 64 random bits, good enough for sampling and ids, not for keys.
#[must_use]
pub fn random() -> u64 {
    imp::random()
}

/// Adds to a counter that the host keeps for this module.
pub fn counter(name: &str, count: u64) {
    imp::counter(name, count);
}

/// Logs a line: see the macros.
pub fn log(level: LogLevel, message: fmt::Arguments<'_>) {
    // A literal needs no buffer.
    match message.as_str() {
        Some(text) => imp::log(level, text),
        None => imp::log(level, &message.to_string()),
    }
}

#[cfg(target_arch = "wasm32")]
mod imp {
    use crate::LogLevel;

    #[allow(unsafe_code, reason = "imports can only be declared so")]
    // SAFETY: the signatures are those of the guest ABI, and any argument is safe: the host checks pointers and lengths
    // against this guest's memory and only reads it.
    #[link(wasm_import_module = "etl")]
    unsafe extern "C" {
        #[link_name = "log"]
        safe fn etl_log(level: u32, pointer: *const u8, length: usize);
        #[link_name = "now"]
        safe fn etl_now() -> i64;
        #[link_name = "random"]
        safe fn etl_random() -> u64;
        #[link_name = "counter"]
        safe fn etl_counter(name: *const u8, length: usize, count: u64);
    }

    pub(super) fn now() -> i64 {
        etl_now()
    }

    pub(super) fn random() -> u64 {
        etl_random()
    }

    pub(super) fn counter(name: &str, count: u64) {
        etl_counter(name.as_ptr(), name.len(), count);
    }

    pub(super) fn log(level: LogLevel, text: &str) {
        etl_log(level as u32, text.as_ptr(), text.len());
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod imp {
    use std::hash::{BuildHasher, RandomState};
    use std::time::{SystemTime, UNIX_EPOCH};

    use crate::LogLevel;

    pub(super) fn now() -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    pub(super) fn random() -> u64 {
        // Every `RandomState` has keys of its own.
        RandomState::new().hash_one(())
    }

    pub(super) fn counter(name: &str, count: u64) {
        crate::testing::count(name, count);
    }

    pub(super) fn log(level: LogLevel, text: &str) {
        eprintln!("{level:?}: {text}");
    }
}
