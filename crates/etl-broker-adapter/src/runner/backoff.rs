//! How long to wait before the next attempt: longer each time, and never for all at the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Waits between attempts. Each is between half and all of twice the one before, up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait before the second attempt.
    pub first: Duration,
    /// The longest wait at all.
    pub limit: Duration,
}

impl Default for Backoff {
    /// From 0.1 s to 30 s.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            limit: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The wait after so many failed attempts, of which there is at least one.
    pub fn after(&self, attempts: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        let longest = self.first.saturating_mul(doubled).min(self.limit);
        // A hasher with a random key is the randomness that the standard library has.
        let random = RandomState::new().build_hasher().finish();
        longest.mul_f64(0.5 + 0.5 * (random as f64 / u64::MAX as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_limit_and_differ() {
        let backoff = Backoff::default();
        for attempts in 1..100_u32 {
            let longest = Duration::from_millis(100 << attempts.min(20).saturating_sub(1))
                .min(Duration::from_secs(30));
            let wait = backoff.after(attempts);
            assert!(
                longest / 2 <= wait && wait <= longest,
                "{attempts}: {wait:?}"
            );
        }
        assert!(backoff.after(u32::MAX) <= backoff.limit);
        assert!((0..20).any(|_| backoff.after(9) != backoff.after(9)));
    }
}
