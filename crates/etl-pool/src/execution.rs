//! How long guests take: a histogram of bounded size and bounded error.
//!
//! Four buckets for every doubling, so a quantile is at most a quarter too high. Reading the clock twice costs as much as a short call, so
//! each shelf times its first crossings, which is all there is of a module that is seldom called, and then one in sixteen, which counts
//! as sixteen. Which one follows multiples of the golden ratio: evenly spread, and in step with no pattern of a load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Crossings of one shelf that are all timed.
const FIRST: u64 = 64;

/// One crossing in so many is timed after that, as a power of two.
const ONE_IN: u32 = 4;

/// Times below this, as a power of two of nanoseconds, are told apart no further.
const LEAST: u32 = 8;

/// Times from this on, as a power of two of nanoseconds, are told apart no further: over an hour.
const MOST: u32 = 42;

/// Buckets: one below, four for every doubling, one above.
const BUCKETS: usize = (MOST - LEAST) as usize * 4 + 2;

/// Which crossings of one shelf are timed.
#[derive(Debug, Default)]
pub(crate) struct Sampling(u64);

impl Sampling {
    /// For how many crossings the time of the next one counts; 0 is not to be timed.
    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        if self.0 <= FIRST {
            return 1;
        }
        let turn = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - ONE_IN);
        u64::from(turn == 0) << ONE_IN
    }
}

/// What is counted, shared by all lanes.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            nanoseconds: AtomicU64::new(0),
        }
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let Some(doubling) = nanoseconds
        .checked_ilog2()
        .filter(|&doubling| doubling >= LEAST)
    else {
        return 0;
    };
    if doubling >= MOST {
        return BUCKETS - 1;
    }
    let quarter = (nanoseconds >> (doubling - 2)) & 3;
    (doubling - LEAST) as usize * 4 + quarter as usize + 1
}

/// The first time that is beyond a bucket.
fn bound(bucket: usize) -> Duration {
    let (doubling, quarter) = (bucket / 4, bucket % 4);
    Duration::from_nanos((4 + quarter as u64) << (LEAST as usize + doubling - 2))
}

impl Histogram {
    pub(crate) fn add(&self, took: Duration, weight: u64) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanoseconds)].fetch_add(weight, Ordering::Relaxed);
        self.nanoseconds
            .fetch_add(nanoseconds.saturating_mul(weight), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Execution {
        Execution {
            buckets: self
                .buckets
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            sum: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }
}

/// How long guests took for their crossings: one record or a whole batch each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    buckets: Vec<u64>,
    sum: Duration,
}

impl Execution {
    /// Crossings, as estimated from those that were timed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time of all of them together. Its growth over a time, divided by that time and by the instances alive, is how far they are used.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Upper bounds and the crossings between each and the one before, shortest first. What took over an hour has no bound and comes last,
    /// under [`Duration::MAX`].
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let last = self.buckets.len() - 1;
        self.buckets.iter().enumerate().map(move |(index, &count)| {
            let bound = if index == last {
                Duration::MAX
            } else {
                bound(index)
            };
            (bound, count)
        })
    }

    /// A time that this share of the crossings, from 0 to 1, did not exceed: at most a quarter too high. None while there were none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.buckets().find_map(|(bound, count)| {
            seen += count;
            (seen >= wanted).then_some(bound)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_bucket() {
        let mut times: Vec<u64> = (0..64)
            .flat_map(|power| {
                let time = 1_u64 << power;
                [time - 1, time, time + 1, time + time / 4, time + time / 2]
            })
            .collect();
        times.push(u64::MAX);
        for time in times {
            let index = bucket(time);
            if index < BUCKETS - 1 {
                assert!(Duration::from_nanos(time) < bound(index), "{time}");
            }
            if index > 0 {
                let least = bound(index - 1);
                assert!(Duration::from_nanos(time) >= least, "{time}");
                assert!(
                    index == BUCKETS - 1 || bound(index) <= least + least / 4,
                    "{time}: too wide"
                );
            }
        }
    }

    #[test]
    fn quantiles_are_at_most_a_quarter_too_high() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile(0.5), None);
        for microsecond in 1..=1_000 {
            histogram.add(Duration::from_micros(microsecond), 1);
        }
        let execution = histogram.read();
        for (share, exact) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let exact = Duration::from_micros(exact);
            let quantile = execution.quantile(share).unwrap();
            assert!(quantile >= exact, "{share}: {quantile:?}");
            assert!(quantile <= exact + exact / 4, "{share}: {quantile:?}");
        }
        assert_eq!(execution.count(), 1_000);
        assert_eq!(execution.sum(), Duration::from_micros(500_500));
    }

    #[test]
    fn samples_stand_for_all_even_where_calls_take_turns() {
        let mut sampling = Sampling::default();
        // Every other call is of one kind, every third of another.
        let (mut all, mut even, mut third) = (0, 0, 0);
        let calls = 600_000_u64;
        for call in 0..calls {
            let weight = sampling.next();
            all += weight;
            even += if call % 2 == 0 { weight } else { 0 };
            third += if call % 3 == 0 { weight } else { 0 };
        }
        for (estimate, exact) in [(all, calls), (even, calls / 2), (third, calls / 3)] {
            let error = estimate.abs_diff(exact) as f64 / exact as f64;
            assert!(error < 0.01, "{estimate} for {exact}");
        }
    }
}
