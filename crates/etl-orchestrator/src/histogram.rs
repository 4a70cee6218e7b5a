//! How long things take, in buckets that double: cheap to count with one writer, and enough for quantiles.

use std::time::Duration;

use crate::stats::Counter;

const BUCKETS: usize = Histogram::BUCKETS;

/// How long something took, with one writer.
#[derive(Debug, Default)]
pub(crate) struct Timings {
    buckets: [Counter; BUCKETS],
    nanoseconds: Counter,
}

impl Timings {
    #[inline]
    pub(crate) fn observe(&self, duration: Duration, times: usize) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - (nanoseconds / 1000).leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].add(times as u64);
        self.nanoseconds
            .add(nanoseconds.saturating_mul(times as u64));
    }
}

/// Joins equal observations that follow each other, as those of one batch do, to one.
pub(crate) struct Joined<'a> {
    timings: &'a Timings,
    duration: Duration,
    times: usize,
}

impl<'a> Joined<'a> {
    pub(crate) fn new(timings: &'a Timings) -> Self {
        Self {
            timings,
            duration: Duration::ZERO,
            times: 0,
        }
    }

    #[inline]
    pub(crate) fn observe(&mut self, duration: Duration) {
        if duration != self.duration {
            self.flush();
            self.duration = duration;
        }
        self.times += 1;
    }

    fn flush(&mut self) {
        if self.times > 0 {
            self.timings.observe(self.duration, self.times);
            self.times = 0;
        }
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Histogram {
    /// Observations in each bucket. The upper bound of the one at `i` is [`Histogram::upper_bound`].
    pub buckets: Vec<u64>,
    /// The sum of all observations.
    pub sum: Duration,
}

impl Histogram {
    /// The number of buckets. Their upper bounds are 1 µs, 2 µs, 4 µs and so on; the last one takes everything.
    pub const BUCKETS: usize = 25;

    /// The number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound of a bucket, exclusive; `None` for the last one, which has none.
    #[must_use]
    pub fn upper_bound(bucket: usize) -> Option<Duration> {
        (bucket < BUCKETS - 1).then(|| Duration::from_micros(1 << bucket))
    }

    pub(crate) fn add(&mut self, timings: &Timings) {
        self.buckets.resize(BUCKETS, 0);
        for (sum, counter) in self.buckets.iter_mut().zip(&timings.buckets) {
            *sum += counter.get();
        }
        self.sum += Duration::from_nanos(timings.nanoseconds.get());
    }

    /// A duration that this part of the observations does not exceed, as far as buckets can tell: the upper bound of the bucket in
    /// which the quantile lies. `None` where nothing was observed.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let count = self.count();
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among so many needs no more digits"
        )]
        let rank = ((count as f64 * quantile).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Self::upper_bound(bucket).unwrap_or(Duration::MAX))
    }

    /// What was observed since an earlier state of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.buckets.iter().chain(std::iter::repeat(&0));
        Self {
            buckets: self
                .buckets
                .iter()
                .zip(before)
                .map(|(now, before)| now.saturating_sub(*before))
                .collect(),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    pub(crate) fn join(&mut self, other: &Self) {
        self.buckets.resize(BUCKETS, 0);
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double() {
        let timings = Timings::default();
        for nanoseconds in [0, 999, 1_000, 1_999, 2_000, 1_000_000_000_000] {
            timings.observe(Duration::from_nanos(nanoseconds), 1);
        }
        let mut histogram = Histogram::default();
        histogram.add(&timings);
        assert_eq!(histogram.buckets[..4], [2, 2, 1, 0]);
        assert_eq!(histogram.buckets[BUCKETS - 1], 1);
        assert_eq!(histogram.count(), 6);
        assert_eq!(Histogram::upper_bound(0), Some(Duration::from_micros(1)));
        assert_eq!(Histogram::upper_bound(BUCKETS - 1), None);
    }

    #[test]
    fn equal_durations_in_a_row_are_one_observation() {
        let timings = Timings::default();
        let mut joined = Joined::new(&timings);
        for micros in [3, 3, 9, 0, 0] {
            joined.observe(Duration::from_micros(micros));
        }
        drop(joined);
        let mut histogram = Histogram::default();
        histogram.add(&timings);
        assert_eq!(histogram.buckets[..5], [2, 0, 2, 0, 1]);
        assert_eq!(histogram.sum, Duration::from_micros(15));
    }

    #[test]
    fn quantiles_are_upper_bounds_of_buckets() {
        assert_eq!(Histogram::default().quantile(0.95), None);
        let timings = Timings::default();
        timings.observe(Duration::from_micros(3), 95);
        timings.observe(Duration::from_millis(20), 5);
        let mut histogram = Histogram::default();
        histogram.add(&timings);
        assert_eq!(histogram.quantile(0.95), Some(Duration::from_micros(4)));
        assert_eq!(
            histogram.quantile(0.96),
            Some(Duration::from_micros(32_768))
        );
        assert_eq!(histogram.since(&histogram).count(), 0);
    }
}
