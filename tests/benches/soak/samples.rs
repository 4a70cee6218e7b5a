//! What the soak sees of the process over time, and what it makes of it.

use std::time::{Duration, Instant};

use etl_tests::bench::statistics::quantile;
use serde_json::{Value, json};

/// One look at the process.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    pub records: u64,
    pub rss_bytes: f64,
    pub files: f64,
    pub instances: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub slowest_us: f64,
    /// The longest time in which nothing came back.
    pub quiet: Duration,
    /// Nanoseconds of a piece of work that is always the same: how fast the machine is just then.
    pub yardstick_ns: f64,
}

impl Sample {
    /// Of now.
    pub fn take(
        start: Instant,
        records: u64,
        instances: usize,
        latencies: &[f64],
        quiet: Duration,
    ) -> Self {
        Self {
            at: start.elapsed().as_secs_f64(),
            records,
            rss_bytes: resident_bytes(),
            files: open_files(),
            instances: instances as f64,
            p50_us: quantile(latencies, 0.5),
            p99_us: quantile(latencies, 0.99),
            slowest_us: quantile(latencies, 1.0),
            quiet,
            yardstick_ns: yardstick(),
        }
    }

    /// For a file.
    pub fn json(&self) -> Value {
        json!({
            "seconds": self.at, "records": self.records, "rss_bytes": self.rss_bytes, "open_files": self.files, "instances": self.instances,
            "p50_us": self.p50_us, "p99_us": self.p99_us, "slowest_us": self.slowest_us, "longest_quiet_ms": self.quiet.as_secs_f64() * 1e3, "yardstick_ns": self.yardstick_ns,
        })
    }
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kibibytes.map_or(f64::NAN, |kibibytes| kibibytes * 1024.0)
}

fn open_files() -> f64 {
    std::fs::read_dir("/proc/self/fd").map_or(f64::NAN, |files| files.count() as f64)
}

/// Some milliseconds of arithmetic, waiting for a processor included.
fn yardstick() -> f64 {
    let start = Instant::now();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..2_000_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
    }
    std::hint::black_box(random);
    start.elapsed().as_secs_f64() * 1e9
}

/// A statement on the whole run, and whether it holds.
pub struct Finding {
    pub holds: bool,
    pub text: String,
}

/// The part of the run that is warming up.
const WARM_UP: f64 = 0.2;

/// Memory that may come and go: instances, histories, what the allocator keeps.
const SLACK_BYTES: f64 = 16.0 * 1024.0 * 1024.0;

/// The longest time in which nothing at all may come back: guests that spin hold one lane each, for two or three times their 100 ms,
/// and seldom both. Anything that stops all lanes together is ours.
const MOST_QUIET: Duration = Duration::from_millis(500);

/// The longest time that a batch without poison may take: it may stand behind one that spins, and behind what that one held up.
const SLOWEST: Duration = Duration::from_secs(1);

/// What the samples of a run say: memory and files stay, latencies do not drift, and nothing stalls.
pub fn judge(samples: &[Sample], time: Duration) -> Vec<Finding> {
    let warm: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.at >= time.as_secs_f64() * WARM_UP)
        .collect();
    if warm.len() < 8 {
        return vec![Finding {
            holds: false,
            text: format!("{} samples are too few to judge by", warm.len()),
        }];
    }
    let quarter = warm.len() / 4;
    let (first, last) = (&warm[..quarter], &warm[warm.len() - quarter..]);
    let median = |part: &[&Sample], of: fn(&Sample) -> f64| {
        // A second in which no batch came has no latency.
        let values: Vec<f64> = part
            .iter()
            .map(|sample| of(sample))
            .filter(|value| !value.is_nan())
            .collect();
        quantile(&values, 0.5)
    };

    let points: Vec<(f64, f64)> = warm
        .iter()
        .map(|sample| (sample.at, sample.rss_bytes))
        .collect();
    let growth = slope(&points) * (warm[warm.len() - 1].at - warm[0].at);
    let resident = median(&warm, |sample| sample.rss_bytes);
    let most = SLACK_BYTES.max(resident * 0.05);
    let mut findings = vec![Finding {
        holds: growth <= most,
        text: format!(
            "memory: {:.1} MiB resident, {:+.1} MiB over the run after warm-up (at most {:+.1})",
            mebibytes(resident),
            mebibytes(growth),
            mebibytes(most)
        ),
    }];
    let (before, after) = (
        median(first, |sample| sample.files),
        median(last, |sample| sample.files),
    );
    findings.push(Finding {
        holds: after <= before + 2.0,
        text: format!("open files: {before:.0}, then {after:.0}"),
    });
    // A machine that has become slower is no drift of ours.
    let machine =
        median(last, |sample| sample.yardstick_ns) / median(first, |sample| sample.yardstick_ns);
    type Of = fn(&Sample) -> f64;
    let latencies: [(&str, Of, f64); 2] = [
        ("p50", |sample| sample.p50_us, 1.5),
        ("p99", |sample| sample.p99_us, 2.0),
    ];
    for (name, of, most) in latencies {
        let (before, after) = (median(first, of), median(last, of));
        let drift = after / before / machine.max(1.0);
        findings.push(Finding {
            holds: drift <= most,
            text: format!(
                "latency of a batch, {name}: {before:.0} µs in the first quarter, {after:.0} µs in the last; \
                 {drift:.2} times, the machine's own change ({machine:.2}) taken off where it slowed (at most {most:.1})"
            ),
        });
    }
    let quiet = warm.iter().map(|sample| sample.quiet).max();
    let quiet = quiet.unwrap_or_default();
    findings.push(Finding {
        holds: quiet <= MOST_QUIET,
        text: format!(
            "stalls: nothing came back for {:.0} ms at the longest (at most {:.0})",
            quiet.as_secs_f64() * 1e3,
            MOST_QUIET.as_secs_f64() * 1e3
        ),
    });
    let slowest = warm.iter().map(|sample| sample.slowest_us);
    let slowest = slowest.filter(|us| !us.is_nan()).fold(0.0, f64::max) / 1e3;
    findings.push(Finding {
        holds: slowest <= SLOWEST.as_secs_f64() * 1e3,
        text: format!(
            "the slowest batch without poison: {slowest:.0} ms (at most {:.0})",
            SLOWEST.as_secs_f64() * 1e3
        ),
    });
    findings
}

pub fn mebibytes(bytes: f64) -> f64 {
    bytes / 1024.0 / 1024.0
}

/// The slope of the line that is nearest to the points by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let (x, y) = (x / count, y / count);
    let (mut above, mut below) = (0.0, 0.0);
    for point in points {
        above += (point.0 - x) * (point.1 - y);
        below += (point.0 - x) * (point.0 - x);
    }
    above / below
}
