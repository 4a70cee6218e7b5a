//! Keeps what is recorded through the `metrics` crate, and writes it in the text format of Prometheus.
//!
//! It keeps a series as long as somebody holds its handle, so that pipelines and modules that a new configuration does not have any more
//! disappear. Histograms have the engine's own buckets, and take a thousand equal values as cheaply as one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use etl_orchestrator::Histogram as Buckets;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
    SharedString, Unit,
};

/// Keeps what is recorded. Clones share it.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    help: BTreeMap<String, String>,
    /// By name, and by labels as they are written.
    families: BTreeMap<String, Family>,
}

enum Family {
    Counters(BTreeMap<String, Weak<Count>>),
    Gauges(BTreeMap<String, Weak<Level>>),
    Histograms(BTreeMap<String, Weak<Durations>>),
}

#[derive(Default)]
struct Count(AtomicU64);

/// The bits of an `f64`.
#[derive(Default)]
struct Level(AtomicU64);

#[derive(Default)]
struct Durations {
    buckets: [AtomicU64; Buckets::BUCKETS],
    sum: Level,
}

impl CounterFn for Count {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

impl Level {
    fn change(&self, change: impl Fn(f64) -> f64) {
        let next = |bits| Some(change(f64::from_bits(bits)).to_bits());
        // It answers with an error only where the change is none.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl GaugeFn for Level {
    fn increment(&self, by: f64) {
        self.change(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| value - by);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl HistogramFn for Durations {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        let bucket = (0..Buckets::BUCKETS)
            .find(|bucket| bound(*bucket).is_none_or(|bound| value <= bound))
            .unwrap_or(Buckets::BUCKETS - 1);
        self.buckets[bucket].fetch_add(count as u64, Ordering::Relaxed);
        self.sum.change(|sum| sum + value * count as f64);
    }
}

/// The upper bound of a bucket in seconds.
fn bound(bucket: usize) -> Option<f64> {
    Buckets::upper_bound(bucket).map(|bound| bound.as_secs_f64())
}

impl Recorder {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, key: &KeyName, help: &SharedString) {
        self.kept()
            .help
            .insert(key.as_str().to_owned(), help.to_string());
    }

    /// Everything that somebody still holds, in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut kept = self.kept();
        let Kept { help, families } = &mut *kept;
        for (name, family) in families {
            let mut series = String::new();
            let kind = match family {
                Family::Counters(counters) => {
                    held(counters, |labels, count| {
                        let value = count.0.load(Ordering::Relaxed);
                        line(&mut series, name, "", labels, None, value);
                    });
                    "counter"
                }
                Family::Gauges(gauges) => {
                    held(gauges, |labels, level| {
                        line(&mut series, name, "", labels, None, level.get());
                    });
                    "gauge"
                }
                Family::Histograms(histograms) => {
                    held(histograms, |labels, durations| {
                        durations.write(&mut series, name, labels);
                    });
                    "histogram"
                }
            };
            if !series.is_empty() {
                if let Some(help) = help.get(name) {
                    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                    let _ = writeln!(text, "# HELP {name} {help}");
                }
                let _ = writeln!(text, "# TYPE {name} {kind}");
                text.push_str(&series);
            }
        }
        text
    }
}

impl Durations {
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        for (bucket, observed) in self.buckets.iter().enumerate() {
            count += observed.load(Ordering::Relaxed);
            let bound = bound(bucket).map_or("+Inf".to_owned(), |bound| bound.to_string());
            line(text, name, "_bucket", labels, Some(&bound), count);
        }
        line(text, name, "_sum", labels, None, self.sum.get());
        line(text, name, "_count", labels, None, count);
    }
}

/// Shows what is still held, and forgets the rest.
fn held<T>(series: &mut BTreeMap<String, Weak<T>>, mut show: impl FnMut(&str, &T)) {
    series.retain(|labels, series| match series.upgrade() {
        Some(series) => {
            show(labels, &series);
            true
        }
        None => false,
    });
}

/// One line. Writing to a string does not fail.
fn line(
    text: &mut String,
    name: &str,
    ending: &str,
    labels: &str,
    bound: Option<&str>,
    value: impl std::fmt::Display,
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let _ = match bound {
        Some(bound) => writeln!(
            text,
            "{name}{ending}{{{labels}{comma}le=\"{bound}\"}} {value}"
        ),
        None if labels.is_empty() => writeln!(text, "{name}{ending} {value}"),
        None => writeln!(text, "{name}{ending}{{{labels}}} {value}"),
    };
}

/// The labels as they stand between the braces.
fn labels(key: &Key) -> String {
    let mut text = String::new();
    for label in key.labels() {
        let comma = if text.is_empty() { "" } else { "," };
        let value = label
            .value()
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(text, "{comma}{}=\"{value}\"", label.key());
    }
    text
}

/// The series of these labels: the one that is held, or a new one.
fn series<T: Default>(known: &mut BTreeMap<String, Weak<T>>, key: &Key) -> Arc<T> {
    let labels = labels(key);
    match known.get(&labels).and_then(Weak::upgrade) {
        Some(series) => series,
        None => {
            let series = Arc::default();
            known.insert(labels, Arc::downgrade(&series));
            series
        }
    }
}

macro_rules! register {
    ($self:ident, $key:ident, $family:ident, $handle:ident) => {{
        let mut kept = $self.kept();
        let family = kept
            .families
            .entry($key.name().to_owned())
            .or_insert_with(|| Family::$family(BTreeMap::new()));
        match family {
            Family::$family(known) => $handle::from_arc(series(known, $key)),
            // The name is taken by another kind, which is a mistake of whoever registers.
            _ => $handle::noop(),
        }
    }};
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        register!(self, key, Counters, Counter)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        register!(self, key, Gauges, Gauge)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        register!(self, key, Histograms, Histogram)
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, histogram, with_local_recorder};

    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let recorder = Recorder::default();
        with_local_recorder(&recorder, || {
            metrics::describe_counter!("a_total", "what it\ncounts");
            let count = counter!("a_total", "of" => "say \"hi\" \\ \n");
            count.absolute(3);
            count.absolute(2);
            let level = gauge!("b");
            level.set(0.5);
            let time = histogram!("c_seconds", "of" => "x");
            time.record_many(3e-6, 1_000_000_000);
            time.record(1e9);
            let text = recorder.render();
            for part in [
                "# HELP a_total what it\\ncounts\n# TYPE a_total counter\na_total{of=\"say \\\"hi\\\" \\\\ \\n\"} 3\n",
                "# TYPE b gauge\nb 0.5\n",
                "c_seconds_bucket{of=\"x\",le=\"0.000002\"} 0\nc_seconds_bucket{of=\"x\",le=\"0.000004\"} 1000000000\n",
                "c_seconds_bucket{of=\"x\",le=\"+Inf\"} 1000000001\n",
                "c_seconds_count{of=\"x\"} 1000000001\n",
            ] {
                assert!(text.contains(part), "no {part:?} in\n{text}");
            }
        });
        // Nobody holds the handles any more.
        assert_eq!(recorder.render(), "");
    }
}
