//! Hands what was counted to the recorder of the process.
//!
//! Every series is registered with the recorder when it first appears, which is when the configuration that names it takes force, and let
//! go when it is gone: a recorder that keeps only what somebody holds then forgets it.
//!
//! The recorder is told of durations in bulk: how many new ones each bucket has, as so many equal values. Where in the buckets these
//! values lie is chosen so that their sum is the true one, so that averages are right as well as quantiles.

use std::collections::HashMap;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Key, Label, Level, Metadata};
use etl_config::Loaded;

use super::series::{Figure, visit};
use crate::histogram::Histogram;
use crate::orchestrator::Stats;

static METADATA: Metadata<'static> = Metadata::new("etl", Level::INFO, None);

#[derive(Default)]
pub(crate) struct Publisher {
    series: HashMap<Key, Series>,
    /// Counts publications: a series that was not met in the last one is gone.
    round: u64,
}

struct Series {
    handle: Handle,
    round: u64,
}

enum Handle {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(::metrics::Histogram, Histogram),
}

impl Publisher {
    pub(crate) fn publish(&mut self, stats: &Stats, loaded: &Loaded) {
        self.round += 1;
        let Self { series, round } = self;
        visit(stats, loaded, &mut |name, labels, figure| {
            let labels: Vec<Label> = labels
                .iter()
                .map(|(label, value)| Label::new(*label, (*value).to_owned()))
                .collect();
            let key = Key::from_parts(name, labels);
            let series = series.entry(key).or_insert_with_key(|key| Series {
                handle: register(key, &figure),
                round: *round,
            });
            series.round = *round;
            match (&mut series.handle, figure) {
                (Handle::Counter(counter), Figure::Count(count)) => counter.absolute(count),
                (Handle::Gauge(gauge), Figure::Level(level)) => gauge.set(level),
                (Handle::Histogram(handle, before), Figure::Durations(now)) => {
                    record(handle, before, now);
                }
                _ => {}
            }
        });
        series.retain(|_, series| series.round == *round);
    }
}

fn register(key: &Key, figure: &Figure<'_>) -> Handle {
    ::metrics::with_recorder(|recorder| match figure {
        Figure::Count(_) => Handle::Counter(recorder.register_counter(key, &METADATA)),
        Figure::Level(_) => Handle::Gauge(recorder.register_gauge(key, &METADATA)),
        Figure::Durations(_) => Handle::Histogram(
            recorder.register_histogram(key, &METADATA),
            Histogram::default(),
        ),
    })
}

/// Records what has come since `before`, and remembers.
fn record(handle: &::metrics::Histogram, before: &mut Histogram, now: &Histogram) {
    for (value, count) in since(before, now) {
        handle.record_many(value, usize::try_from(count).unwrap_or(usize::MAX));
    }
    *before = now.clone();
}

/// One value for each bucket that has grown, with how often: in their buckets, and together as much as the sum has grown.
fn since(before: &Histogram, now: &Histogram) -> Vec<(f64, u64)> {
    let lower = |bucket: usize| match bucket.checked_sub(1).and_then(Histogram::upper_bound) {
        Some(bound) => bound.as_secs_f64(),
        None => 0.0,
    };
    let width = |bucket: usize| match Histogram::upper_bound(bucket) {
        Some(bound) => bound.as_secs_f64() - lower(bucket),
        // The last one has no end; as wide as it is far is as good as any.
        None => lower(bucket),
    };
    let new: Vec<(usize, u64)> = now
        .buckets
        .iter()
        .enumerate()
        .map(|(bucket, count)| {
            let known = before.buckets.get(bucket).copied().unwrap_or_default();
            (bucket, count.saturating_sub(known))
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    let sum = now
        .sum
        .checked_sub(before.sum)
        .unwrap_or(Duration::ZERO)
        .as_secs_f64();
    #[allow(
        clippy::cast_precision_loss,
        reason = "so many observations are not made"
    )]
    let total = |part: &dyn Fn(usize) -> f64| -> f64 {
        new.iter()
            .map(|(bucket, count)| part(*bucket) * *count as f64)
            .sum()
    };
    let share = ((sum - total(&lower)) / total(&width)).clamp(0.001, 0.999);
    new.into_iter()
        .map(|(bucket, count)| (lower(bucket) + share * width(bucket), count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(usize, u64)], sum: Duration) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.buckets.resize(Histogram::BUCKETS, 0);
        for (bucket, count) in buckets {
            histogram.buckets[*bucket] = *count;
        }
        histogram.sum = sum;
        histogram
    }

    #[test]
    fn values_lie_in_their_buckets_and_add_up() {
        let before = histogram(&[(0, 3), (4, 1)], Duration::from_micros(11));
        // Five more of 3 µs and two more of 12 µs.
        let now = histogram(
            &[(0, 3), (2, 5), (4, 3)],
            Duration::from_micros(11 + 15 + 24),
        );
        let new = since(&before, &now);
        assert_eq!(
            new.iter().map(|(_, count)| *count).collect::<Vec<_>>(),
            [5, 2]
        );
        assert!((2e-6..4e-6).contains(&new[0].0) && (8e-6..16e-6).contains(&new[1].0));
        let sum: f64 = new.iter().map(|(value, count)| value * *count as f64).sum();
        assert!((sum - 39e-6).abs() < 1e-9, "{sum}");
        assert!(since(&now, &now).is_empty());
    }
}
