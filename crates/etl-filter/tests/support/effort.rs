//! How much a property test does: a little in the ordinary tests, as much as is asked for in a long run.
//!
//! A test goes from seed to seed and says how many cases each gave. `cargo xtask fuzz` sets `ETL_FUZZ_CASES` or
//! `ETL_FUZZ_SECONDS` (how much), `ETL_FUZZ_SEED` (where to start) and `ETL_FUZZ_PROGRESS`, and reads the lines that begin
//! with `fuzz:`. A seed gives the same cases on every machine, so a failure is run again with its seed and one case.

use std::time::{Duration, Instant};

/// Checks one seed after the other until at least `cases` cases are done, or as much as the environment asks for.
pub fn run(cases: u64, mut check: impl FnMut(u64) -> u64) {
    let first = setting("ETL_FUZZ_SEED").unwrap_or(1);
    let time = setting("ETL_FUZZ_SECONDS").map(Duration::from_secs);
    let wanted = setting("ETL_FUZZ_CASES").unwrap_or(if time.is_some() { u64::MAX } else { cases });
    let progress = setting("ETL_FUZZ_PROGRESS").is_some();
    let start = Instant::now();
    let mut told = start;
    let (mut done, mut seed) = (0, first);
    while done < wanted && time.is_none_or(|time| start.elapsed() < time) {
        let culprit = Culprit(seed);
        done += check(seed);
        drop(culprit);
        seed += 1;
        if progress && told.elapsed() > Duration::from_millis(200) {
            told = Instant::now();
            println!("fuzz: done {done}");
        }
    }
    println!("fuzz: done {done}, seeds {first} to {}", seed - 1);
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.replace('_', "").parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name} is a whole number, not `{text}`"),
    }
}

/// Names the seed whose check panics.
struct Culprit(u64);

impl Drop for Culprit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("fuzz: seed {} fails", self.0);
        }
    }
}
