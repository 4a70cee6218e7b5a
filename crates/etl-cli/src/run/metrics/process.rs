//! What the process takes of the machine: processor time and memory, from `/proc`.

use std::fs;
use std::sync::OnceLock;

use metrics::{Counter, Gauge, counter, gauge};

/// Ticks a second of the times in `/proc`, which is the same on every Linux that people run.
const TICKS: f64 = 100.0;

struct Handles {
    cpu: Counter,
    memory: Gauge,
}

/// Hands the present figures to the recorder. Where there is no `/proc` there are none.
///
/// The recorder takes whole numbers for counters, so processor time is told in whole seconds.
pub fn publish() {
    static HANDLES: OnceLock<Handles> = OnceLock::new();
    let handles = HANDLES.get_or_init(|| Handles {
        cpu: counter!("process_cpu_seconds_total"),
        memory: gauge!("process_resident_memory_bytes"),
    });
    if let Some(seconds) = cpu_seconds() {
        handles.cpu.absolute(seconds as u64);
    }
    if let Some(bytes) = resident_bytes() {
        handles.memory.set(bytes as f64);
    }
}

/// The present figures, for those who ask for them at once.
pub fn figures() -> etl_admin::Process {
    etl_admin::Process {
        resident_memory_bytes: resident_bytes(),
        cpu_seconds: cpu_seconds(),
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may hold anything; what comes after it does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn this_process_takes_something() {
        let before = cpu_seconds().expect("a time");
        let until = Instant::now() + Duration::from_secs(30);
        while cpu_seconds().expect("a time") < before + 0.02 {
            assert!(Instant::now() < until, "it works and no time is counted");
        }
        assert!(resident_bytes().expect("bytes") > 100_000);
    }
}
